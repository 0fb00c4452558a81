// `relay.mjs SOCKET HOST PORT`: joins a unix socket to a TCP port as seen from this network namespace. A unix socket is
// a file, so a test outside reaches the host inside without touching any network.
// Plain JavaScript: it starts in a fraction of the time a TypeScript loader takes.
import { createConnection, createServer } from 'node:net';

const [path, host, port] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (near) => {
  const far = createConnection({ host, port: Number(port), allowHalfOpen: true });
  near.on('error', () => far.destroy());
  // A refused connection shows as a reset: the nearest thing to it that a unix socket can say.
  far.on('error', () => near.destroy());
  near.on('close', () => far.destroy());
  near.pipe(far).pipe(near);
});
server.listen(path);
