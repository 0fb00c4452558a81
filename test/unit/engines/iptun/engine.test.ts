import t from 'tap';
import { createTunnelEngine } from '../../../../src/engines/iptun/engine.ts';
import { loadAddon } from '../../../../src/native/addon.ts';

function makeEngine() {
  const nothing = (): void => {};
  return createTunnelEngine(
    { port: 51_840, ownMark: 1 },
    {
      addon: loadAddon(),
      rt: { links: async () => [], setLink: async () => undefined, deleteLink: async () => undefined },
      keys: { current: () => undefined, tunnelKeys: () => undefined, onRetired: () => nothing },
      clock: { monotonic: () => 0, after: () => nothing },
      logger: { info: nothing, warn: nothing },
    },
  );
}

t.test('an engine has one life: in another it would count under the same keys from 1 again', async (t) => {
  const engine = makeEngine();
  await t.rejects(engine.configure({ peers: [] }), /not running/);
  await engine.start();
  await t.rejects(engine.start(), /starts once/);
  await engine.stop();
  await t.rejects(engine.start(), /starts once/);
  await t.rejects(engine.configure({ peers: [] }), /not running/);
});
