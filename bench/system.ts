/** The system under measurement: server and agents as child processes, spoken to over the public REST API only. */
import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface System {
  readonly apiUrl: string
  readonly gateway: string
  /** Bearer token of the administrator. */
  readonly token: string
  request(method: string, path: string, body?: unknown): Promise<{ readonly code: number; readonly body: any }>
  startAgents(prefix: string, count: number): Promise<void>
  makeJoinToken(uses: number): Promise<string>
  readonly serverPid: number
  stop(): Promise<void>
}

const here = import.meta.dirname

/** Starts a TypeScript child program and resolves with its first line of output, parsed as JSON. */
async function startChild(file: string, args: string[]): Promise<{ child: ChildProcess; hello: any }> {
  const child = spawn(process.execPath, [...(process.env['LICHEN_BENCH_PROFILE'] ? ['--cpu-prof', `--cpu-prof-dir=${process.env['LICHEN_BENCH_PROFILE']}`] : []), '--import=tsx', join(here, file), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout! })
  const hello = await new Promise<any>((resolve, reject) => {
    lines.on('line', (line) => line.startsWith('{') && resolve(JSON.parse(line)))
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code} before it was ready`)))
  })
  return { child, hello }
}

/** Starts a server with the benchmark catalog on ephemeral loopback ports. */
export async function startSystem(directory: string): Promise<System> {
  const { child: server, hello } = await startChild('server.ts', [join(directory, 'server'), join(here, 'catalog')])
  const children = [server]
  const headers = { authorization: `Bearer ${hello.adminToken}` }
  const system: System = {
    apiUrl: hello.apiUrl,
    gateway: `127.0.0.1:${hello.gatewayPort}`,
    token: hello.adminToken,
    serverPid: server.pid!,
    async request(method, path, body) {
      const reply = await fetch(hello.apiUrl + path, { method, headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      const text = await reply.text()
      return { code: reply.status, body: text === '' ? undefined : JSON.parse(text) }
    },
    async makeJoinToken(uses) {
      const reply = await system.request('POST', '/v1/join-tokens', { uses, ttlS: 3600 })
      if (reply.code >= 300) throw new Error(JSON.stringify(reply.body))
      return reply.body.token
    },
    async startAgents(prefix, count) {
      const token = await system.makeJoinToken(count)
      // In two processes: on one core, fifty nodes' worth of signatures to verify would be measured, and nothing else.
      const half = Math.ceil(count / 2)
      const shares = count === 1 ? [[0, 1]] : [[0, half], [half, count]]
      for (const { child } of await Promise.all(shares.map(([from, to]) => startChild('agents.ts', [directory, system.gateway, token, String(from), String(to), prefix])))) children.push(child)
      for (;;) {
        const nodes = (await system.request('GET', '/v1/nodes?limit=500')).body.items as { state: string; id: string }[]
        if (nodes.filter((node) => node.id.startsWith(prefix) && node.state === 'ready').length === count) return
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    },
    async stop() {
      for (const child of children.reverse()) {
        child.kill('SIGTERM')
        await new Promise((resolve) => child.once('exit', resolve))
      }
    },
  }
  return system
}

/** A plan of `count` components of a blueprint on all nodes with the label `bench: prefix`. */
export const makePlan = (name: string, prefix: string, blueprint: string, count: number, parameters?: Record<string, unknown>): object => ({
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name },
  nodes: [{ name: 'all', select: { bench: prefix } }],
  components: Array.from({ length: count }, (_, index) => ({ name: `c${index}`, blueprint, on: 'all', ...(parameters ? { with: parameters } : {}) })),
  rollout: { maxParallelNodes: 10_000 },
})

/** Submits and follows the event stream to the end of the task. Resolves with ms from submit to the recorded end. @throws when it did not succeed */
export async function runTask(system: System, plan: object): Promise<{ id: string; elapsedMs: number }> {
  const start = performance.now()
  const headers = { authorization: `Bearer ${system.token}`, 'content-type': 'application/json' }
  const accepted = await fetch(`${system.apiUrl}/v1/tasks`, { method: 'POST', headers, body: JSON.stringify({ kind: 'apply', plan }) })
  if (accepted.status !== 202) throw new Error(await accepted.text())
  const { id } = (await accepted.json()) as { id: string }
  const outcome = await readOutcome(system, id)
  if (outcome !== 'succeeded') throw new Error(`task ${id} ended ${outcome}`)
  return { id, elapsedMs: performance.now() - start }
}

async function readOutcome(system: System, id: string): Promise<string> {
  const reply = await fetch(`${system.apiUrl}/v1/tasks/${id}/events?follow=true`, { headers: { authorization: `Bearer ${system.token}`, accept: 'text/event-stream' } })
  let text = ''
  for await (const part of reply.body!.pipeThrough(new TextDecoderStream())) {
    text = text.slice(-4096) + part
    const match = /"type":"taskEnded","outcome":"(\w+)"/.exec(text)
    if (match) return match[1]!
  }
  return 'unknown'
}
