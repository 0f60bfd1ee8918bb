/**
 * A private RabbitMQ for tests, one node or a cluster: own node names, ports, epmd, cookie and data in a temporary directory. It is the distribution's server,
 * run as the current user; one that runs already is neither used nor touched.
 */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { buildNodeName, findRabbitServer, openRabbitNode, startEpmd, stopChild, type RabbitNode, type RabbitNodeOptions } from './rabbitmq-node.js'

export interface RabbitCluster {
  readonly nodes: readonly RabbitNode[]
  /** All nodes, with commas between them. */
  readonly url: string
  /** Cuts this node off from the others (both ways, noticed at once), until the returned function is called. Clients reach it still. Takes some seconds. */
  isolate(node: RabbitNode): Promise<() => Promise<void>>
}

export interface RabbitOptions {
  /** See RabbitNodeOptions. */
  readonly netTickS?: number
  readonly partitionHandling?: 'autoheal' | 'pause_minority'
  readonly tls?: NonNullable<RabbitNodeOptions['tls']>
}

const script = resolve(import.meta.dirname, '../scripts/install-rabbitmq.mjs')
const address = '127.0.0.1'

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, address, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolvePort(port))
    })
  })
}

/** Undefined, with the test skipped, when there is no server to run; in CI (`CI=true`) that fails. */
function findServer(t: Test): string | undefined {
  const found = findRabbitServer(script)
  if ('server' in found) return found.server
  if (process.env.CI === 'true') throw new Error(found.missing)
  t.pass('a private RabbitMQ', { skip: found.missing })
  return undefined
}

/** Nodes on the loopback address that share an epmd, not started yet. They go away with the test. */
async function openNodes(t: Test, server: string, count: number, options: RabbitOptions): Promise<{ readonly nodes: RabbitNode[]; readonly cookie: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-rabbitmq-'))
  const cookie = randomUUID()
  const epmd = await freePort()
  const names = Array.from({ length: count }, (_, index) => `lichen-test-${epmd}-${index + 1}`)
  const settings: RabbitNodeOptions[] = []
  for (const name of names) {
    const ports = { amqp: await freePort(), distribution: await freePort(), epmd, ...(options.tls ? { tls: await freePort() } : {}) }
    settings.push({ directory: join(directory, name), name, address, ports, cookie, cluster: names.map((one) => buildNodeName({ name: one, address })), ...options })
  }
  const nodes = settings.map((one) => openRabbitNode(one, server))
  const epmdProcess = startEpmd(settings[0] as RabbitNodeOptions)
  t.teardown(async () => {
    await Promise.all(nodes.map((node) => node.stop('SIGKILL')))
    await stopChild(epmdProcess, 'SIGTERM')
    rmSync(directory, { recursive: true, force: true })
  })
  return { nodes, cookie }
}

/** A private RabbitMQ that answers; it goes away with the test. Undefined, with the test skipped, when there is none to run; in CI (`CI=true`) that fails. */
export async function startRabbit(t: Test, options: RabbitOptions = {}): Promise<RabbitNode | undefined> {
  const server = findServer(t)
  if (server === undefined) return undefined
  const { nodes } = await openNodes(t, server, 1, options)
  const [node] = nodes as [RabbitNode]
  await node.start()
  return node
}

/**
 * A cluster of this many nodes, all there; otherwise like `startRabbit`. Mind with RabbitMQ 3.10: a quorum queue that was declared less than a second or two before a SIGKILL may never have
 * a leader again; and while a node is frozen and the others have not noticed (`netTickS`), nothing can be declared anywhere.
 */
export async function startRabbitCluster(t: Test, count: number, options: RabbitOptions = {}): Promise<RabbitCluster | undefined> {
  const server = findServer(t)
  if (server === undefined) return undefined
  const { nodes, cookie } = await openNodes(t, server, count, options)
  await Promise.all(nodes.map((node) => node.start()))
  const others = (node: RabbitNode): readonly RabbitNode[] => nodes.filter((one) => one !== node)
  return {
    nodes,
    url: nodes.map((node) => node.url).join(','),
    async isolate(node) {
      // A wrong cookie for the others is refused at each try to connect, whichever side tries.
      const evaluate = (secret: string, after: string) => node.control('eval', `${others(node).map(({ nodeName }) => `erlang:set_cookie('${nodeName}', '${secret}')`).join(', ')}, ${others(node).map(({ nodeName }) => `${after}('${nodeName}')`).join(', ')}.`)
      await evaluate('none', 'erlang:disconnect_node')
      return async () => void (await evaluate(cookie, 'net_kernel:connect_node'))
    },
  }
}
