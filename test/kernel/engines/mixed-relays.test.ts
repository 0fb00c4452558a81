import t from 'tap';
import { runCompliance } from './compliance.ts';

t.setTimeout(420_000);
t.test('native entry, TypeScript exit', { timeout: 200_000 }, (t) =>
  runCompliance(t, 'native', 'typescript'),
);
t.test('TypeScript entry, native exit', { timeout: 200_000 }, (t) =>
  runCompliance(t, 'typescript', 'native'),
);
