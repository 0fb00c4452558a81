/** Room for one record's service: its place in the list of services, u32 little-endian. */
const SERVICE_BYTES = 4;

/** One route that comes, or (`serviceId` null) goes. */
export interface PackedChange {
  /** Source and destination, those the class looks at, as lower-case hex. */
  readonly key: string;
  readonly serviceId: string | null;
}

/**
 * The routes of one class as the native threads take them: records of key and service, sorted by key. 100,000 objects would
 * be as many megabytes as these are hundreds of kilobytes, and a change of one would walk them all. Immutable: a change
 * makes another one, by copying.
 */
export class PackedRoutes {
  /** Bytes of a key: 4 or 16 a side. */
  readonly keyLength: number;
  /** What the records' numbers stand for. */
  readonly services: readonly string[];
  readonly records: Uint8Array;

  constructor(keyLength: number, services: readonly string[] = [], records: Uint8Array = new Uint8Array(0)) {
    this.keyLength = keyLength;
    this.services = services;
    this.records = records;
  }

  get length(): number {
    return this.records.length / (this.keyLength + SERVICE_BYTES);
  }

  /** With the changes made; of several for one key the last counts. Throws RangeError for a key of another length. */
  with(changes: readonly PackedChange[]): PackedRoutes {
    if (changes.length === 0) return this;
    const size = this.keyLength + SERVICE_BYTES;
    const services = [...this.services];
    const numbers = new Map(services.map((id, index) => [id, index]));
    const latest = new Map(changes.map((change) => [change.key, change.serviceId]));
    const old = Buffer.from(this.records.buffer, this.records.byteOffset, this.records.length);
    const out = Buffer.allocUnsafeSlow(old.length + latest.size * size);
    let read = 0;
    let written = 0;
    for (const key of [...latest.keys()].sort()) {
      const bytes = Buffer.from(key, 'hex');
      if (bytes.length !== this.keyLength)
        throw new RangeError(`not a key of ${this.keyLength} bytes: ${key}`);
      const at = this.#find(old, bytes, read);
      written += old.copy(out, written, read, at);
      const isHeld = at < old.length && old.compare(bytes, 0, bytes.length, at, at + bytes.length) === 0;
      read = isHeld ? at + size : at;
      const serviceId = latest.get(key) ?? null;
      if (serviceId === null) continue;
      const number = numbers.get(serviceId) ?? services.push(serviceId) - 1;
      numbers.set(serviceId, number);
      bytes.copy(out, written);
      out.writeUInt32LE(number, written + bytes.length);
      written += size;
    }
    written += old.copy(out, written, read);
    return new PackedRoutes(this.keyLength, services, out.subarray(0, written));
  }

  /** Writes the records with other numbers for their services. */
  writeTo(out: Buffer, numberOf: (serviceId: string) => number): void {
    const numbers = Uint32Array.from(this.services, numberOf);
    out.set(this.records);
    if (numbers.every((number, index) => number === index)) return;
    for (let at = this.keyLength; at < out.length; at += this.keyLength + SERVICE_BYTES)
      out.writeUInt32LE(numbers[out.readUInt32LE(at)] ?? 0, at);
  }

  /** Offset of the first record whose key is not less, from `from` on. */
  #find(records: Buffer, key: Buffer, from: number): number {
    const size = this.keyLength + SERVICE_BYTES;
    let low = from / size;
    let high = records.length / size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * size;
      if (records.compare(key, 0, key.length, at, at + key.length) < 0) low = middle + 1;
      else high = middle;
    }
    return low * size;
  }
}
