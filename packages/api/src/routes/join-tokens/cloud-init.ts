/**
 * A cloud-init document that makes a machine join at its first boot: it writes the agent's configuration and starts the agent, which is in the
 * image. Source: https://cloudinit.readthedocs.io/en/latest/reference/modules.html (write_files, runcmd).
 */
export function buildCloudInit(input: { readonly gatewayAddress: string; readonly token: string; readonly labels: Readonly<Record<string, string>> }): string {
  const labels = Object.entries(input.labels)
  const lines = [
    '#cloud-config',
    'write_files:',
    '  - path: /etc/lichen/agent.yaml',
    "    permissions: '0600'",
    '    owner: root:root',
    '    content: |',
    `      gateway: ${JSON.stringify(input.gatewayAddress)}`,
    `      token: ${JSON.stringify(input.token)}`,
    ...(labels.length === 0 ? [] : ['      labels:', ...labels.map(([key, value]) => `        ${JSON.stringify(key)}: ${JSON.stringify(value)}`)]),
    'runcmd:',
    '  - [systemctl, enable, lichen-agent.service]',
    '  - [systemctl, restart, lichen-agent.service]',
  ]
  return `${lines.join('\n')}\n`
}
