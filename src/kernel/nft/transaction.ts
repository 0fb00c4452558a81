/** Encodes an nf_tables transaction: BATCH_BEGIN with the generation it was computed from, the steps, BATCH_END. */
import type {
  NftChain,
  NftDataType,
  NftElement,
  NftRule,
  NftSeenType,
  NftSet,
  NftTable,
} from '../contract.ts';
import { KernelError } from '../contract.ts';
import type { Of, Schema } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_ECHO } from '../netlink/datagram.ts';
import { MESSAGE_HEADER, type NetlinkWriter } from '../netlink/writer.ts';
import { dataType, keyLayout } from './data-types.ts';
import {
  type ElementLayout,
  elementSize,
  elementsPerMessage,
  elementText,
  writeElements,
} from './elements.ts';
import {
  batchSchema,
  chainSchema,
  elementsSchema,
  familyNumber,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG,
  NFT_SET_MAP,
  NFT_TABLE_F_OWNER,
  NFT_TABLE_F_PERSIST,
  ruleSchema,
  setSchema,
  tableSchema,
} from './schema.ts';
import { encodeByteOrder, encodeComment } from './userdata.ts';

export type TableFamily = NftTable['family'];

/** NF_INET_* hook numbers. */
export const HOOKS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 5 } as const;
/** Default verdicts of a base chain. */
export const POLICIES = { drop: 0, accept: 1 } as const;

const headers = new Map<number, Buffer>();

/** struct nfgenmsg: family u8, version u8, res_id be16. One for all that ask for the same: it is only read. */
export function nfgenmsg(family: number, resourceId = 0): Buffer {
  const key = (family << 16) | resourceId;
  let header = headers.get(key);
  if (header === undefined) {
    header = Buffer.from([family, 0, resourceId >> 8, resourceId & 0xff]);
    headers.set(key, header);
  }
  return header;
}

export function messageType(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message;
}

export interface TransactionOptions {
  /** Refused with ESTALE when the ruleset is at another generation; undefined locks nothing. */
  readonly generation: number | undefined;
  /**
   * `end`: the kernel acknowledges BATCH_END (6.10 and later). `last`: it does not; the last step asks instead.
   * `rehearse`: no BATCH_END, so that the kernel checks everything and applies nothing, and each step asks.
   */
  readonly acknowledge: 'end' | 'last' | 'rehearse';
  /** The kernel answers with what it tells its listeners: of the first step, and the new generation. */
  readonly echo?: boolean;
}

/** Room for a step beside its elements: the longest rules take some 400 bytes. A datagram grows where it takes more. */
const BYTES_A_STEP = 512;

/** Encoded before the event loop gets its turn: some 8,000 elements. */
const BYTES_PER_TURN = 256 * 1024;

/** Steps are encoded when given, except that the one which shall acknowledge is only known at the end. */
export class Transaction {
  readonly #steps: ((datagram: Datagram, flags: number) => void)[] = [];
  readonly #family: TableFamily;
  readonly #table: string;
  #bytes = 0;
  #setId = 0;

  constructor(family: TableFamily, table: string) {
    this.#family = family;
    this.#table = table;
  }

  get isEmpty(): boolean {
    return this.#steps.length === 0;
  }

  #push<S extends Schema>(message: number, flags: number, subject: string, schema: S, value: Of<S>): void {
    const header = nfgenmsg(familyNumber(this.#family));
    this.#steps.push((datagram, more) => {
      datagram.add({ type: messageType(message), flags: flags | more, header, subject }, schema, value);
    });
  }

  /** What the elements take, encoded. */
  get elementBytes(): number {
    return this.#bytes;
  }

  /** Removes the table with everything in it, if it is there (NFT_MSG_DESTROYTABLE, 6.3 and later). */
  destroyTable(): void {
    this.#push(NFT_MSG.destroyTable, 0, `delete table ${this.#table}`, tableSchema, { name: this.#table });
  }

  deleteTable(): void {
    this.#push(NFT_MSG.deleteTable, 0, `delete table ${this.#table}`, tableSchema, { name: this.#table });
  }

  addTable(flags: { readonly owned?: boolean; readonly persist?: boolean }): void {
    const value =
      (flags.owned === true ? NFT_TABLE_F_OWNER : 0) | (flags.persist === true ? NFT_TABLE_F_PERSIST : 0);
    this.#push(NFT_MSG.newTable, NLM_F_CREATE, `add table ${this.#table}`, tableSchema, {
      name: this.#table,
      flags: value,
    });
  }

  addSet(set: NftSet): void {
    if (set.flags !== undefined && set.flags !== 0)
      throw unwritable(set.name, `set flags 0x${set.flags.toString(16)}`);
    const key = keyLayout(set.keyTypes.map((type) => writableType(set.name, type)));
    const data = set.dataType === undefined ? undefined : dataType(writableType(set.name, set.dataType));
    this.#setId += 1;
    this.#push(NFT_MSG.newSet, NLM_F_CREATE, `add set ${set.name}`, setSchema, {
      table: this.#table,
      name: set.name,
      flags: data === undefined ? 0 : NFT_SET_MAP,
      keyType: key.type,
      keyLength: key.length,
      dataType: data?.id,
      dataLength: data?.length,
      // Mandatory, and unique in the batch.
      id: this.#setId,
      userdata: encodeByteOrder(key.host, data?.host === true),
    });
  }

  deleteSet(set: string): void {
    this.#push(NFT_MSG.deleteSet, 0, `delete set ${set}`, setSchema, { table: this.#table, name: set });
  }

  addElements(set: NftSet, elements: readonly NftElement[]): void {
    this.#elements(NFT_MSG.newSetElements, NLM_F_CREATE, 'add', set.name, layoutOf(set), elements);
  }

  /** Only keys count. */
  deleteElements(set: NftSet, elements: readonly NftElement[]): void {
    const keys = elements.map((element) => ({ key: element.key }));
    const layout = { keyLength: layoutOf(set).keyLength, dataLength: undefined };
    this.#elements(NFT_MSG.deleteSetElements, 0, 'delete', set.name, layout, keys);
  }

  #elements(
    message: number,
    flags: number,
    verb: string,
    set: string,
    layout: ElementLayout,
    elements: readonly NftElement[],
  ): void {
    const header = nfgenmsg(familyNumber(this.#family));
    const table = this.#table;
    const most = elementsPerMessage(layout);
    for (let from = 0; from < elements.length; from += most) {
      const to = Math.min(from + most, elements.length);
      const subject = `${verb} elements ${from} to ${to - 1} of set ${set}`;
      this.#steps.push((datagram, more) => {
        let listAt = 0;
        const write = (writer: NetlinkWriter) => {
          const start = writer.length;
          writeText(writer, 1, table);
          writeText(writer, 2, set);
          listAt = writer.length - start + MESSAGE_HEADER + header.length;
          writeElements(writer, layout, set, elements, from, to);
        };
        datagram.addWritten(
          { type: messageType(message), flags: flags | more, header, subject },
          elementsSchema,
          write,
          (offset) => {
            const index = Math.floor((offset - listAt - 4) / elementSize(layout));
            const element = offset > listAt ? elements[from + index] : undefined;
            return element === undefined
              ? undefined
              : { subject: `${verb} element ${elementText(element)} of set ${set}`, path: undefined };
          },
        );
      });
    }
    this.#bytes += elements.length * elementSize(layout);
  }

  addChain(chain: NftChain): void {
    const { base } = chain;
    this.#push(NFT_MSG.newChain, NLM_F_CREATE, `add chain ${chain.name}`, chainSchema, {
      table: this.#table,
      name: chain.name,
      ...(base === undefined
        ? {}
        : {
            hook: { number: HOOKS[base.hook], priority: base.priority },
            policy: POLICIES[base.policy],
            type: base.type,
          }),
    });
  }

  addRules(chain: string, rules: readonly NftRule[]): void {
    rules.forEach((rule, index) => {
      const name = rule.comment === '' ? `${index}` : `${index} (${rule.comment})`;
      this.#push(
        NFT_MSG.newRule,
        NLM_F_CREATE | NLM_F_APPEND,
        `add rule ${name} to chain ${chain}`,
        ruleSchema,
        {
          table: this.#table,
          chain,
          expressions: rule.expressions.map(({ name, data }) => ({ name, data: data ?? {} })),
          userdata: encodeComment(rule.comment),
        },
      );
    });
  }

  flushChain(chain: string): void {
    this.#push(NFT_MSG.deleteRule, 0, `flush chain ${chain}`, ruleSchema, { table: this.#table, chain });
  }

  /** Everything a table holds, into one that does not exist yet. Chains first of all rules: rules may jump to any. */
  addContents(table: NftTable): void {
    for (const set of table.sets) this.addSet(set);
    for (const set of table.sets) this.addElements(set, set.elements);
    for (const chain of table.chains) this.addChain(chain);
    for (const chain of table.chains) this.addRules(chain.name, chain.rules);
  }

  /** The whole transaction as one datagram: the kernel takes a batch only in one send. */
  encode(options: TransactionOptions): Datagram {
    const datagram = this.#begin(options);
    for (let index = 0; index < this.#steps.length; index += 1) this.#step(datagram, index, options);
    return this.#end(datagram, options);
  }

  /** The same; a large one lets the event loop have its turn every few milliseconds. */
  encodeInTurns(options: TransactionOptions): Datagram | Promise<Datagram> {
    return this.#bytes < BYTES_PER_TURN ? this.encode(options) : this.#encodeInTurns(options);
  }

  async #encodeInTurns(options: TransactionOptions): Promise<Datagram> {
    const datagram = this.#begin(options);
    let turn = BYTES_PER_TURN;
    for (let index = 0; index < this.#steps.length; index += 1) {
      this.#step(datagram, index, options);
      if (datagram.length < turn) continue;
      turn = datagram.length + BYTES_PER_TURN;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return this.#end(datagram, options);
  }

  #begin(options: TransactionOptions): Datagram {
    const datagram = new Datagram(this.#bytes + (this.#steps.length + 1) * BYTES_A_STEP);
    const { generation } = options;
    datagram.addWritten(this.#boundary(NFNL_MSG_BATCH_BEGIN, 0), batchSchema, (writer) => {
      if (generation === undefined) return;
      const { buffer, offset } = writer.attribute(batchSchema.generation[0], 4);
      buffer.writeUInt32BE(generation, offset);
    });
    return datagram;
  }

  #step(datagram: Datagram, index: number, { acknowledge, echo }: TransactionOptions): void {
    const last = index === this.#steps.length - 1;
    const asks = acknowledge === 'rehearse' || (acknowledge === 'last' && last);
    // nf_tables_commit looks at the first message behind BATCH_BEGIN for whether to tell the sender of the generation.
    const echoes = echo === true && index === 0;
    this.#steps[index]?.(datagram, (asks ? NLM_F_ACK : 0) | (echoes ? NLM_F_ECHO : 0));
  }

  #end(datagram: Datagram, { acknowledge }: TransactionOptions): Datagram {
    if (acknowledge === 'rehearse') return datagram;
    const flags = acknowledge === 'end' ? NLM_F_ACK : 0;
    datagram.addWritten(this.#boundary(NFNL_MSG_BATCH_END, flags), batchSchema, () => undefined);
    return datagram;
  }

  /** Batch messages carry the subsystem in res_id and no family. */
  #boundary(type: number, flags: number) {
    const subject = `transaction on table ${this.#family} ${this.#table}`;
    return { type, flags, header: nfgenmsg(0, NFNL_SUBSYS_NFTABLES), subject };
  }
}

const layouts = new Map<string, ElementLayout>();

/** Made once for each kind of set: a change of one element comes alone, into cold caches. */
function layoutOf(set: NftSet): ElementLayout {
  const kind = `${set.keyTypes.join('.')}:${set.dataType ?? ''}`;
  const known = layouts.get(kind);
  if (known !== undefined) return known;
  const made = {
    keyLength: keyLayout(set.keyTypes.map((type) => writableType(set.name, type))).length,
    dataLength:
      set.dataType === undefined ? undefined : dataType(writableType(set.name, set.dataType)).length,
  };
  layouts.set(kind, made);
  return made;
}

function writableType(set: string, type: NftSeenType): NftDataType {
  if (type === 'verdict' || type.startsWith('type ')) throw unwritable(set, type);
  return type as NftDataType;
}

function unwritable(set: string, what: string): KernelError {
  return new KernelError('EINVAL', 22, `set ${set}`, `${what} is read from the kernel but never written`);
}

function writeText(writer: NetlinkWriter, id: number, text: string): void {
  const { buffer, offset } = writer.attribute(id, Buffer.byteLength(text) + 1);
  buffer.write(text, offset);
}
