/** A DNS server of one process: any name has the address 192.0.2.53, and a TXT record as long as its first label says. */
import { createSocket } from 'node:dgram';

const TXT = 16;
const HEADER = 12;
const EDNS = Buffer.from([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);

/** Where the question ends: after the name, its type and class. */
function endOfQuestion(message: Buffer): number {
  let at = HEADER;
  while ((message[at] ?? 0) !== 0) at += (message[at] ?? 0) + 1;
  return at + 5;
}

function answer(question: Buffer): Buffer {
  const end = endOfQuestion(question);
  const type = question.readUInt16BE(end - 4);
  const label = question.subarray(HEADER + 1, HEADER + 1 + (question[HEADER] ?? 0)).toString();
  const wanted = Math.min(4_000, Number(label) || 1);
  const strings: Buffer[] = [];
  for (let left = wanted; left > 0; left -= 255)
    strings.push(Buffer.from([Math.min(left, 255)]), Buffer.alloc(Math.min(left, 255), 'x'));
  const data = type === TXT ? Buffer.concat(strings) : Buffer.from([192, 0, 2, 53]);
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc000 | HEADER, 0);
  record.writeUInt16BE(type, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(60, 6);
  record.writeUInt16BE(data.length, 10);
  const header = Buffer.from(question.subarray(0, HEADER));
  // A reply, authoritative, recursion as asked; one question, one answer, one EDNS record.
  header.writeUInt16BE(0x8400 | (question.readUInt16BE(2) & 0x0100), 2);
  for (const [offset, count] of [
    [4, 1],
    [6, 1],
    [8, 0],
    [10, 1],
  ] as const)
    header.writeUInt16BE(count, offset);
  return Buffer.concat([header, question.subarray(HEADER, end), record, data, EDNS]);
}

const socket = createSocket({ type: 'udp6', ipv6Only: false });
socket.on('message', (question, { port, address }) => {
  if (question.length > HEADER) socket.send(answer(question), port, address);
});
socket.bind(53, '::', () => console.log('ready'));
