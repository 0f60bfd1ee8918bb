import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { once } from 'node:events'
import type { Test } from 'tap'
import { pino } from 'pino'
import { startAgent, type Agent } from '@lichen/agent'
import { clockOf } from '@lichen/core'
import { startServer, type Server } from '@lichen/server'
import { stringify } from 'yaml'

const root = resolve(import.meta.dirname, '../..')
export const log = pino({ level: process.env['LICHEN_TEST_LOG'] ?? 'silent' })

/** A catalog of our own: a file whose text is a parameter, a script that runs until its marker is there, and one of which nobody can see whether it ran. */
const blueprints = {
  'text-file': `
apiVersion: lichen.dev/v1
kind: Blueprint
name: text-file
version: 1.0.0
summary: A file with a text
parameters: {type: object, additionalProperties: false, required: [text], properties: {text: {type: string}}}
operations:
  append:
    summary: Append a word to another file
    parameters: {type: object, additionalProperties: false, properties: {word: {type: string, default: again}}}
actions:
  write:
    commands:
      - name: write the text
        file: {path: '{{ node.workspace }}/{{ component.name }}.txt', content: "{{ params.text }}\\n", mode: '0644'}
  append:
    phase: operation
    operation: append
    commands:
      - name: append the word
        run: {shell: 'echo {{ operation.params.word }} >> words', cwd: '{{ node.workspace }}', uncheckable: true}
  check:
    commands:
      - name: the text is there
        probe: {command: [test, -e, '{{ node.workspace }}/{{ component.name }}.txt'], deadlineMs: 0}
  remove:
    commands:
      - name: remove the text
        file: {path: '{{ node.workspace }}/{{ component.name }}.txt', state: absent}
`,
  giver: `
apiVersion: lichen.dev/v1
kind: Blueprint
name: giver
version: 1.0.0
summary: A file that people get, a secret and a list
parameters: {type: object, additionalProperties: false, required: [text], properties: {text: {type: string}}}
outputs:
  file: {type: string, secret: true, value: outputs.give.file, description: What was written.}
  port: {type: integer, value: '8080', description: A number.}
  members: {type: list, value: '["a", node.id]'}
actions:
  give:
    commands:
      - name: write the text
        file: {path: '{{ node.workspace }}/{{ component.name }}.txt', content: "{{ params.text }}", mode: '0644', secret: true}
      - name: give it
        run:
          argv: [test, -s, '{{ node.workspace }}/{{ component.name }}.txt']
          unless: [test, -s, '{{ node.workspace }}/{{ component.name }}.txt']
          outputs: {file: {from: file, path: '{{ node.workspace }}/{{ component.name }}.txt', secret: true}}
  remove:
    commands: [{name: nothing to remove, note: {text: nothing}}]
`,
  keeper: `
apiVersion: lichen.dev/v1
kind: Blueprint
name: keeper
version: 1.0.0
summary: A file with a generated secret, and one with another that stays
secrets: {password: {length: 20}, key: {rotate: false}}
actions:
  keep:
    commands:
      - name: write the password
        file: {path: '{{ node.workspace }}/{{ component.name }}.password', content: '{{ secrets.password }}', mode: '0600', secret: true}
  lock:
    commands:
      - name: write the key
        file: {path: '{{ node.workspace }}/{{ component.name }}.key', content: '{{ secrets.key }}', mode: '0600', secret: true}
  remove:
    commands: [{name: nothing to remove, note: {text: nothing}}]
`,
  script: `
apiVersion: lichen.dev/v1
kind: Blueprint
name: script
version: 1.0.0
summary: A script that is run once
parameters: {type: object, additionalProperties: false, required: [script], properties: {script: {type: string}}}
actions:
  run:
    retry: {attempts: 1}
    commands:
      - name: run the script
        run:
          shell: "{{ params.script }}\\ntouch {{ node.workspace }}/{{ component.name }}.done"
          cwd: '{{ node.workspace }}'
          creates: '{{ node.workspace }}/{{ component.name }}.done'
  check:
    commands:
      - name: it has run
        probe: {command: [test, -e, '{{ node.workspace }}/{{ component.name }}.done'], deadlineMs: 0}
  remove:
    commands:
      - name: forget that it has run
        file: {path: '{{ node.workspace }}/{{ component.name }}.done', state: absent}
`,
  risky: `
apiVersion: lichen.dev/v1
kind: Blueprint
name: risky
version: 1.0.0
summary: A script that leaves no trace
parameters: {type: object, additionalProperties: false, required: [script], properties: {script: {type: string}}}
actions:
  run:
    retry: {attempts: 1}
    commands:
      - name: run the script
        run: {shell: '{{ params.script }}', cwd: '{{ node.workspace }}', uncheckable: true}
  remove:
    commands: [{name: nothing to remove, note: {text: nothing}}]
`,
}

interface Component {
  readonly blueprint: string
  readonly with?: Readonly<Record<string, unknown>>
  readonly after?: readonly string[]
  readonly approve?: boolean
}

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  /** What stdout holds so far. */
  stdout(): string
  stderr(): string
}

/** The `lichen` program with this command line, in this directory, without settings from the environment of the test. */
export function startLichen(t: Test, directory: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LICHEN_') && name !== 'FORCE_COLOR' && name !== 'NODE_OPTIONS'))
  const child = spawn(process.execPath, [join(root, 'packages/cli/bin/lichen.js'), ...args], { cwd: directory, env: { ...inherited, ...env }, stdio: 'pipe' })
  const text = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk))
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'close').then(([code, signal]) => ({ code: (code as number | null) ?? (signal === 'SIGINT' ? 130 : -1), ...text }))
  return { child, ended, stdout: () => text.stdout, stderr: () => text.stderr }
}

/** One command line to its end. */
export const runLichen = (t: Test, directory: string, ...args: readonly string[]): Promise<Ended> => startLichen(t, directory, args).ended

export interface System {
  /** Where `lichen` is run: has `.lichen` in it. */
  readonly directory: string
  /** What the agent may change. */
  readonly workspace: string
  readonly server: Server
  readonly agent: Agent
  /** As if the node had lost power and come back: what ran is gone, and nobody saw its end. */
  rebootNode(): Promise<void>
  /** A plan file of these components (name → blueprint and parameters), all on the one node. */
  plan(components: Readonly<Record<string, Component>>, name?: string): string
  lichen(...args: readonly string[]): Promise<Ended>
  /** Stops the server and starts it again on the same ports and data. */
  restart(whileDown?: () => Promise<void>): Promise<void>
}

/** A server in this process with an agent that is confined to a directory, and a checkout-like directory to run `lichen` in. */
export async function startSystem(t: Test): Promise<System> {
  const directory = t.testdir({})
  const workspace = join(directory, 'node')
  mkdirSync(workspace)
  writeCatalog(join(directory, 'catalog'))
  const start = (port: number, gatewayPort: number) =>
    startServer({ dataDirectory: join(directory, '.lichen'), catalogDirectory: join(directory, 'catalog'), host: '127.0.0.1', port, gatewayHost: '127.0.0.1', gatewayPort, version: '0.0.0-test', log })
  let server = await start(0, 0)
  t.teardown(() => server.stop())
  const agent = await startConfinedAgent(t, server, workspace)
  return {
    directory,
    workspace,
    get server() {
      return server
    },
    agent,
    rebootNode: async () => {
      await agent.stop()
      const again = await startAgent({ gateway: `127.0.0.1:${server.gatewayPort}`, name: 'node-1', dataDirectory: `${workspace}-agent`, confine: workspace, clock: clockOf(globalThis), log, bootId: 'another-boot' })
      t.teardown(() => again.stop())
    },
    plan: (components, name = 'test') => writePlan(directory, components, name),
    lichen: (...args) => runLichen(t, directory, ...args),
    restart: async (whileDown) => {
      const { port } = new URL(server.apiUrl)
      const { gatewayPort } = server
      await server.stop()
      await whileDown?.()
      server = await start(Number(port), gatewayPort)
    },
  }
}

/** Writes the test's blueprints. */
export function writeCatalog(directory: string): void {
  for (const [name, text] of Object.entries(blueprints)) {
    mkdirSync(join(directory, name), { recursive: true })
    writeFileSync(join(directory, name, 'blueprint.yaml'), text)
  }
}

/** A plan file of these components on any one node. */
export function writePlan(directory: string, components: Readonly<Record<string, Component>>, name: string): string {
  const path = join(directory, `${name}.yaml`)
  writeFileSync(path, stringify({ apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name }, nodes: [{ name: 'any', count: 1 }], components: Object.entries(components).map(([component, rest]) => ({ name: component, on: 'any', ...rest })) }))
  return path
}

/** An agent of this process that may change nothing outside of `workspace`, joined and connected. */
export async function startConfinedAgent(t: Test, server: Pick<Server, 'apiUrl' | 'gatewayPort' | 'adminToken'>, workspace: string, name = 'node-1'): Promise<Agent> {
  const response = await fetch(`${server.apiUrl}/v1/join-tokens`, { method: 'POST', headers: { authorization: `Bearer ${server.adminToken}`, 'content-type': 'application/json' }, body: JSON.stringify({ uses: 1 }) })
  const { token } = (await response.json()) as { token: string }
  const agent = await startAgent({ gateway: `127.0.0.1:${server.gatewayPort}`, token, name, dataDirectory: `${workspace}-agent`, confine: workspace, clock: clockOf(globalThis), log })
  t.teardown(() => agent.stop())
  return agent
}
