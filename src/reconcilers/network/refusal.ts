import { KernelError, type Rtnetlink } from '../../kernel/contract.ts';

/** The same refusal, with the device by its name: an operator knows no index. */
export async function explainDevice(error: unknown, rt: Pick<Rtnetlink, 'links'>): Promise<unknown> {
  if (!(error instanceof KernelError)) return error;
  const [numbered, index] = /device (\d+)/.exec(error.subject) ?? [];
  if (numbered === undefined) return error;
  const links = await rt.links().catch(() => []);
  const name = links.find((link) => link.index === Number(index))?.name;
  if (name === undefined) return error;
  const text = error.message
    .slice(error.subject.length + ': '.length)
    .replace(/ \([A-Z0-9]+(?: at [^()]*)?\)$/, '');
  return new KernelError(
    error.code,
    error.errno,
    error.subject.replace(numbered, `device ${name}`),
    text,
    error.path,
  );
}
