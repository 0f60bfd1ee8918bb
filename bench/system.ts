/** The system under measurement: server and agents as child processes, spoken to over the public REST API only. */
import { join } from 'node:path'
import { startProgram } from './children.js'

/** The REST API of a server. */
export interface Api {
  readonly apiUrl: string
  /** Bearer token of the administrator. */
  readonly token: string
  request(method: string, path: string, body?: unknown): Promise<{ readonly code: number; readonly body: any }>
  readText(path: string): Promise<string>
}

export interface System extends Api {
  readonly gateway: string
  startAgents(prefix: string, count: number): Promise<void>
  makeJoinToken(uses: number): Promise<string>
  readonly serverPid: number
  stop(): Promise<void>
}

const here = import.meta.dirname

/** The API at this address, spoken to as the administrator. */
export function openApi(apiUrl: string, token: string): Api {
  const headers = { authorization: `Bearer ${token}` }
  return {
    apiUrl,
    token,
    async request(method, path, body) {
      const reply = await fetch(apiUrl + path, { method, headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      const text = await reply.text()
      return { code: reply.status, body: text === '' ? undefined : JSON.parse(text) }
    },
    readText: async (path) => (await fetch(apiUrl + path, { headers })).text(),
  }
}

/** Starts a server with the benchmark catalog on ephemeral loopback ports. */
export async function startSystem(directory: string): Promise<System> {
  const server = startProgram('server.ts', [join(directory, 'server'), join(here, 'catalog')])
  const hello = await server.hear((line) => line.apiUrl !== undefined)
  const children = [server]
  const system: System = {
    ...openApi(hello.apiUrl, hello.adminToken),
    gateway: `127.0.0.1:${hello.gatewayPort}`,
    serverPid: server.pid,
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
      const started = shares.map(([from, to]) => startProgram('agents.ts', [directory, system.gateway, token, String(from), String(to), prefix]))
      children.push(...started)
      await Promise.all(started.map((child) => child.hear((line) => line.agents > 0)))
      for (;;) {
        const nodes = (await system.request('GET', '/v1/nodes?limit=500')).body.items as { state: string; id: string }[]
        if (nodes.filter((node) => node.id.startsWith(prefix) && node.state === 'ready').length === count) return
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    },
    async stop() {
      for (const child of children.reverse()) await child.end('SIGTERM')
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

/** Submits the plan. Resolves with the id of the task. */
export async function submitTask(api: Api, plan: object): Promise<string> {
  const { code, body } = await api.request('POST', '/v1/tasks', { kind: 'apply', plan })
  if (code !== 202) throw new Error(JSON.stringify(body))
  return body.id
}

/** Submits and follows the event stream to the end of the task. Resolves with ms from submit to the recorded end. @throws when it did not succeed */
export async function runTask(api: Api, plan: object): Promise<{ id: string; elapsedMs: number }> {
  const start = performance.now()
  const id = await submitTask(api, plan)
  await untilSucceeded(api, id)
  return { id, elapsedMs: performance.now() - start }
}

/** Follows the event stream to the end of the task. @throws when it did not succeed */
export async function untilSucceeded(api: Api, id: string): Promise<void> {
  const outcome = await readOutcome(api, id)
  if (outcome !== 'succeeded') throw new Error(`task ${id} ended ${outcome}`)
}

async function readOutcome(api: Api, id: string): Promise<string> {
  const reply = await fetch(`${api.apiUrl}/v1/tasks/${id}/events?follow=true`, { headers: { authorization: `Bearer ${api.token}`, accept: 'text/event-stream' } })
  let text = ''
  for await (const part of reply.body!.pipeThrough(new TextDecoderStream())) {
    text = text.slice(-4096) + part
    const match = /"type":"taskEnded","outcome":"(\w+)"/.exec(text)
    if (match) return match[1]!
  }
  return 'unknown'
}
