/** The server and agents as processes of their own, so that they can be killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'

const packages = resolve(import.meta.dirname, '../../packages')
const { LICHEN_TOKEN: _token, LICHEN_URL: _url, ...environment } = process.env

/** A blueprint `script` that runs one: checked by a file it makes, or not checkable. */
const blueprint = `apiVersion: lichen.dev/v1
kind: Blueprint
name: script
version: 1.0.0
summary: for tests
parameters:
  type: object
  additionalProperties: false
  required: [script]
  properties: {script: {type: string}, creates: {type: string, default: ''}}
actions:
  run:
    commands:
      - {name: the script, when: 'params.creates == ""', run: {shell: '{{ params.script }}', uncheckable: true}}
      - {name: the checked script, when: 'params.creates != ""', run: {shell: '{{ params.script }}', creates: '{{ params.creates }}'}}
  remove:
    commands: [{name: nothing to remove, note: {text: nothing}}]
`

export interface ServerProcess {
  readonly directory: string
  /** Starts it, or starts it again on the same data and the same gateway port. */
  start(): Promise<void>
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  call<T>(method: string, path: string, body?: unknown): Promise<T>
  gateway(): string
  stderr(): string
}

export async function killProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((done) => child.once('exit', done))
  child.kill('SIGKILL')
  await gone
}

/** The all-in-one server as a process, with a data directory of its own. */
export async function startServerProcess(t: Test): Promise<ServerProcess> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-process-'))
  mkdirSync(join(directory, 'catalog/script'), { recursive: true })
  writeFileSync(join(directory, 'catalog/script/blueprint.yaml'), blueprint)
  let child: ChildProcess | undefined
  let errors = ''
  let note = { pid: 0, apiUrl: '', gatewayAddress: '127.0.0.1:0' }

  const server: ServerProcess = {
    directory,
    async start() {
      const port = note.gatewayAddress.split(':')[1] ?? '0'
      const started = spawn(process.execPath, [join(packages, 'server/dist/main.js')], {
        env: { ...environment, LICHEN_DATA_DIRECTORY: join(directory, 'data'), LICHEN_PORT: '0', LICHEN_GATEWAY_HOST: '127.0.0.1', LICHEN_GATEWAY_PORT: port, LICHEN_CATALOG: join(directory, 'catalog'), LICHEN_LOG_LEVEL: 'warn' },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child = started
      started.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk))
      note = await eventually(t, 'the server is up', () => {
        if (started.exitCode !== null) throw new Error(errors)
        const read = JSON.parse(readFileSync(join(directory, 'data/server.json'), 'utf8')) as typeof note
        return read.pid === started.pid ? read : undefined
      }, { timeoutMs: 20_000 })
    },
    kill: async () => void (child && (await killProcess(child))),
    async call(method, path, body) {
      const token = readFileSync(join(directory, 'data/admin.token'), 'utf8').trim()
      const response = await fetch(`${note.apiUrl}/v1${path}`, { method, headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
      return (text === '' ? undefined : JSON.parse(text)) as never
    },
    gateway: () => note.gatewayAddress,
    stderr: () => errors,
  }
  t.teardown(async () => {
    await server.kill()
    rmSync(directory, { recursive: true, force: true })
  })
  await server.start()
  return server
}

/** An agent as a process. Gives back a function that starts it (again), and its child. */
export function prepareAgentProcess(t: Test, server: ServerProcess, name: string, token: string): { start(): void; kill(): Promise<void> } {
  const directory = join(server.directory, name)
  mkdirSync(directory)
  const config = join(directory, 'agent.yaml')
  writeFileSync(config, `gateway: ${server.gateway()}\ntoken: ${token}\nname: ${name}\ndataDirectory: ${join(directory, 'data')}\naddress: 127.0.0.1\n`)
  let child: ChildProcess | undefined
  t.teardown(async () => void (child && (await killProcess(child))))
  return {
    start() {
      child = spawn(process.execPath, [join(packages, 'agent/dist/main.js'), 'run', '--config', config], { stdio: 'ignore' })
    },
    kill: async () => void (child && (await killProcess(child))),
  }
}
