/**
 * A cloud-init document that makes a machine join at its first boot: it writes the agent's configuration and starts the agent, which is in the
 * image. Source: https://cloudinit.readthedocs.io/en/latest/reference/modules.html (write_files, runcmd).
 */
export function buildCloudInit(input: { readonly gateways: readonly string[]; readonly token: string; readonly labels: Readonly<Record<string, string>> }): string {
  const labels = Object.entries(input.labels)
  const lines = [
    '#cloud-config',
    'write_files:',
    '  - path: /etc/lichen/agent.yaml',
    "    permissions: '0600'",
    '    owner: root:root',
    '    content: |',
    `      ${buildGatewayLine(input.gateways)}`,
    `      token: ${JSON.stringify(input.token)}`,
    ...(labels.length === 0 ? [] : ['      labels:', ...labels.map(([key, value]) => `        ${JSON.stringify(key)}: ${JSON.stringify(value)}`)]),
    'runcmd:',
    '  - [systemctl, enable, lichen-agent.service]',
    '  - [systemctl, restart, lichen-agent.service]',
  ]
  return `${lines.join('\n')}\n`
}

/** The line of the agent's configuration that names these gateways (`host:port`): one as text, several as a list. */
export const buildGatewayLine = (gateways: readonly string[]): string => `gateway: ${gateways.length === 1 ? JSON.stringify(gateways[0]) : `[${gateways.map((gateway) => JSON.stringify(gateway)).join(', ')}]`}`
