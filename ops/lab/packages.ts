import { execFileSync } from 'node:child_process';

/**
 * Installs Debian packages that a lab or a benchmark wants and the product does not, as root and without questions. Throws when
 * apt-get is not here or refuses.
 */
export function installPackages(packages: readonly string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const aptGet = (...argv: string[]) =>
    execFileSync('apt-get', argv, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  process.stderr.write(`installing ${packages.join(' ')}\n`);
  aptGet('update', '-qq');
  aptGet('install', '-y', '-qq', '--no-install-recommends', ...packages);
}
