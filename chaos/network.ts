/**
 * A network of machines: each place is a network namespace with one leg on a bridge, the run itself is the bridge's own address. Without root all places are
 * addresses of the loopback network, and there are no partitions.
 *
 * 1. Every name begins with `lc` and the run's id, so that what a killed run left can be found (leftovers.ts).
 * 2. A place is cut off by taking its leg off the bridge: packets vanish in silence, as behind a dead switch. `down` takes the link away, too: senders notice.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { chooseNetworkAmong } from '@lichen/lab'

export interface Place {
  readonly name: string
  readonly address: string
  /** Goes before a command that is to run there. It becomes the command (exec), so that signals arrive. */
  readonly prefix: readonly string[]
}

export interface Network {
  /** False: places are addresses of the loopback network, and nothing can be cut. */
  readonly isCuttable: boolean
  /** Network link that the run itself has here; empty on loopback. */
  readonly bridge: string
  /** Address of the run itself. */
  readonly address: string
  makePlace(name: string): Place
  cut(place: Place, how: 'silent' | 'down'): void
  mend(place: Place): void
  close(): void
}

const bridgeOf = (id: string): string => `lc${id}`
const linkOf = (id: string, name: string): string => `lc${id}${name}`
const namespaceOf = (id: string, name: string): string => `lc${id}-${name}`

/** What ip(8) printed. @throws with what it said when it failed */
export function ip(...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr || String(error)}`)
  return stdout
}

const listNamespaces = (): string[] => ip('netns', 'list').split('\n').map((line) => line.split(' ')[0]!).filter((name) => name !== '')

function readUsed(): string[] {
  const addresses = (JSON.parse(ip('-json', '-4', 'address')) as { addr_info: { local: string; prefixlen: number }[] }[]).flatMap((link) => link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`))
  const routes = (JSON.parse(ip('-json', '-4', 'route', 'show', 'table', 'all')) as { dst: string }[]).map(({ dst }) => dst)
  return [...addresses, ...routes]
}

/** The network of the run with this id (four letters or digits at most: a link's name has fifteen). */
export function openNetwork(id: string): Network {
  return process.getuid?.() === 0 ? openBridge(id) : openLoopback()
}

function openBridge(id: string): Network {
  const network = chooseNetworkAmong(readUsed(), `chaos ${id}`)
  const bridge = bridgeOf(id)
  ip('link', 'add', bridge, 'type', 'bridge')
  ip('address', 'add', `${network}.1/24`, 'dev', bridge)
  ip('link', 'set', bridge, 'up')
  let last = 1
  return {
    isCuttable: true,
    bridge,
    address: `${network}.1`,
    makePlace(name) {
      const address = `${network}.${++last}`
      const namespace = namespaceOf(id, name)
      ip('netns', 'add', namespace)
      ip('link', 'add', linkOf(id, name), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
      ip('link', 'set', linkOf(id, name), 'master', bridge, 'up')
      ip('-n', namespace, 'link', 'set', 'lo', 'up')
      ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0')
      ip('-n', namespace, 'link', 'set', 'eth0', 'up')
      ip('-n', namespace, 'route', 'add', 'default', 'via', `${network}.1`)
      return { name, address, prefix: ['ip', 'netns', 'exec', namespace] }
    },
    cut: ({ name }, how) => void (how === 'silent' ? ip('link', 'set', linkOf(id, name), 'nomaster') : ip('link', 'set', linkOf(id, name), 'down')),
    mend: ({ name }) => void ip('link', 'set', linkOf(id, name), 'master', bridge, 'up'),
    close: () => removeNetwork(id),
  }
}

/** Places that are addresses of the loopback network (127.64.0.0/10), chosen by this process's id. */
export function openLoopback(): Network {
  const network = `127.${64 + (process.pid % 128)}.${(process.pid >> 7) % 256}`
  let last = 1
  return {
    isCuttable: false,
    bridge: '',
    address: `${network}.1`,
    makePlace: (name) => ({ name, address: `${network}.${++last}`, prefix: [] }),
    cut: () => undefined,
    mend: () => undefined,
    close: () => undefined,
  }
}

/** Removes what there is of this run's network. Processes in it must be gone. */
export function removeNetwork(id: string): void {
  for (const namespace of listNamespaces().filter((name) => name.startsWith(namespaceOf(id, '')))) ip('netns', 'delete', namespace)
  const links = readdirSync('/sys/class/net').filter((link) => link.startsWith(bridgeOf(id)))
  // The legs are gone with their namespaces, unless the kernel has not come to it yet.
  for (const link of links) spawnSync('ip', ['link', 'delete', link])
}
