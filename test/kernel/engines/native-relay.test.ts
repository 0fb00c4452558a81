import t from 'tap';
import { runCompliance } from './compliance.ts';

t.setTimeout(220_000);
t.test('the native relay', { timeout: 200_000 }, (t) => runCompliance(t, 'native', 'native'));
