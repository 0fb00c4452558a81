import t from 'tap';
import { runCompliance } from './compliance.ts';

t.setTimeout(220_000);
t.test('the TypeScript relay', { timeout: 200_000 }, (t) => runCompliance(t, 'typescript', 'typescript'));
