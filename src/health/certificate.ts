import { X509Certificate } from 'node:crypto';
import type { CertificateFacts } from './facts.ts';

/** What the conditions judge of a certificate (PEM; the first of a chain). Undefined for what is none. */
export function certificateFacts(pem: Buffer): CertificateFacts | undefined {
  try {
    const certificate = new X509Certificate(pem);
    return {
      expiresAt: Date.parse(certificate.validTo),
      selfSigned: certificate.subject === certificate.issuer && certificate.verify(certificate.publicKey),
    };
  } catch {
    return undefined;
  }
}
