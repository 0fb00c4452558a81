/**
 * What stands on the path, or somewhere on the network, and means no good. Plain JavaScript: it runs alone inside a namespace.
 *
 *   relay PORT HOST HOSTPORT FILE     passes connections on and keeps what the client side says, a JSON line a piece
 *   drip HOST HOSTPORT COUNT SECONDS  that many connections which send a byte a second; prints what became of them
 */
import { appendFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const [mode, ...options] = process.argv.slice(2);

function relay(port, host, hostPort, file) {
  let connections = 0;
  createServer((client) => {
    connections += 1;
    const connection = connections;
    const target = connect(hostPort, host);
    client.on('data', (piece) => {
      appendFileSync(file, `${JSON.stringify({ connection, bytes: piece.toString('base64') })}\n`);
      target.write(piece);
    });
    target.on('data', (piece) => client.write(piece));
    for (const [one, other] of [
      [client, target],
      [target, client],
    ]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  }).listen(port, '::', () => console.log('listening'));
}

const BEGINNINGS = [
  // In the middle of the headers; in the middle of a body of each kind that is read before anybody is known.
  'GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ',
  'POST /v1/peer/gossip HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 4000000\r\n\r\n',
  'POST /v1/peer/handshake HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n',
  'POST /v1/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 16000\r\n\r\n',
];

function drip(host, port, count, seconds) {
  const fates = { opened: 0, closed: 0, answered: 0 };
  const open = new Set();
  for (let index = 0; index < count; index += 1) {
    const socket = connect(port, host);
    socket.on('connect', () => {
      fates.opened += 1;
      open.add(socket);
      socket.write(BEGINNINGS[index % BEGINNINGS.length]);
    });
    socket.once('data', () => {
      fates.answered += 1;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (open.delete(socket)) fates.closed += 1;
    });
  }
  const timer = setInterval(() => {
    for (const socket of open) socket.write('a');
    console.log(JSON.stringify({ ...fates, open: open.size }));
  }, 1_000);
  setTimeout(() => {
    clearInterval(timer);
    console.log(JSON.stringify({ ...fates, open: open.size, end: true }));
    process.exit(0);
  }, seconds * 1_000);
}

if (mode === 'relay') relay(Number(options[0]), options[1], Number(options[2]), options[3]);
else drip(options[0], Number(options[1]), Number(options[2]), Number(options[3]));
