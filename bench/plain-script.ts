/**
 * The commands of an action graph as a plain shell script: what a person writes who knows them, and has neither agents nor an engine.
 *
 * 1. It has the order of the graph and no other: each action is a job in the background that begins as soon as what it comes after has ended, on each node as many at once as there are.
 * 2. It does and does not look: checks before and after a command (`unless`, `verify`, `creates`) are not in it, nor is what the agent found there already (`wasThere`). Probes are: what a plan
 *    waits for or asks of a node, a script has to wait for and ask too.
 * 3. It writes no journal and flushes nothing; nothing is recorded, signed or sent but the commands themselves.
 */

export interface GraphCommand {
  readonly name: string
  readonly kind: string
  readonly spec: Readonly<Record<string, any>>
}

export interface GraphAction {
  readonly id: string
  readonly node: string
  readonly after: readonly string[]
  readonly commands: readonly GraphCommand[]
}

/** Of a preview: what a script is made of. */
export interface Graph {
  readonly actions: readonly GraphAction[]
  readonly gates: readonly { readonly id: string; readonly after: readonly string[] }[]
}

/** How a program is run in a node: in its namespaces and its cgroup. */
export interface NodeEntrance {
  /** Pid of the node's pid 1, as the host counts. */
  readonly leader: number
  /** Files of its cgroups that a process is written into. */
  readonly cgroups: readonly string[]
}

/** A command's place in the graph, for `wasThere`. */
export const placeOf = (action: string, index: number): string => `${action}#${index}`

/** What a script on a node begins with. */
const prelude = String.raw`
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1 LC_ALL=C.UTF-8
exec 3>&1 1>&2 </dev/null
apt=(-q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Acquire::Retries=3)
write_file() { local new=$1.plain-new; cat >"$new"; chmod "$2" "$new"; chown "$3" "$new"; mv "$new" "$1"; }
add_repository() ( # NAME SUITE-AND-URL-FIELDS KEY
  flock 9
  mkdir -p /etc/apt/keyrings /etc/apt/sources.list.d
  printf '%s\n' "$3" >"/etc/apt/keyrings/$1.asc"
  printf 'Types: deb\n%s\nSigned-By: /etc/apt/keyrings/%s.asc\n' "$2" "$1" >"/etc/apt/sources.list.d/$1.sources"
  apt-get update "${'$'}{apt[@]}" -o "Dir::Etc::SourceList=/etc/apt/sources.list.d/$1.sources" -o Dir::Etc::SourceParts=/dev/null -o APT::Get::List-Cleanup=false
) 9>/run/plain-apt.lock
install_packages() ( # HELD NAME…
  flock 9
  held=$1
  shift
  # Lists of today are good enough.
  [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -print -quit)" ] && [ -n "$(find /var/lib/apt/lists /var/lib/apt/lists/partial -maxdepth 0 -newermt '-24 hours')" ] || apt-get update "${'$'}{apt[@]}"
  # Services are started when their configuration is there.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  apt-get install "${'$'}{apt[@]}" --no-install-recommends --allow-downgrades --allow-change-held-packages -- "$@"
  rm /usr/sbin/policy-rc.d
  [ "$held" = no ] || apt-mark hold "${'$'}{@%%=*}"
) 9>/run/plain-apt.lock
run_service() { # UNIT ENABLED FILE…
  local unit=$1
  [ "$2" = no ] || systemctl is-enabled --quiet "$unit" || systemctl enable --quiet "$unit"
  shift 2
  [ "$(systemctl show --property=NeedDaemonReload --value "$unit")" = no ] || systemctl daemon-reload
  if ! systemctl is-active --quiet "$unit"; then systemctl start "$unit"
  elif [ $# -gt 0 ] && [ -n "$(find "$@" -newerct "$(systemctl show --property=ExecMainStartTimestamp --value --timestamp=us "$unit")" 2>/dev/null)" ]; then systemctl restart "$unit"; fi
}
answers() ( # HOST PORT PATH WORDS
  exec 5<>"/dev/tcp/$1/$2"
  printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$3" "$1" >&5
  answer=$(cat <&5)
  [[ $answer == HTTP/*' 200 '* && $answer == *"$4"* ]]
)
until_true() { # INTERVAL SECONDS COMMAND…
  local interval=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { "$@"; return; }
    sleep "$interval"
  done
}
`

/**
 * The script, for bash on the host. `wasThere`: commands that changed nothing when the graph was applied, as `placeOf` names them. It ends with 0 when all has been done; its arguments are an empty
 * directory for what it needs, and a file for lines `ACTION BEGAN ENDED` (seconds since the epoch).
 * @throws Error for what no script can be made of.
 */
export function buildPlainScript(graph: Graph, entrances: ReadonlyMap<string, NodeEntrance>, wasThere: ReadonlySet<string>): string {
  const vertices = [...graph.actions.map(({ id, after }) => ({ id, after })), ...graph.gates]
  const numbers = new Map(vertices.map(({ id }, index) => [id, index]))
  const edges = vertices.flatMap(({ id, after }) => after.map((before) => ({ from: numbers.get(before)!, to: numbers.get(id)! })))
  const outputs = new Map<string, string>()
  for (const action of graph.actions) for (const name of namesOf(action)) outputs.set(`${action.id}#${name}`, `OUTPUT_${numbers.get(action.id)}`)
  const jobs = vertices.map(({ id }, number) => {
    const action = graph.actions[number]
    const body = action === undefined ? '' : buildBody(action, wasThere, outputs)
    const needed = [...new Set([...body.matchAll(/\$OUTPUT_(\d+)/g)].map((match) => match[1]!))]
    const commands = body === '' ? '' : `  begin=$EPOCHREALTIME\n  on_${action!.node.replaceAll('-', '_')} ${needed.map((each) => `OUTPUT_${each}="$(cat "$work/out-${each}")"`).join(' ')} <<'END_OF_${number}' >"$work/out-${number}"\n${body}END_OF_${number}\n  echo ${quote(id, outputs)} "$begin" "$EPOCHREALTIME" >>"$times"\n`
    return `# ${id}\njob_${number}() {\n  await ${edges.filter(({ to }) => to === number).map(({ from }) => `${from}-${number}`).join(' ')}\n${commands}  settle ${edges.filter(({ from }) => from === number).map(({ to }) => `${number}-${to}`).join(' ')}\n}\n`
  })
  const doors = [...entrances].map(([node, { leader, cgroups }]) => `on_${node.replaceAll('-', '_')}() ( enter ${leader} ${cgroups.map((path) => quote(path, outputs)).join(' ')} -- "$@" )\n`)
  return `#!/bin/bash
set -euo pipefail
work=$1 times=$2
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
prelude=${quote(prelude, outputs)}
# One that is waited for opens a pipe for writing, one that waits opens it for reading: nobody asks again and again.
await() { local edge; for edge in "$@"; do : <"$work/edge-$edge"; done; }
settle() { local edge; for edge in "$@"; do : >"$work/edge-$edge" & done; wait; }
enter() { # LEADER CGROUP… -- VARIABLE…
  local leader=$1 script
  shift
  script=$(cat)
  while [ "$1" != -- ]; do echo $BASHPID >"$1"; shift; done
  shift
  exec nsenter --target="$leader" --mount --uts --ipc --net --pid --cgroup --root --wd -- /usr/bin/env --ignore-environment --chdir=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LANG=C.UTF-8 "$@" bash -euo pipefail -c "$prelude$script"
}
${doors.join('')}
${jobs.join('\n')}
${edges.length === 0 ? '' : `mkfifo ${edges.map(({ from, to }) => `"$work/edge-${from}-${to}"`).join(' ')}\n`}for job in {0..${vertices.length - 1}}; do "job_$job" & done
for _ in {0..${vertices.length - 1}}; do wait -n; done
`
}

/** Outputs of an action that come from what one of its programs prints. */
const namesOf = ({ commands }: GraphAction): string[] => commands.flatMap(({ spec }) => Object.entries((spec['outputs'] ?? {}) as Record<string, { from: string }>).flatMap(([name, { from }]) => (from === 'stdout' ? [name] : [])))

type Outputs = ReadonlyMap<string, string>

/** The text as one word of a shell; references to outputs of other actions become variables. */
function quote(text: string, outputs: Outputs): string {
  const plain = (part: string): string => (part === '' ? '' : `'${part.replaceAll("'", "'\\''")}'`)
  const parts = text.split(/(⟦[^⟧]*⟧)/).map((part) => {
    if (!part.startsWith('⟦')) return plain(part)
    const variable = outputs.get(part.slice(1, -1).replace(/^output:/, ''))
    if (variable === undefined) throw new Error(`${part} is not known to a script`)
    return `"$${variable}"`
  })
  return parts.join('') || "''"
}

function buildBody(action: GraphAction, wasThere: ReadonlySet<string>, outputs: Outputs): string {
  return action.commands
    .filter(({ kind }, index) => kind === 'probe' || !wasThere.has(placeOf(action.id, index)))
    .map((command) => `# ${command.name.replaceAll('\n', ' ')}\n${buildCommand(command, outputs)}\n`)
    .join('')
}

function buildCommand({ kind, spec, name }: GraphCommand, outputs: Outputs): string {
  const word = (text: unknown): string => quote(String(text), outputs)
  const words = (list: readonly unknown[] = []): string => list.map(word).join(' ')
  const program = (command: string | readonly string[]): string => (typeof command === 'string' ? `/bin/bash -euo pipefail -c ${word(command)}` : words(command))
  if (spec['state'] === 'absent' || spec['state'] === 'purged' || spec['state'] === 'stopped') throw new Error(`${name}: a script that takes away is not written here`)
  switch (kind) {
    case 'file':
      return `printf %s ${word(spec['content'])} | write_file ${word(spec['path'])} ${spec['mode'] ?? '0644'} ${spec['owner'] ?? 'root'}:${spec['group'] ?? 'root'}`
    case 'directory':
      return `mkdir -p ${word(spec['path'])}; chown ${spec['owner'] ?? 'root'}:${spec['group'] ?? 'root'} ${word(spec['path'])}; chmod ${spec['mode'] ?? '0755'} ${word(spec['path'])}`
    case 'repository':
      return `add_repository ${word(spec['repository'])} ${word(`URIs: ${spec['url']}\nSuites: ${spec['suite']}${spec['components']?.length ? `\nComponents: ${spec['components'].join(' ')}` : ''}`)} ${word(spec['key'])}`
    case 'package':
      return `install_packages ${spec['held'] ? 'yes' : 'no'} ${words(spec['names'])}`
    case 'service':
      return `run_service ${word(spec['unit'])} ${spec['enabled'] ? 'yes' : 'no'} ${words(spec['restartOn'])}`
    case 'run': {
      if (spec['user'] !== undefined || spec['cwd'] !== undefined || spec['env'] !== undefined) throw new Error(`${name}: user, cwd and env are not written here`)
      const feed = spec['stdin'] === undefined ? '' : `printf %s ${word(spec['stdin'])} | `
      const isKept = Object.values((spec['outputs'] ?? {}) as Record<string, { from: string }>).some(({ from }) => from === 'stdout')
      return `${feed}${program(spec['argv'] ?? spec['shell'])}${isKept ? ' >&3' : ''}`
    }
    case 'probe': {
      const asked = spec['command'] ? program(spec['command']) : buildRequest(spec, word)
      return spec['deadlineMs'] === 0 ? asked : `until_true ${(spec['intervalMs'] ?? 500) / 1000} ${Math.ceil((spec['deadlineMs'] ?? 60_000) / 1000)} ${asked}`
    }
    default:
      throw new Error(`${name}: no script is written for the kind ${kind}`)
  }
}

function buildRequest(spec: GraphCommand['spec'], word: (text: unknown) => string): string {
  const url = new URL(spec['http']?.url ?? 'none:')
  if (url.protocol !== 'http:') throw new Error('a script asks by HTTP alone')
  return `answers ${word(url.hostname)} ${url.port || 80} ${word(url.pathname)} ${word(spec['http'].bodyIncludes ?? '')}`
}
