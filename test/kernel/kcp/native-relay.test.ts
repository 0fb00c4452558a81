import t from 'tap';
import { runCompliance } from '../engines/compliance.ts';

t.setTimeout(220_000);
t.test('the native relay over KCP', { timeout: 200_000 }, (t) => runCompliance(t, 'native', 'native', 'kcp'));
