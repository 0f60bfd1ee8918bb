/**
 * One real machine beside the namespaces: a systemd-nspawn node of the lab with the agent's own Debian package and unit. It can reboot and lose power, and there systemd is
 * the one who kills and restarts.
 */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { buildAgentPackage, installAgent } from '@lichen/demo'
import { buildLabNames, buildNodeNames, openLab, type Lab, type LabView } from '@lichen/lab'
import type { Fault, Harm, Victim } from './faults.js'
import type { Teardown } from './leftovers.js'
import { ip } from './network.js'
import { pause, until } from './patience.js'
import type { NodeSet } from './plans.js'
import { effectScript, type System } from './system.js'

const name = 'm1'
/** Of commands in the machine: a place that a reboot does not empty. */
const homeInside = '/var/lib/lichen-chaos'
export const labName = 'chaos'
export const labDirectoryOf = (directory: string): string => join(directory, 'labs')

export interface Machine {
  readonly set: NodeSet
  readonly faults: readonly Fault[]
  /** Where its ledger stands, as this host sees it. */
  readonly home: string
  /** Processes of commands that are left in it, in words. */
  listOrphans(): Promise<readonly string[]>
}

export interface MachineOptions {
  readonly directory: string
  readonly cacheDirectory: string
  readonly system: System
  readonly teardown: Teardown
  readonly say: (line: string) => void
}

/** The lab of a run in this directory, made or not. */
export const openLabOf = (directory: string, cacheDirectory: string, say: (line: string) => void = () => undefined): Lab => openLab({ name: labName, directory: labDirectoryOf(directory), cacheDirectory, log: say })

/** The machine, booted, its agent installed and started. */
export async function startMachine({ directory, cacheDirectory, system, teardown, say }: MachineOptions): Promise<Machine> {
  const lab = openLabOf(directory, cacheDirectory, say)
  teardown(() => lab.down())
  const [view, agent] = await Promise.all([lab.up({ nodes: [name] }), buildAgentPackage(resolve(import.meta.dirname, '..'))])
  // The lab's host does not forward; between these two bridges it does, as long as they are there.
  for (const bridge of [view.bridge, system.network.bridge]) writeFileSync(`/proc/sys/net/ipv4/conf/${bridge}/forwarding`, '1')
  const home = join(lab.node(name).root, homeInside)
  mkdirSync(join(home, name, 'made'), { recursive: true })
  copyFileSync(effectScript, join(home, 'effect.sh'))
  writeFileSync(join(home, name, 'ledger'), '')
  await installAgent(lab, name, { packagePath: agent.path, gateway: system.gateways[0]!, joinToken: await system.makeJoinToken(1), labels: { chaos: 'machine', node: name } })
  say('a systemd-nspawn machine with the agent’s package is up')
  return { set: { label: 'machine', home: homeInside, nodes: [name] }, home: join(home, name), faults: listMachineFaults(lab, view, directory), listOrphans: () => listOrphans(lab) }
}

function listMachineFaults(lab: Lab, { bridge }: LabView, directory: string): readonly Fault[] {
  const { veth } = buildNodeNames(buildLabNames(labDirectoryOf(directory), labName), name, lab.node(name).index)
  const fault = (victim: Victim, harm: Harm, weight: number, kills: number, strike: Fault['strike']): Fault => ({ victim, harm, name, places: [name], weight, kills, strike })
  const systemctl = async (...args: readonly string[]): Promise<void> => void (await lab.exec(name, ['systemctl', ...args]))
  const untilActive = async (): Promise<void> =>
    void (await until('systemd has started the agent again', 60_000, async () => (await lab.exec(name, ['systemctl', 'is-active', '--quiet', 'lichen-agent.service'])).exitCode === 0))
  return [
    fault('agent in machine', 'SIGKILL', 3, 1, async () => {
      await systemctl('kill', '--signal=SIGKILL', '--kill-whom=main', 'lichen-agent.service')
      await pause(200)
      await untilActive()
    }),
    // As an upgrade of the package does: what runs goes on, and the new agent takes it over.
    fault('agent in machine', 'stop', 1, 0, async () => {
      await systemctl('restart', 'lichen-agent.service')
      await untilActive()
    }),
    fault('machine', 'reboot', 1.5, 1, () => lab.reboot(name)),
    fault('machine', 'power loss', 1.5, 1, async () => {
      await lab.kill(name)
      await lab.start(name)
    }),
    fault('machine', 'partition', 1, 0, async (random) => {
      ip('link', 'set', veth, 'nomaster')
      await pause(random.integer(2000, 9000))
      ip('link', 'set', veth, 'master', bridge)
    }),
  ]
}

async function listOrphans(lab: Lab): Promise<readonly string[]> {
  // In brackets, so that pgrep does not find itself by its argument.
  const { stdout } = await lab.exec(name, ['pgrep', '--full', '--list-full', '[e]ffect.sh|[l]ichen-run'])
  return stdout.split('\n').filter((line) => line !== '').map((line) => `process on ${name}: ${line.slice(0, 160)}`)
}
