import { flagsOf, namesOf } from './arguments.ts';
import type { Command, Completes, Flag, Group } from './command.ts';

export type Shell = 'bash' | 'zsh' | 'fish';

/** What may stand after a command's words or a flag: fixed words, names from the cache, or files. */
interface Offer {
  readonly words: readonly string[];
  readonly names: string | undefined;
  readonly files: 'files' | 'directories' | undefined;
}

const offerOf = (choices: readonly string[] | undefined, completes: Completes | undefined): Offer => ({
  words: choices ?? [],
  names: completes === 'peer' || completes === 'service' || completes === 'cluster' ? completes : undefined,
  files: completes === 'file' ? 'files' : completes === 'directory' ? 'directories' : undefined,
});

const longFlag = (flag: Flag): string => (flag.negated ? `--no-${flag.name}` : `--${flag.name}`);

interface Node {
  /** Canonical words: `peers list`. */
  readonly path: string;
  readonly summary: string;
  readonly command: Command | undefined;
  readonly children: readonly { readonly word: string; readonly summary: string }[];
}

/** The tree of words: the root, the nouns and everything below, each with what may come next. */
function nodesOf(groups: readonly Group[]): readonly Node[] {
  const commands = groups.flatMap((group) => group.commands.map((command) => ({ group, command })));
  const paths = new Set(['']);
  for (const { command } of commands) {
    const words = command.name.split(' ');
    words.forEach((_, at) => {
      paths.add(words.slice(0, at + 1).join(' '));
    });
  }
  return [...paths].map((path) => {
    const depth = path === '' ? 0 : path.split(' ').length;
    const below = [...paths].filter(
      (other) =>
        other !== '' &&
        other.split(' ').length === depth + 1 &&
        (path === '' || other.startsWith(`${path} `)),
    );
    const summaryOf = (wanted: string) =>
      commands.find(({ command }) => command.name === wanted)?.command.summary ??
      groups.find((group) => group.name === wanted)?.summary ??
      wanted;
    return {
      path,
      summary: summaryOf(path),
      command: commands.find(({ command }) => command.name === path)?.command,
      children: below.map((other) => ({ word: other.split(' ').at(-1) ?? '', summary: summaryOf(other) })),
    };
  });
}

/** Every other way to type a path, with the path it stands for: `peer` -> `peers`, `peers rm` -> `peers delete`. */
function aliasesOf(groups: readonly Group[], nodes: readonly Node[]): ReadonlyMap<string, string> {
  const known = new Set(nodes.map((node) => node.path));
  const aliases = new Map<string, string>();
  for (const group of groups) {
    for (const noun of group.aliases ?? []) aliases.set(noun, group.name);
    for (const command of group.commands)
      for (const name of namesOf(group, command)) {
        // Aliased nouns have been replaced by the time their verb is looked at.
        const [noun = '', ...verbs] = name.split(' ');
        const path = [aliases.get(noun) ?? noun, ...verbs].join(' ');
        if (!known.has(path)) aliases.set(path, command.name);
      }
  }
  return aliases;
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const NAMES_FILE = `  local directory=""
  if [ -n "\${ARCTIC_CONFIG:-}" ]; then directory=$(dirname -- "$ARCTIC_CONFIG")
  else directory="\${XDG_CONFIG_HOME:-$HOME/.config}/arctic"; fi`;

/** The body that bash and zsh share: finds the command from the words before the cursor, then sets offer, names and files. */
function shellBody(groups: readonly Group[]): string {
  const nodes = nodesOf(groups);
  const valueFlags = new Map<string, Flag>();
  const all = nodes.flatMap((node) => flagsOf(node.command));
  for (const flag of all) {
    if (flag.type === 'boolean') continue;
    valueFlags.set(`--${flag.name}`, flag);
    if (flag.short !== undefined) valueFlags.set(`-${flag.short}`, flag);
  }
  const lines = [
    '  local i word next',
    '  for ((i = 1; i < current; i++)); do',
    `    word="\${line[i]}"`,
    '    case "$word" in',
    `      ${[...valueFlags.keys()].join('|')})`,
    `        [ "$word" = --service ] && service="\${line[i+1]}"`,
    '        i=$((i + 1)); continue ;;',
    `      --service=*) service="\${word#--service=}"; continue ;;`,
    '      -*) continue ;;',
    '    esac',
    `    next="\${command:+$command }$word"`,
    '    case "$next" in',
    ...[...aliasesOf(groups, nodes)].map(([alias, path]) => `      ${quote(alias)}) next=${quote(path)} ;;`),
    '    esac',
    '    case "$next" in',
    `      ${nodes
      .filter((node) => node.path !== '')
      .map((node) => quote(node.path))
      .join('|')}) command="$next" ;;`,
    '      *) arguments=$((arguments + 1)) ;;',
    '    esac',
    '  done',
  ];
  const set = (offer: Offer): string => {
    const parts = [`offer=${quote(offer.words.join(' '))}`];
    if (offer.names !== undefined) parts.push(`names=${offer.names}`);
    if (offer.files !== undefined) parts.push(`files=${offer.files}`);
    return parts.join('; ');
  };
  lines.push('  case "$previous" in');
  for (const [spelling, flag] of valueFlags)
    lines.push(`    ${spelling}) ${set(offerOf(flag.choices, flag.completes))}; return ;;`);
  lines.push('  esac', '  case "$command" in');
  for (const node of nodes) {
    const flags = flagsOf(node.command).map(longFlag).join(' ');
    lines.push(
      `    ${quote(node.path)})`,
      `      if [[ "$partial" == -* ]]; then offer=${quote(flags)}; return; fi`,
    );
    if (node.children.length > 0)
      lines.push(
        `      [ $arguments = 0 ] && offer=${quote(node.children.map((child) => child.word).join(' '))}`,
      );
    (node.command?.args ?? []).forEach((arg, at) => {
      const offer =
        arg.name === 'ROUTE' ? 'names="route:$service"' : set(offerOf(arg.choices, arg.completes));
      lines.push(`      [ $arguments = ${at} ] && { ${offer}; }`);
    });
    lines.push('      ;;');
  }
  lines.push('  esac');
  return lines.join('\n');
}

const shellHead = (shell: Shell, how: string): string =>
  `# ${shell} completion for arctic; made by 'arctic completion ${shell}'. ${how}\n`;

function bashScript(groups: readonly Group[]): string {
  return `${shellHead('bash', "Put 'source <(arctic completion bash)' into ~/.bashrc.")}
_arctic_offer() {
${shellBody(groups)}
}

_arctic_names() {
${NAMES_FILE}
  local kind name
  [ -r "$directory/names" ] || return 0
  while IFS=$'\\t' read -r kind name; do
    [ "$kind" = "$1" ] && printf '%s\\n' "$name"
  done < "$directory/names"
}

_arctic() {
  local command='' service='' arguments=0 offer='' names='' files='' current=$COMP_CWORD
  local partial="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local -a line=("\${COMP_WORDS[@]}")
  # bash takes '--flag=value' apart at the equals sign.
  if [ "$partial" = '=' ]; then partial=''; elif [ "$previous" = '=' ]; then previous="\${COMP_WORDS[COMP_CWORD-2]}"; fi
  _arctic_offer
  [ -n "$names" ] && offer="$offer $(_arctic_names "$names")"
  COMPREPLY=($(compgen -W "$offer" -- "$partial"))
  case "$files" in
    files) COMPREPLY+=($(compgen -f -- "$partial")); compopt -o filenames 2> /dev/null ;;
    directories) COMPREPLY+=($(compgen -d -- "$partial")); compopt -o filenames 2> /dev/null ;;
  esac
  return 0
}
complete -F _arctic arctic
`;
}

function zshScript(groups: readonly Group[]): string {
  return `#compdef arctic
${shellHead('zsh', "Put 'source <(arctic completion zsh)' into ~/.zshrc, after compinit, or save it as _arctic in \\$fpath.")}
_arctic_offer() {
  emulate -L zsh -o KSH_ARRAYS
${shellBody(groups)}
}

_arctic_names() {
${NAMES_FILE}
  local kind name
  [ -r "$directory/names" ] || return 0
  while IFS=$'\\t' read -r kind name; do
    [ "$kind" = "$1" ] && printf '%s\\n' "$name"
  done < "$directory/names"
}

# Sets offer (one space between two) and files from the line so far; the completion widget shows them.
_arctic_resolve() {
  local command='' service='' arguments=0 names=''
  _arctic_offer
  [ -n "$names" ] && offer="$offer $(_arctic_names "$names")"
  return 0
}

_arctic() {
  local current=$((CURRENT - 1)) partial="$PREFIX" previous=''
  local -a line
  line=("\${(@)words}")
  [ $CURRENT -gt 1 ] && previous="\${line[CURRENT-1]}"
  if [[ "$partial" == --*=* ]]; then
    previous="\${partial%%=*}"; compset -P '*='; partial="$PREFIX"
  fi
  () {
    local offer='' files=''
    _arctic_resolve
    [ -n "$offer" ] && compadd -- \${=offer}
    case "$files" in
      files) _files ;;
      directories) _files -/ ;;
    esac
  }
}
if [ "\${funcstack[1]:-}" = _arctic ]; then _arctic "$@"; elif (( \${+functions[compdef]} )); then compdef _arctic arctic; fi
`;
}

function fishScript(groups: readonly Group[]): string {
  const nodes = nodesOf(groups);
  const flagLines = new Set<string>();
  const at = (path: string) => `-n ${quote(`test (__arctic_command) = ${quote(path)}`)}`;
  const values = (offer: Offer): string => {
    const parts = [...offer.words, ...(offer.names === undefined ? [] : [`(__arctic_names ${offer.names})`])];
    if (offer.files === 'files') return '-r -F';
    if (offer.files === 'directories') return "-x -a '(__fish_complete_directories)'";
    return parts.length === 0 ? '-x' : `-x -a ${quote(parts.join(' '))}`;
  };
  const valueFlags = new Set<string>();
  const lines: string[] = [];
  for (const node of nodes) {
    for (const child of node.children)
      lines.push(`complete -c arctic ${at(node.path)} -a ${quote(child.word)} -d ${quote(child.summary)}`);
    (node.command?.args ?? []).forEach((arg) => {
      const offer = offerOf(arg.choices, arg.completes);
      if (arg.name === 'ROUTE')
        lines.push(`complete -c arctic ${at(node.path)} -x -a '(__arctic_names route:(__arctic_service))'`);
      else if (offer.words.length > 0 || offer.names !== undefined || offer.files !== undefined)
        lines.push(`complete -c arctic ${at(node.path)} ${values(offer)}`);
    });
    for (const flag of flagsOf(node.command)) {
      if (flag.type !== 'boolean') {
        valueFlags.add(`--${flag.name}`);
        if (flag.short !== undefined) valueFlags.add(`-${flag.short}`);
      }
      const own = node.command?.flags?.includes(flag) === true;
      const name = longFlag(flag).slice(2);
      const short = flag.short === undefined ? '' : ` -s ${flag.short}`;
      const value = flag.type === 'boolean' ? '' : ` ${values(offerOf(flag.choices, flag.completes))}`;
      flagLines.add(
        `complete -c arctic ${own ? `${at(node.path)} ` : ''}-l ${name}${short}${value} -d ${quote(flag.summary)}`,
      );
    }
  }
  const aliases = [...aliasesOf(groups, nodes)];
  return `${shellHead('fish', 'Save it as ~/.config/fish/completions/arctic.fish.')}
function __arctic_command
    set -l command ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case ${[...valueFlags].join(' ')}
                set skip 1
                continue
            case '-*'
                continue
        end
        set -l next (string trim -- "$command $word")
        switch $next
${aliases.map(([alias, path]) => `            case ${quote(alias)}\n                set next ${quote(path)}`).join('\n')}
        end
        switch $next
            case ${nodes
              .filter((node) => node.path !== '')
              .map((node) => quote(node.path))
              .join(' ')}
                set command $next
        end
    end
    echo -- "$command"
end

function __arctic_service
    set -l take 0
    for word in (commandline -opc)
        if test $take = 1
            echo -- $word
            return
        end
        test "$word" = --service; and set take 1
        string match -q -- '--service=*' $word; and echo -- (string replace -- '--service=' '' $word)
    end
end

function __arctic_names
    set -l directory "$HOME/.config/arctic"
    test -n "$XDG_CONFIG_HOME"; and set directory "$XDG_CONFIG_HOME/arctic"
    test -n "$ARCTIC_CONFIG"; and set directory (dirname -- $ARCTIC_CONFIG)
    test -r "$directory/names"; or return
    string match -r -- "^$argv[1]\\t.*" < "$directory/names" | string replace -r '^[^\\t]*\\t' ''
end

complete -c arctic -f
${lines.join('\n')}
${[...flagLines].join('\n')}
`;
}

/** The completion script of a shell, from the command table alone; it never starts Node. */
export function completionScript(shell: Shell, groups: readonly Group[]): string {
  if (shell === 'bash') return bashScript(groups);
  return shell === 'zsh' ? zshScript(groups) : fishScript(groups);
}
