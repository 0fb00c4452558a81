/**
 * Each errno at each message, also within a transaction: what was refused is done by a later pass, nothing is left half done,
 * and what could not be got over at once is told with the message it is about.
 */
import t from 'tap';
import { peer } from '../projections/history.ts';
import { ERRNOS, held, makeHost } from './fake-host.ts';

/** Every errno in a long run; otherwise one of each kind: of the request, of the moment, of the kernel's memory, of its age. */
const REFUSALS = ERRNOS.filter(
  ([code, errno]) =>
    errno > 0 &&
    code !== 'ESTALE' &&
    (process.env['ARCTIC_LONG'] === '1' || ['EPERM', 'EEXIST', 'ENOMEM', 'EOPNOTSUPP'].includes(code)),
);

/** A host that has come up, and one that was then given another route; with what each sent. */
async function undisturbed() {
  const host = await makeHost();
  await host.runner.reconcilers.start();
  await host.runner.clock.advance(1_000);
  const started = { sent: [...host.kernel.messages.sent], held: await held(host.kernel) };
  const before = host.kernel.messages.sent.length;
  addRoute(host);
  await host.runner.clock.advance(1_000);
  return {
    started,
    changed: { sent: host.kernel.messages.sent.slice(before), held: await held(host.kernel) },
  };
}

function addRoute({ history, service, append }: Awaited<ReturnType<typeof makeHost>>): void {
  history.route(peer(1), 18, service, null, '10.10.0.0/16' as never, { number: 18 });
  append();
}

/** What the log has of a refusal: the code in an error line. */
const told = (host: Awaited<ReturnType<typeof makeHost>>, code: string): boolean =>
  host.runner.lines.some(
    ({ level, fields }) => level === 'error' && JSON.stringify(fields).includes(`(${code}`),
  );

for (const moment of ['started', 'changed'] as const)
  t.test(`refused while it is ${moment}`, async (t) => {
    const quiet = (await undisturbed())[moment];
    t.ok(quiet.sent.length > (moment === 'started' ? 40 : 2), `${quiet.sent.length} messages`);
    let explained = 0;
    let runs = 0;
    for (const [skip, subject] of quiet.sent.entries())
      for (const [code, errno] of REFUSALS) {
        const name = `${code} at message ${skip + 1}, ${subject}`;
        const host = await makeHost();
        const { kernel, runner } = host;
        if (moment === 'started') kernel.messages.refuse(skip, errno);
        await runner.reconcilers.start();
        await runner.clock.advance(1_000);
        if (moment === 'changed') {
          kernel.messages.refuse(skip, errno);
          addRoute(host);
        }
        await runner.clock.advance(200_000);
        runs += 1;
        if ((await held(kernel)) !== quiet.held) t.equal(await held(kernel), quiet.held, name);
        const failed = runner.reconcilers.status().filter(({ state }) => state !== 'applied');
        if (failed.length > 0) t.strictSame(failed, [], name);
        if (told(host, code)) explained += 1;
        await runner.reconcilers.stop();
      }
    t.comment(
      `${runs} refusals, of which ${explained} were a line of the log; the others were got over at once`,
    );
    if (moment === 'started') t.ok(explained > runs / 3, `${explained} of ${runs} were told`);
  });
