import type { EventData } from '../events/catalogue.ts';
import { sha256 } from './digest.ts';
import type { LicenseDocumentView } from './views.ts';

type Document = EventData['license.installed']['license'];

/** The license in force: the latest issued of those installed. Whether it verifies was decided before it was appended. */
export class License {
  #current: Document | undefined;

  view(): LicenseDocumentView | undefined {
    return this.#current as LicenseDocumentView | undefined;
  }

  apply(license: Document): void {
    if (this.#current === undefined || compare(license, this.#current) > 0) this.#current = license;
  }

  digest(): string {
    const l = this.#current;
    return sha256(JSON.stringify(l ? [l.license_id, l.issued_at, l.signature] : null));
  }

  dump(): unknown {
    return this.#current ?? null;
  }

  load(from: unknown): void {
    this.#current = (from as Document | null) ?? undefined;
  }
}

/** By time of issue, then id; the signature decides between documents that should not both exist. */
const compare = (a: Document, b: Document): number =>
  Date.parse(a.issued_at) - Date.parse(b.issued_at) ||
  compareText(a.license_id, b.license_id) ||
  compareText(a.signature, b.signature);
const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
