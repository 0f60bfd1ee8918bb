/**
 * Real nodes and a real server for an end-to-end test: lab machines with the agent's .deb, and the all-in-one server as a process of its own, so
 * that everything in it can be killed. All of it is gone after the test, whatever happened.
 */
import { cpSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { buildAgentPackage, callApi, createJoinToken, installAgent, runInNode, startServerProcess, waitForNodes, type ServerProcess } from '@lichen/demo'
import { openLab, type Lab } from '@lichen/lab'
import { eventually } from '../eventually.js'
import { cacheDirectory } from '../lab/lab-fixture.js'

export const checkout = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** Slow machines and cold caches take minutes for what takes seconds otherwise. */
export const patienceMs = 240_000

export interface Task {
  readonly id: string
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
  readonly failure?: { readonly code: string; readonly message: string } | null
  readonly timing: { readonly durationMs: number; readonly criticalPath: readonly { readonly id: string; readonly beganAt: number; readonly endedAt: number; readonly waitedMs: number }[] }
}

export interface CommandResult {
  readonly name: string
  readonly outcome: string
  readonly changed: boolean
  readonly settledByCheck?: boolean
  readonly diff?: string
}

export interface Action {
  readonly id: string
  readonly component: string
  readonly name: string
  readonly node: string
  readonly state: string
  readonly attempt: number
  readonly result: { readonly changed: boolean; readonly commands: readonly CommandResult[]; readonly failure?: { readonly code: string; readonly message: string } } | null
}

export interface Cluster {
  readonly lab: Lab
  /** The server that runs now. */
  server(): ServerProcess
  /** SIGKILL, and a new one on the same data and ports. */
  killAndRestartServer(): Promise<void>
  /** What a shell script in a node printed. @throws when its exit code is not 0. */
  shell(node: string, script: string): Promise<string>
  /** One more node, which joins. */
  addNode(node: string): Promise<void>
  submit(kind: 'apply' | 'check' | 'destroy', plan: unknown): Promise<string>
  /** Runs an operation on what was applied, and gives back the task. */
  operate(deployment: string, request: { readonly operation: string; readonly components?: readonly string[]; readonly nodes?: readonly string[] }): Promise<string>
  task(id: string): Promise<Task>
  actions(id: string): Promise<readonly Action[]>
  /** The lines of its log. */
  log(id: string): Promise<string>
  /** The task once it has ended. */
  ended(t: Test, id: string, timeoutMs?: number): Promise<Task>
  /** Checks again and again until all is as this plan says, without a hand. */
  settled(t: Test, what: string, plan: unknown, timeoutMs: number): Promise<void>
  /** Comments what failed in a task, retried or not, and its critical path. */
  tell(t: Test, id: string): Promise<void>
  /** Resolves as soon as a process of the node has a command line that matches. */
  running(t: Test, node: string, pattern: string): Promise<void>
}

export interface ClusterOptions {
  /** With all that a kubelet needs of a machine. */
  readonly privileged?: boolean
  /** Interfaces without addresses beside `host0`. */
  readonly links?: readonly string[]
  /** Of a node. Default: `role`, its own name. */
  readonly labelsOf?: (node: string) => Readonly<Record<string, string>>
}

/** A cluster with these nodes. */
export async function startCluster(t: Test, labName: string, nodes: readonly string[], { privileged = false, links = [], labelsOf = (node) => ({ role: node }) }: ClusterOptions = {}): Promise<Cluster> {
  // always the same place, so that what a run left that was killed is found and removed by the next
  const directory = join(checkout, 'build', labName)
  const lab = openLab({ name: labName, directory: join(directory, 'labs'), cacheDirectory, log: (line) => t.comment(line) })
  const removeAll = async () => {
    await lab.down()
    rmSync(directory, { recursive: true, force: true })
  }
  await removeAll()
  t.teardown(removeAll)
  cpSync(join(checkout, 'catalog'), join(directory, 'catalog'), { recursive: true })
  cpSync(join(checkout, 'test/e2e/catalog'), join(directory, 'catalog'), { recursive: true })
  const [view, agent] = await Promise.all([lab.up({ nodes, isPrivileged: privileged, links }), buildAgentPackage(checkout)])
  const start = (ports: { readonly port: number; readonly gatewayPort: number }) =>
    startServerProcess({ dataDirectory: join(directory, 'server'), catalogDirectory: join(directory, 'catalog'), gatewayHost: view.gateway, env: process.env, ...ports })
  let server = await start({ port: 0, gatewayPort: 0 })
  t.teardown(() => server.stop())
  const joinAll = async (names: readonly string[]): Promise<void> => {
    const joinToken = await createJoinToken(server, names.length)
    await Promise.all(names.map((node) => installAgent(lab, node, { packagePath: agent.path, gateway: server.gatewayAddress, joinToken, labels: labelsOf(node) })))
    await waitForNodes(server, names, patienceMs)
  }
  await joinAll(nodes)
  const task = (id: string) => callApi<Task>(server, 'GET', `/v1/tasks/${id}`)
  const actions = async (id: string) => (await callApi<{ readonly items: readonly Action[] }>(server, 'GET', `/v1/tasks/${id}/actions?limit=1000`)).items
  const submit: Cluster['submit'] = async (kind, plan) => (await callApi<Task>(server, 'POST', '/v1/tasks', { kind, plan })).id
  const ended: Cluster['ended'] = async (test, id, timeoutMs = patienceMs) => {
    const seen = await eventually(test, `task ${id} ends`, async () => {
      const now = await task(id)
      return now.state === 'ended' ? now : undefined
    }, { timeoutMs, intervalMs: 200 })
    if (seen.outcome !== 'succeeded') test.comment(`task ${id} ${seen.outcome}: ${seen.reason}`)
    return seen
  }
  return {
    lab,
    server: () => server,
    killAndRestartServer: async () => {
      const ports = { port: portOf(server.apiUrl), gatewayPort: portOf(server.gatewayAddress) }
      await server.kill()
      server = await start(ports)
    },
    addNode: async (node) => {
      await lab.up({ nodes: [node], isPrivileged: privileged, links })
      await joinAll([node])
    },
    shell: (node, script) => runInNode(lab, node, ['bash', '-c', script]),
    submit,
    operate: async (deployment, request) => (await callApi<Task>(server, 'POST', `/v1/deployments/default/${deployment}/operations`, request)).id,
    log: async (id) => (await fetch(`${server.apiUrl}/v1/tasks/${id}/log?format=text`, { headers: { authorization: `Bearer ${server.adminToken}` } })).text(),
    task,
    actions,
    tell: async (test, id) => {
      for (const action of await actions(id)) if (action.result?.failure) test.comment(`${action.id}: ${action.result.failure.message}`)
      for (const { id: step, beganAt, endedAt, waitedMs } of (await task(id)).timing.criticalPath) test.comment(`critical path: ${step}, waited ${waitedMs} ms, took ${endedAt - beganAt} ms`)
    },
    ended,
    settled: async (test, what, plan, timeoutMs) => {
      await eventually(test, `${what}, all is as planned`, async () => {
        const id = await submit('check', plan)
        const { outcome } = await ended(test, id, timeoutMs)
        return outcome === 'succeeded' && (await actions(id)).every(({ result }) => result?.changed !== true)
      }, { timeoutMs, intervalMs: 5_000 })
    },
    running: async (test, node, pattern) => {
      await eventually(test, `${pattern} runs on ${node}`, async () => (await lab.exec(node, ['pgrep', '--full', pattern])).exitCode === 0, { timeoutMs: patienceMs, intervalMs: 30 })
    },
  }
}

/** Runs a part of the test; skipped once an earlier part has failed. (`bail` would end the process without taking the nodes down.) */
export async function step(t: Test, title: string, work: (t: Test) => Promise<void>): Promise<void> {
  await t.test(title, { skip: t.passing() ? false : 'an earlier part failed' }, work)
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1))
