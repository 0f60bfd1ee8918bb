import { styleText } from 'node:util'
import type { Server } from './start-server.js'

/** Lines that a person sees when the server is up: where it is, and three commands to try, ready to copy. Without colours they are plain ASCII. */
export function buildBanner(input: { readonly server: Pick<Server, 'apiUrl' | 'gatewayAddress'>; readonly dataDirectory: string; readonly checkout: string; readonly workingDirectory: string; readonly version: string; readonly hasColour: boolean }): string[] {
  const style = (format: Parameters<typeof styleText>[0], text: string) => (input.hasColour ? styleText(format, text) : text)
  const isInCheckout = input.workingDirectory === input.checkout
  const lichen = isInCheckout ? 'npx lichen' : `node ${input.checkout}/packages/cli/bin/lichen.js`
  const example = isInCheckout ? 'examples/hello.yaml' : `${input.checkout}/examples/hello.yaml`
  const commands: readonly (readonly [string, string])[] = [
    [`${lichen} agent --local /tmp/lichen-node`, 'a node on this machine, confined to that directory; leave it running'],
    [`${lichen} apply ${example}`, 'in one more terminal'],
    [`${lichen} logs -f latest`, 'what it printed'],
  ]
  const width = Math.max(...commands.map(([text]) => text.length))
  return [
    '',
    `${style('bold', `Lichen ${input.version}`)} is running; Ctrl-C stops it`,
    `  API       ${input.server.apiUrl}  (documentation: ${input.server.apiUrl}/docs)`,
    `  gateway   ${input.server.gatewayAddress}  (where nodes join)`,
    `  data      ${input.dataDirectory}  (token of the administrator: admin.token)`,
    '',
    'Next, in another terminal:',
    ...commands.map(([text, meaning]) => `  ${style('cyan', text.padEnd(width))}  ${style('dim', `# ${meaning}`)}`),
    '',
  ]
}
