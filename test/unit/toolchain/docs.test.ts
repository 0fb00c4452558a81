/** The reference pages are those the tables give now, and every page that is linked exists. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { outdated } from '../../../ops/docs/generate.ts';
import { ROOT } from '../../../ops/lab/lab.ts';

t.test('generated pages are up to date', async (t) => {
  t.same(outdated(), [], 'run: node --import=tsx ops/docs/generate.ts');
});

t.test('links inside the documentation lead somewhere', async (t) => {
  const docs = join(ROOT, 'ops', 'docs');
  const pages = [
    join(ROOT, 'README.md'),
    ...readdirSync(docs)
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(docs, name)),
  ];
  const broken = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)]
      .map((match) => join(dirname(page), match[1] ?? ''))
      .filter((target) => !existsSync(target))
      .map((target) => `${page}: ${target}`),
  );
  t.same(broken, []);
});
