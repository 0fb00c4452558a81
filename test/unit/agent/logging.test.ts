import fc from 'fast-check';
import t from 'tap';
import { createLogger, toLogfmt } from '../../../src/logging.ts';

const capture = (format: 'logfmt' | 'json', level: 'info' | 'debug' = 'info') => {
  const lines: string[] = [];
  return { lines, logger: createLogger({ level, format, stream: { write: (line) => lines.push(line) } }) };
};

t.test('the greps of the troubleshooting page find their lines', async (t) => {
  const { lines, logger } = capture('logfmt');
  logger.child({ reconciler: 'firewall' }).warn({ rules: 3, took_ms: 1.5 }, 'applied "inet arctic"');
  t.match(
    lines[0],
    /^time=\S+ level=warn reconciler=firewall msg="applied \\"inet arctic\\"" rules=3 took_ms=1\.5\n$/,
  );
  logger.debug('not at this level');
  t.equal(lines.length, 1);
});

t.test('secrets do not get into a line', async (t) => {
  const secret = `sec_${'a'.repeat(43)}`;
  const token = 'eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJjbGlfMSJ9.c2lnbmF0dXJl';
  for (const format of ['logfmt', 'json'] as const) {
    const { lines, logger } = capture(format);
    logger.info(
      { client_secret: 'abc123', request: { authorization: 'opaque1', 'x-arctic-recovery': 'opaque2' } },
      'x',
    );
    logger.error({ err: new Error(`refused ${secret}`) }, `got ${token} and Basic ${'Zm9vOmJhcg=='}`);
    t.notMatch(lines.join(''), /abc123|opaque|aaaaaaa|c2lnbmF0dXJl|Zm9vOmJhcg/, format);
    t.match(lines.join(''), /\[redacted\]/);
  }
});

t.test('a line stays a line, and says what was logged', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (text, key) => {
      const line = toLogfmt(JSON.stringify({ level: 'info', msg: text, [`k${key}`]: text }));
      const message = /^level=info msg=("(?:[^"\\]|\\.)*"|[^\s"]*)/u.exec(line)?.[1] ?? '';
      const read = message.startsWith('"') ? JSON.parse(message) : message;
      return line.indexOf('\n') === line.length - 1 && read === text;
    }),
  );
});

t.test('what is not JSON is logged all the same', async (t) => {
  t.equal(toLogfmt('not json\n'), 'level=error msg="not json"\n');
});
