/** The agent put into lab nodes the way users put it into images: its .deb, its configuration file, its systemd unit. */
import type { Lab } from '@lichen/lab'
import { DemoFailure } from './failure.js'

export interface AgentInstallation {
  /** The agent's .deb on the host. */
  readonly packagePath: string
  /** `host:port` of the gateway. */
  readonly gateway: string
  readonly joinToken: string
  readonly labels: Readonly<Record<string, string>>
}

const packagePathInNode = '/var/cache/lichen-agent.deb'

/** Installs the agent (or its new version) in a running node and starts it. @throws DemoFailure with dpkg's output. */
export async function installAgent(lab: Lab, node: string, installation: AgentInstallation): Promise<void> {
  await lab.copyIn(node, installation.packagePath, packagePathInNode)
  // the token is in it
  await lab.writeIn(node, '/etc/lichen/agent.yaml', buildAgentConfiguration(installation), 0o600)
  await runInNode(lab, node, ['sh', '-c', `DEBIAN_FRONTEND=noninteractive dpkg -i ${packagePathInNode} && rm ${packagePathInNode}`])
  // the package starts the agent when it finds a configuration, and restarts it when it is installed again; this is for one that had given up
  await runInNode(lab, node, ['systemctl', 'start', 'lichen-agent.service'])
}

/** The text of /etc/lichen/agent.yaml. */
export function buildAgentConfiguration(installation: Pick<AgentInstallation, 'gateway' | 'joinToken' | 'labels'>): string {
  // JSON strings are YAML strings: no value can break the file
  const labels = Object.entries(installation.labels).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}\n`)
  return `gateway: ${JSON.stringify(installation.gateway)}\ntoken: ${JSON.stringify(installation.joinToken)}\nlabels:\n${labels.join('')}`
}

/** What a program in a node printed. @throws DemoFailure with its output when its exit code is not 0. */
export async function runInNode(lab: Lab, node: string, argv: readonly string[], timeoutMs = 120_000): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.exec(node, argv, { timeoutMs })
  if (exitCode !== 0) throw new DemoFailure(`${node}: ${argv.join(' ').slice(0, 120)}: exit code ${exitCode}`, `${stdout}${stderr}`)
  return stdout
}
