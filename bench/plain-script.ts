/**
 * The commands of an action graph as a plain shell script: what a person writes who knows them, and has neither agents nor an engine.
 *
 * 1. It has the order of the graph and no other: each action is a job in the background that begins as soon as what it comes after has ended, on each node as many at once as there are.
 * 2. It does and does not look: checks before and after a command (`unless`, `verify`, `creates`) are not in it, nor is what the agent found there already (`wasThere`). Probes are: what a plan
 *    waits for or asks of a node, a script has to wait for and ask too.
 * 3. It writes no journal and flushes nothing; nothing is recorded, signed or sent but the commands themselves.
 * 4. A secret has one value on all nodes, made by the first script that needs it: one that is run later on the same nodes finds it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

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
  readonly secrets: readonly { readonly name: string; readonly length: number }[]
}

/** What of it is done on one node, when all else has been done before. */
export function selectNode({ actions, secrets }: Graph, node: string): Graph {
  const own = actions.filter((action) => action.node === node)
  const known = new Set(own.map(({ id }) => id))
  return { actions: own.map((action) => ({ ...action, after: action.after.filter((id) => known.has(id)) })), gates: [], secrets }
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
install_packages() ( # HELD ANSWERS NAME…
  flock 9
  held=$1 answers=$2
  shift 2
  # Lists of today are good enough.
  [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -print -quit)" ] && [ -n "$(find /var/lib/apt/lists /var/lib/apt/lists/partial -maxdepth 0 -newermt '-24 hours')" ] || apt-get update "${'$'}{apt[@]}"
  [ -z "$answers" ] || debconf-set-selections <<<"$answers"
  # Services are started when their configuration is there; a bus that is not would break others at once.
  printf '#!/bin/sh\n[ "$1" = --quiet ] && shift\ncase $1 in dbus|dbus.*|polkit|polkit.*|systemd-*) exit 0 ;; esac\nsystemctl is-active --quiet "$1" || exit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  bus=$(bus_policies)
  apt-get install "${'$'}{apt[@]}" --no-install-recommends --allow-downgrades --allow-change-held-packages -- "$@"
  rm /usr/sbin/policy-rc.d
  # It reads them when it is told to.
  [ "$bus" = "$(bus_policies)" ] || systemctl try-reload-or-restart dbus.service
  [ "$held" = no ] || apt-mark hold "${'$'}{@%%=*}"
) 9>/run/plain-apt.lock
bus_policies() { stat --format=%y /usr/share/dbus-1/system.d /etc/dbus-1/system.d 2>/dev/null || true; }
run_service() { # UNIT ENABLED FILE…
  local unit=$1
  [ "$2" = no ] || systemctl is-enabled --quiet "$unit" || systemctl enable --quiet "$unit"
  shift 2
  [ "$(systemctl show --property=NeedDaemonReload --value "$unit")" = no ] || systemctl daemon-reload
  if ! systemctl is-active --quiet "$unit"; then systemctl start "$unit"
  elif [ $# -gt 0 ] && [ -n "$(find "$@" -newerct "$(systemctl show --property=ExecMainStartTimestamp --value --timestamp=us "$unit")" 2>/dev/null)" ]; then systemctl restart "$unit"; fi
}
listens() ( exec 5<>"/dev/tcp/$1/$2" )
answers() ( # HOST PORT PATH CODES WORDS
  exec 5<>"/dev/tcp/$1/$2"
  printf 'GET %s HTTP/1.0\r\nHost: %s:%s\r\n\r\n' "$3" "$1" "$2" >&5
  answer=$(timeout 30 cat <&5)
  first="^HTTP/[0-9.]+ ($4) "
  [[ $answer =~ $first && $answer == *"$5"* ]]
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

/** Makes what a command of the kind `openstack` lists; reads its spec. */
const makeInCloud = readFileSync(join(import.meta.dirname, 'make-in-cloud.py'), 'utf8')

/** What it knows of each resource. */
const cloudFields: Readonly<Record<string, readonly string[]>> = {
  domain: ['name', 'description'],
  project: ['name', 'domain', 'description'],
  user: ['name', 'domain', 'password', 'description'],
  role: ['name', 'description'],
  grant: ['role', 'user', 'userDomain', 'project', 'projectDomain', 'domain'],
  service: ['type', 'name', 'description', 'region', 'endpoints'],
  flavor: ['name', 'vcpus', 'ramMiB', 'diskGiB'],
  keypair: ['name', 'publicKey'],
  network: ['name', 'description', 'type', 'physicalNetwork', 'segment', 'shared', 'external', 'mtu'],
  subnet: ['name', 'network', 'description', 'cidr', 'gateway', 'pools', 'dns', 'dhcp'],
  router: ['name', 'description', 'externalNetwork', 'subnets'],
  securityGroupRule: ['group', 'direction', 'ethertype', 'protocol', 'ports', 'remoteCidr'],
  image: ['name', 'file', 'diskFormat', 'containerFormat', 'visibility', 'kernel', 'ramdisk', 'properties'],
}

/**
 * The script, for bash on the host. `wasThere`: commands that changed nothing when the graph was applied, as `placeOf` names them. It ends with 0 when all has been done; its arguments are an empty
 * directory for what it needs, a file for lines `ACTION BEGAN ENDED` (seconds since the epoch), and a directory of secrets that stays.
 * @throws Error for what no script can be made of.
 */
export function buildPlainScript(graph: Graph, entrances: ReadonlyMap<string, NodeEntrance>, wasThere: ReadonlySet<string>): string {
  const vertices = [...graph.actions.map(({ id, after }) => ({ id, after })), ...graph.gates]
  const numbers = new Map(vertices.map(({ id }, index) => [id, index]))
  const edges = vertices.flatMap(({ id, after }) => after.map((before) => ({ from: numbers.get(before)!, to: numbers.get(id)! })))
  const variables = new Map(graph.secrets.map(({ name }, index) => [`secret:${name}`, `SECRET_${index}`]))
  for (const action of graph.actions) for (const name of namesOf(action)) variables.set(`output:${action.id}#${name}`, `OUTPUT_${numbers.get(action.id)}`)
  const word = (text: string): string => quote(text, variables)
  const bodies = vertices.map((_, number) => (graph.actions[number] === undefined ? '' : buildBody(graph.actions[number], wasThere, variables)))
  const jobs = vertices.map(({ id }, number) => {
    const body = bodies[number]!
    const needed = findVariables(body).map((name) => (name.startsWith('SECRET_') ? `${name}="$${name}"` : `${name}="$(cat "$work/out-${name.slice('OUTPUT_'.length)}")"`))
    const commands = body === '' ? '' : `  begin=$EPOCHREALTIME\n  ${doorOf(graph.actions[number]!.node)} ${needed.join(' ')} <<'END_OF_${number}' >"$work/out-${number}"\n${body}END_OF_${number}\n  echo ${word(id)} "$begin" "$EPOCHREALTIME" >>"$times"\n`
    return `# ${id}\njob_${number}() {\n  await ${edges.filter(({ to }) => to === number).map(({ from }) => `${from}-${number}`).join(' ')}\n${commands}  settle ${edges.filter(({ from }) => from === number).map(({ to }) => `${number}-${to}`).join(' ')}\n}\n`
  })
  const doors = [...entrances].map(([node, { leader, cgroups }]) => `${doorOf(node)}() ( enter ${leader} ${cgroups.map(word).join(' ')} -- "$@" )\n`)
  const used = new Set(bodies.flatMap(findVariables))
  const secrets = graph.secrets.flatMap(({ name, length }, index) => (used.has(`SECRET_${index}`) ? [`SECRET_${index}=$(secret ${word(name)} ${length})\n`] : []))
  return `#!/bin/bash
set -euo pipefail
work=$1 times=$2 secrets=$3
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
prelude=${word(prelude)}
secret() { # NAME LENGTH
  [ -e "$secrets/$1" ] || head --bytes=256 /dev/urandom | base64 --wrap=0 | tr --delete '+/=' | cut --characters="-$2" >"$secrets/$1"
  cat "$secrets/$1"
}
${secrets.join('')}# One that is waited for opens a pipe for writing, one that waits opens it for reading: nobody asks again and again.
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

const doorOf = (node: string): string => `on_${node.replaceAll('-', '_')}`

/** Outputs of an action that come from what one of its programs prints. */
const namesOf = ({ commands }: GraphAction): string[] => commands.flatMap(({ spec }) => Object.entries((spec['outputs'] ?? {}) as Record<string, { from: string }>).flatMap(([name, { from }]) => (from === 'stdout' ? [name] : [])))

/** The variables that a body names. */
const findVariables = (body: string): string[] => [...new Set([...body.matchAll(/"\$((?:OUTPUT|SECRET)_\d+)"/g)].map((match) => match[1]!))]

/** Of each reference, without its brackets, the variable that has the value. */
type Variables = ReadonlyMap<string, string>

/** The text as one word of a shell; references become variables. */
function quote(text: string, variables: Variables): string {
  const plain = (part: string): string => (part === '' ? '' : `'${part.replaceAll("'", "'\\''")}'`)
  const parts = text.split(/(⟦[^⟧]*⟧)/).map((part) => {
    if (!part.startsWith('⟦')) return plain(part)
    const variable = variables.get(part.slice(1, -1))
    if (variable === undefined) throw new Error(`${part} is not known to a script`)
    return `"$${variable}"`
  })
  return parts.join('') || "''"
}

function buildBody(action: GraphAction, wasThere: ReadonlySet<string>, variables: Variables): string {
  return action.commands
    .filter(({ kind }, index) => kind === 'probe' || !wasThere.has(placeOf(action.id, index)))
    .map((command) => `# ${command.name.replaceAll('\n', ' ')}\n${buildCommand(command, variables)}\n`)
    .join('')
}

function buildCommand({ kind, spec, name }: GraphCommand, variables: Variables): string {
  const word = (text: unknown): string => quote(String(text), variables)
  const words = (list: readonly unknown[] = []): string => list.map(word).join(' ')
  const program = (command: string | readonly string[]): string => (typeof command === 'string' ? `/bin/bash -euo pipefail -c ${word(command)}` : words(command))
  const refuse = (...fields: readonly string[]): void => {
    const field = fields.find((each) => spec[each] !== undefined && spec[each] !== false)
    if (field !== undefined) throw new Error(`${name}: no script is written for ${kind} with ${field}`)
  }
  if (kind !== 'file' && ['absent', 'purged'].includes(spec['state'])) throw new Error(`${name}: a script that takes away is not written here`)
  switch (kind) {
    case 'file':
      return spec['state'] === 'absent' ? `rm --force ${word(spec['path'])}` : `printf %s ${word(spec['content'])} | write_file ${word(spec['path'])} ${spec['mode'] ?? '0644'} ${spec['owner'] ?? 'root'}:${spec['group'] ?? 'root'}`
    case 'directory':
      return `mkdir -p ${word(spec['path'])}; chown ${spec['owner'] ?? 'root'}:${spec['group'] ?? 'root'} ${word(spec['path'])}; chmod ${spec['mode'] ?? '0755'} ${word(spec['path'])}`
    case 'repository':
      return `add_repository ${word(spec['repository'])} ${word(`URIs: ${spec['url']}\nSuites: ${spec['suite']}${spec['components']?.length ? `\nComponents: ${spec['components'].join(' ')}` : ''}`)} ${word(spec['key'])}`
    case 'package':
      refuse('recommends', 'startServices')
      return `install_packages ${spec['held'] ? 'yes' : 'no'} ${word((spec['debconf'] ?? []).join('\n'))} ${words(spec['names'])}`
    case 'service':
      if (spec['state'] === 'stopped') return `${spec['enabled'] === false ? 'systemctl disable --quiet --now' : 'systemctl stop'} ${word(spec['unit'])}`
      return `run_service ${word(spec['unit'])} ${spec['enabled'] ? 'yes' : 'no'} ${words(spec['restartOn'])}`
    case 'run': {
      refuse('user', 'cwd', 'okExitCodes')
      const env = Object.entries((spec['env'] ?? {}) as Record<string, string>).map(([variable, value]) => `${variable}=${word(value)} `).join('')
      const feed = spec['stdin'] === undefined ? '' : `printf %s ${word(spec['stdin'])} | `
      const isKept = Object.values((spec['outputs'] ?? {}) as Record<string, { from: string }>).some(({ from }) => from === 'stdout')
      return `${feed}${env}${program(spec['argv'] ?? spec['shell'])}${isKept ? ' >&3' : ''}`
    }
    case 'probe': {
      const asked = spec['command'] ? program(spec['command']) : buildRequest(spec, word)
      return spec['deadlineMs'] === 0 ? asked : `until_true ${(spec['intervalMs'] ?? 500) / 1000} ${Math.ceil((spec['deadlineMs'] ?? 60_000) / 1000)} ${asked}`
    }
    case 'openstack':
      checkResources(name, spec)
      return `printf %s ${word(JSON.stringify({ auth: spec['auth'], resources: spec['resources'] }))} | /usr/bin/python3 -c ${word(makeInCloud)}`
    default:
      throw new Error(`${name}: no script is written for the kind ${kind}`)
  }
}

/** @throws Error when something of it is not written in `makeInCloud`. */
function checkResources(name: string, { auth, resources }: GraphCommand['spec']): void {
  const extra = ['system', 'interface', 'caFile'].find((field) => auth[field] !== undefined)
  if (extra !== undefined) throw new Error(`${name}: no script is written for auth with ${extra}`)
  for (const [kind, fields] of (resources as object[]).flatMap((resource) => Object.entries(resource))) {
    const unknown = Object.keys(fields as object).find((field) => !cloudFields[kind]?.includes(field))
    if (unknown !== undefined) throw new Error(`${name}: no script is written for ${kind} with ${unknown}`)
  }
}

function buildRequest(spec: GraphCommand['spec'], word: (text: unknown) => string): string {
  if (spec['tcp']) return `listens ${word(spec['tcp'].host)} ${spec['tcp'].port}`
  const url = new URL(spec['http']?.url ?? 'none:')
  if (url.protocol !== 'http:') throw new Error('a script asks by HTTP alone')
  const codes = (spec['http'].codes as readonly number[] | undefined)?.join('|') ?? '[123][0-9][0-9]'
  return `answers ${word(url.hostname)} ${url.port || 80} ${word(url.pathname)} '${codes}' ${word(spec['http'].bodyIncludes ?? '')}`
}
