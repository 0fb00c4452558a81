import { hostname } from 'node:os';
import { join } from 'node:path';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import type { Inspection } from '../commands/agent.ts';
import { tryTcp } from '../doctor/peer-facts.ts';
import { usageFailure } from '../failure.ts';
import type { Input } from '../input.ts';
import type { Answers, LicenseAnswer, ServiceAnswer } from './answers.ts';
import type { Asker } from './ask.ts';
import {
  checkLicense,
  cidrFault,
  customerFault,
  customerId,
  type Fault,
  formatAddress,
  insideFault,
  lacksRoot,
  nameFault,
  parseAddress,
} from './checks.ts';

export interface Peer {
  readonly id: string;
  readonly name: string;
}

/** What the questions are asked against. */
export interface World {
  readonly input: Input;
  /** Undefined: nobody is there to answer. */
  readonly asker: Asker | undefined;
  readonly interfaces: Inspection['interfaces'];
  /** PARENT_INTERFACE as it is set already. */
  readonly parentInterface: string | undefined;
  readonly configDir: string;
  readonly rootDirectory: string;
  readonly now: number;
}

const JOIN_PATIENCE_MS = 3_000;

const refuseFlag = (flag: string, fault: string): never => {
  throw usageFailure(`--${flag}: ${fault}`);
};

const missing = (what: string, flags: string): never => {
  throw usageFailure(`setup needs ${what}: give ${flags}, or run it on a terminal without --yes.`);
};

const trustDirectory = (world: World): string => join(world.configDir, 'trust-roots');

export const issuedLicense = (configDir: string): string => join(configDir, 'license.json');

/** Where the license comes from. A pasted one is kept in the configuration directory. */
export async function askLicense(world: World): Promise<LicenseAnswer> {
  const { input, asker } = world;
  const file = input.text('license-file');
  const customer = input.text('customer');
  const root = input.text('trust-root');
  const directory = input.text('license-root') ?? world.rootDirectory;
  if (file !== undefined && customer !== undefined)
    throw usageFailure('--license-file and --customer contradict each other; give one of them.');
  if (file !== undefined) {
    const { fault, rootFile } = checkLicense(file, trustDirectory(world), world.now, root);
    if (fault !== undefined) refuseFlag('license-file', fault);
    return { kind: 'file', path: file, ...(rootFile === undefined ? {} : { rootFile }) };
  }
  if (customer !== undefined) {
    const fault = customerFault(customer);
    if (fault !== undefined) refuseFlag('customer', fault);
    return { kind: 'issue', customer: customerId(customer), directory };
  }
  if (asker === undefined) return missing('a license', '--license-file FILE or --customer ID');

  const kind = await asker.choose('License', [
    { name: 'a license file on this host', value: 'file' },
    { name: 'paste a license', value: 'paste' },
    { name: 'make a license root here and issue one', value: 'issue' },
  ]);
  if (kind === 'issue') {
    const answer = await asker.text({
      message: 'Customer id (the name of your organisation)',
      check: customerFault,
    });
    return { kind: 'issue', customer: customerId(answer), directory };
  }
  return kind === 'file' ? askLicenseFile(world, asker) : askPasted(world, asker);
}

/** A license that nobody here vouches for is taken, and its root asked for. */
const fileFault = (world: World, path: string): Fault => {
  const { fault } = checkLicense(path, trustDirectory(world), world.now);
  return fault === undefined || lacksRoot(fault) ? undefined : fault;
};

async function askLicenseFile(world: World, asker: Asker): Promise<LicenseAnswer> {
  const path = await asker.text({
    message: 'License file',
    fallback: 'license.json',
    check: (text) => fileFault(world, text),
  });
  return withRoot(world, asker, path);
}

async function askPasted(world: World, asker: Asker): Promise<LicenseAnswer> {
  const path = issuedLicense(world.configDir);
  for (let message = 'Paste the license, then an empty line:'; ; ) {
    writePrivateFile(path, await asker.document(message), { replace: true });
    const fault = fileFault(world, path);
    if (fault === undefined) return withRoot(world, asker, path);
    message = `That is not it: ${fault.replace(`${path} is`, 'it is')} Paste the license, then an empty line:`;
  }
}

async function withRoot(world: World, asker: Asker, path: string): Promise<LicenseAnswer> {
  const found = checkLicense(path, trustDirectory(world), world.now);
  if (found.fault === undefined)
    return { kind: 'file', path, ...(found.rootFile === undefined ? {} : { rootFile: found.rootFile }) };
  const rootFile = await asker.text({
    message: 'Public root of its issuer (root.pub)',
    check: (text) => checkLicense(path, trustDirectory(world), world.now, text).fault,
  });
  return { kind: 'file', path, rootFile };
}

export async function askName({ input, asker }: World): Promise<string> {
  const given = input.text('name');
  if (given !== undefined) {
    const fault = nameFault(given);
    if (fault !== undefined) refuseFlag('name', fault);
    return given;
  }
  const fallback = hostname().split('.')[0] ?? 'peer';
  return asker?.text({ message: 'Name of this peer', fallback, check: nameFault }) ?? fallback;
}

export async function askParent({ input, asker, interfaces, parentInterface }: World): Promise<string> {
  const names = interfaces.map(({ name }) => name);
  const given = input.text('parent-interface') ?? parentInterface;
  if (given !== undefined) {
    if (!names.includes(given))
      refuseFlag(
        'parent-interface',
        `there is no interface ${given} that is up, only ${names.join(', ') || 'none'}.`,
      );
    return given;
  }
  const [first] = interfaces;
  if (first === undefined)
    throw usageFailure('this host has no interface that is up besides loopback; set one up first.');
  if (asker === undefined) return first.name;
  const choices = interfaces.map(({ name, addresses }) => ({
    name: addresses.length === 0 ? name : `${name}  ${addresses[0]}`,
    value: name,
  }));
  return asker.choose('Parent interface', choices, first.name);
}

async function memberFault(text: string): Promise<Fault> {
  const address = parseAddress(text);
  if (address === undefined) return 'HOST:PORT, such as 10.0.0.2:8080.';
  const silence = await tryTcp(address.host, address.port, JOIN_PATIENCE_MS);
  return silence === undefined ? undefined : `nothing answers there: ${silence}.`;
}

/** The member to join; null for the first peer. */
export async function askJoin({ input, asker }: World): Promise<string | null> {
  const given = input.text('join');
  if (given !== undefined) {
    const fault = await memberFault(given);
    if (fault !== undefined) refuseFlag('join', fault);
    return formatAddress(parseAddress(given) ?? { host: given, port: 0 });
  }
  if (asker === undefined || input.flag('first')) return null;
  const choice = await asker.choose('Cluster', [
    { name: 'a new one: this is its first peer', value: 'first' },
    { name: 'join an existing one', value: 'join' },
  ]);
  if (choice === 'first') return null;
  const member = await asker.text({ message: 'Address of a member (HOST:PORT)', check: memberFault });
  return formatAddress(parseAddress(member) ?? { host: member, port: 0 });
}

/** The first service; null for none. It starts here and needs another peer to end at. */
export async function askService(
  { input, asker }: World,
  ownName: string,
  peers: readonly Peer[],
): Promise<ServiceAnswer | null> {
  const cidr = input.text('dest-cidr');
  const wanted = input.text('target-peer');
  const [only] = peers;
  if (cidr === undefined && (asker === undefined || input.toggle('service') === false)) return null;
  if (only === undefined) {
    if (cidr !== undefined) refuseFlag('dest-cidr', 'a service needs another peer; use --join.');
    return null;
  }
  if (cidr === undefined && !(await asker?.confirm('Make a first service from this peer now?', true)))
    return null;

  let target = peers.length === 1 ? only : undefined;
  if (wanted !== undefined) {
    target = peers.find(({ id, name }) => id === wanted || name === wanted);
    if (target === undefined)
      refuseFlag(
        'target-peer',
        `there is no peer ${wanted}, only ${peers.map(({ name }) => name).join(', ')}.`,
      );
  }
  if (target === undefined && asker === undefined)
    missing('the peer the service goes to', '--target-peer PEER');
  if (target === undefined && asker !== undefined) {
    const id = await asker.choose(
      'The service goes to',
      peers.map(({ id: value, name }) => ({ name, value })),
    );
    target = peers.find((peer) => peer.id === id);
  }
  const { id, name } = target ?? only;
  if (cidr !== undefined) {
    const fault = cidrFault(cidr);
    if (fault !== undefined) refuseFlag('dest-cidr', fault);
  }
  const destination =
    cidr ??
    (await asker?.text({ message: `Network behind ${name} to accelerate (CIDR)`, check: cidrFault })) ??
    '';
  return {
    name: input.text('service-name') ?? `${ownName}-${name}`.slice(0, 63),
    target: id,
    targetName: name,
    destination,
  };
}

/** An address behind the service to prove it with; null for none. */
export async function askProof({ input, asker }: World, service: ServiceAnswer): Promise<string | null> {
  const given = input.text('prove');
  const check = (text: string): Fault => (text === '' ? undefined : insideFault(text, service.destination));
  if (given !== undefined) {
    const fault = insideFault(given, service.destination);
    if (fault !== undefined) refuseFlag('prove', fault);
    return given;
  }
  const answer = await asker?.text({
    message: 'Prove it with a connection to (ADDRESS:PORT, empty to skip)',
    check,
  });
  return answer === undefined || answer === '' ? null : answer;
}

/** Every answer that can be had before anything is done. `save` is called after each, so that none is asked twice. */
export async function interview(
  world: World,
  saved: Answers,
  save: (answers: Answers) => void,
): Promise<Answers> {
  const { input } = world;
  let answers = saved;
  const keep = (more: Answers) => {
    answers = { ...answers, ...more };
    save(answers);
  };
  const given = (...flags: string[]) => flags.some((flag) => input.text(flag) !== undefined);
  if (answers.license === undefined || given('license-file', 'customer'))
    keep({ license: await askLicense(world) });
  if (answers.name === undefined || given('name')) keep({ name: await askName(world) });
  if (answers.parent === undefined || given('parent-interface')) keep({ parent: await askParent(world) });
  if (answers.join === undefined || given('join') || input.flag('first'))
    keep({ join: await askJoin(world) });
  return answers;
}
