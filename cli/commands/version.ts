import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';

export const version: Run = async (context) => {
  const platform = `${process.platform} ${process.arch}`;
  await context.output.either(
    { version: context.version, node: process.version, platform },
    () => `arctic ${context.version} (Node.js ${process.version}, ${platform})\n`,
  );
  return EXIT.success;
};
