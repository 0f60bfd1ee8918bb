// A cluster of three whose nodes are killed, frozen and cut off while messages go through it.
import t, { type Test } from 'tap'
import { openRabbitBroker, type Broker } from '@lichen/broker'
import { eventually } from '../eventually.js'
import { startRabbitCluster, type RabbitCluster } from '../rabbitmq.js'
import type { RabbitNode } from '../rabbitmq-node.js'

const prefix = 'lichen-test'
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

interface Client {
  readonly broker: Broker
  /** The node that a connection whose name has this word is on. */
  nodeOf(connection: string): RabbitNode | undefined
}

async function openClient(t: Test, cluster: RabbitCluster, options: Partial<Parameters<typeof openRabbitBroker>[0]> = {}): Promise<Client> {
  const hosts = new Map<string, string>()
  const note = (fields: object, message: string): void => {
    const { broker, connection } = fields as { readonly broker?: string; readonly connection?: string }
    if (message === 'connected to RabbitMQ') hosts.set(String(connection), String(broker))
  }
  const quiet = (): void => undefined
  const broker = await openRabbitBroker({ url: cluster.url, prefix, log: { debug: quiet, info: note, warn: quiet, error: quiet }, ...options })
  t.teardown(() => broker.close())
  return {
    broker,
    nodeOf(word) {
      const host = [...hosts].find(([connection]) => connection.includes(word))?.[1]
      return cluster.nodes.find((node) => host !== undefined && new URL(node.url).port === new URL(host).port)
    },
  }
}

/** Publishes without end, one batch after the other, and remembers what was confirmed and what came. */
async function startTraffic({ broker }: Client): Promise<{ readonly confirmed: string[]; readonly received: Set<string>; stop(): Promise<void> }> {
  const confirmed: string[] = []
  const received = new Set<string>()
  let isOver = false
  const stopConsuming = await broker.consume('tasks', 20, async (message) => (received.add(message.id), { verdict: 'ack' }))
  const publishing = (async () => {
    for (let batch = 0; !isOver; batch++) {
      const messages = Array.from({ length: 5 }, (_, index) => ({ id: `m-${batch}-${index}`, body: '{}' }))
      await broker.publish('tasks', messages).then(() => confirmed.push(...messages.map(({ id }) => id)), () => undefined)
      await new Promise((resume) => setTimeout(resume, 10))
    }
  })()
  return {
    confirmed,
    received,
    async stop() {
      isOver = true
      await publishing
      await stopConsuming()
    },
  }
}

/** Resolves with the milliseconds until `probe` is true. */
async function timeUntil(t: Test, what: string, probe: () => boolean | Promise<boolean>, timeoutMs: number): Promise<number> {
  const startedAt = performance.now()
  await eventually(t, what, probe, { timeoutMs })
  return Math.round(performance.now() - startedAt)
}

/** A publish that goes through, or false; never longer than the confirm timeout. */
const publishes = ({ broker }: Client): Promise<boolean> => broker.publish('tasks', [{ id: 'probe', body: '{}' }]).then(() => true, () => false)

function testDeaths(t: Test, cluster: RabbitCluster): void {
  t.test('each node in turn is killed and comes back: every confirmed message arrives, and nobody waits long', async (t) => {
    const client = await openClient(t, cluster)
    const traffic = await startTraffic(client)
    const reopened = { one: 0, two: 0 }
    const got: string[] = []
    const one = await openClient(t, cluster)
    const boxOne = await one.broker.openMailbox('engine-1', () => undefined, () => (reopened.one += 1))
    const two = await openClient(t, cluster)
    await two.broker.openMailbox('engine-2', (message) => got.push(Buffer.from(message.body).toString()), () => (reopened.two += 1))
    await eventually(t, 'messages flow', () => traffic.received.size > 50)
    // A mailbox is open a moment before its connection is told of.
    await eventually(t, 'it is known where the mailboxes are', () => one.nodeOf('mailbox') && two.nodeOf('mailbox'))
    for (const node of cluster.nodes) {
      const before = { ...reopened }
      const isOn = { one: one.nodeOf('mailbox') === node, two: two.nodeOf('mailbox') === node }
      await node.stop('SIGKILL')
      const [confirmed, received] = [traffic.confirmed.length, traffic.received.size]
      const [publishMs, consumeMs, mailboxMs] = await Promise.all([
        timeUntil(t, 'publishing goes on', () => traffic.confirmed.length > confirmed + 20, 20_000),
        timeUntil(t, 'consuming goes on', () => traffic.received.size > received + 20, 20_000),
        timeUntil(t, 'mailboxes go on', () => boxOne.send('engine-2', bytes(node.nodeName)).then((isTaken) => isTaken && got.includes(node.nodeName), () => false), 20_000),
      ])
      t.ok(Math.max(publishMs, consumeMs, mailboxMs) < 15_000, `publishing after ${publishMs} ms, consuming after ${consumeMs} ms, mailboxes after ${mailboxMs} ms`)
      for (const who of ['one', 'two'] as const) t.equal(reopened[who] - before[who] > 0, isOn[who], `mailbox ${who} ${isOn[who] ? 'was' : 'was not'} on the node that died`)
      await node.start()
      await eventually(t, 'messages flow', () => traffic.confirmed.length > confirmed + 50)
    }
    await traffic.stop()
    // Stopped before the last ones came: they wait on the queue.
    const rest = new Set<string>()
    await client.broker.consume('tasks', 50, async (message) => (rest.add(message.id), { verdict: 'ack' }))
    await eventually(t, 'every confirmed message arrived', () => traffic.confirmed.every((id) => traffic.received.has(id) || rest.has(id)))
    t.pass(`${traffic.confirmed.length} messages confirmed`)
  })
}

async function runningNodes(node: RabbitNode): Promise<number> {
  const status = JSON.parse(await node.control('cluster_status', '--formatter=json')) as { readonly running_nodes: readonly string[] }
  return status.running_nodes.length
}

// Lost when a node's RabbitMQ starts anew, which it does after a partition.
async function setPartitionHandling(cluster: RabbitCluster, handling: 'autoheal' | 'pause_minority'): Promise<void> {
  await Promise.all(cluster.nodes.map((node) => node.control('eval', `application:set_env(rabbit, cluster_partition_handling, ${handling}).`)))
}

function testMinorities(t: Test, cluster: RabbitCluster): void {
  t.test('with two nodes gone nothing is confirmed and everybody is told; with one of them back all goes on', async (t) => {
    const client = await openClient(t, cluster, { confirmTimeoutMs: 3_000 })
    const received = new Set<string>()
    await client.broker.consume('tasks', 10, async (message) => (received.add(message.id), { verdict: 'ack' }))
    const box = await client.broker.openMailbox('engine-4', () => undefined)
    const [first, second] = cluster.nodes as [RabbitNode, RabbitNode, RabbitNode]
    await Promise.all([first.stop('SIGKILL'), second.stop('SIGKILL')])
    for (let probe = 0; probe < 3; probe++) {
      const startedAt = performance.now()
      await t.rejects(client.broker.publish('tasks', [{ id: 'lost', body: '{}' }]), { code: 'BROKER_UNAVAILABLE' })
      t.ok(performance.now() - startedAt < 5_000, 'the caller does not wait longer than its confirm timeout')
    }
    await t.rejects(client.broker.listDeadLetters(1), { code: 'BROKER_UNAVAILABLE' })
    await first.start()
    await eventually(t, 'publishing goes on', () => publishes(client), { timeoutMs: 60_000 })
    await eventually(t, 'bells arrive', () => client.broker.publish('tasks', [{ id: 'after', body: '{}' }]).then(() => received.has('after')), { timeoutMs: 60_000 })
    await eventually(t, 'and mailboxes work', () => box.send('engine-4', bytes('x')).catch(() => false), { timeoutMs: 60_000 })
    await second.start()
    await eventually(t, 'all nodes are there', async () => (await runningNodes(second)) === 3, { timeoutMs: 60_000, intervalMs: 500 })
  })

  for (const handling of ['autoheal', 'pause_minority'] as const) {
    t.test(`clients of a node that is cut off from the others go on with the majority (${handling})`, async (t) => {
      await setPartitionHandling(cluster, handling)
      const client = await openClient(t, cluster, { confirmTimeoutMs: 3_000 })
      const node = client.nodeOf('publisher') as RabbitNode
      const heal = await cluster.isolate(node)
      const publishMs = await timeUntil(t, 'publishing goes on elsewhere', async () => (await publishes(client)) && client.nodeOf('publisher') !== node, 30_000)
      t.ok(publishMs < 25_000, `after ${publishMs} ms`)
      if (handling === 'pause_minority') t.equal((await node.control('eval', 'rabbit:is_running().')).trim(), 'false', 'the node has paused itself')
      await heal()
      // The node's own way back takes seconds or minutes, and with pause_minority it may never find it.
      await node.stop('SIGKILL')
      await node.start()
      await eventually(t, 'all nodes are there', async () => (await runningNodes(node)) === 3, { timeoutMs: 60_000, intervalMs: 500 })
    })
  }
}

function testFreeze(t: Test, cluster: RabbitCluster): void {
  t.test('a node that freezes, its sockets open, is left for another one as soon as the cluster has noticed too, and its return harms nobody', async (t) => {
    await setPartitionHandling(cluster, 'autoheal')
    const client = await openClient(t, cluster)
    const received = new Set<string>()
    await client.broker.consume('tasks', 10, async (message) => (received.add(message.id), { verdict: 'ack' }))
    let reopened = 0
    const box = await client.broker.openMailbox('engine-3', () => undefined, () => (reopened += 1))
    const frozen = client.nodeOf('publisher') as RabbitNode
    const mailboxNode = await eventually(t, 'it is known where the mailbox is', () => client.nodeOf('mailbox'))
    frozen.pause()
    t.teardown(() => frozen.resume())
    const publishMs = await timeUntil(t, 'publishing goes on', () => publishes(client), 60_000)
    t.ok(publishMs < 50_000, `after ${publishMs} ms`)
    t.not(client.nodeOf('publisher'), frozen)
    const works = async (t: Test, id: string): Promise<void> => {
      await eventually(t, 'bells go through', () => client.broker.publish('tasks', [{ id, body: '{}' }]).then(() => true), { timeoutMs: 30_000 })
      await eventually(t, 'and arrive', () => received.has(id), { timeoutMs: 30_000 })
      await eventually(t, 'its mailbox can be used', () => box.send('engine-3', bytes('x')).catch(() => false), { timeoutMs: 30_000 })
    }
    await works(t, 'while frozen')
    t.equal(reopened, mailboxNode === frozen ? 1 : 0)
    frozen.resume()
    // RabbitMQ makes the node whole again by itself, within seconds or minutes; clients do not wait for it.
    await works(t, 'afterwards')
  })
}

t.test('on a private cluster of three', { timeout: 240_000 }, async (t) => {
  // While a node is frozen and the others have not noticed, RabbitMQ 3 can declare nothing anywhere; by default that takes a minute.
  const cluster = await startRabbitCluster(t, 3, { netTickS: 8 })
  if (cluster === undefined) return
  const brokers = await Promise.all(Array.from({ length: 12 }, () => openClient(t, cluster)))
  t.ok(new Set(brokers.map((client) => client.nodeOf('publisher'))).size > 1, 'connections spread over the nodes')
  await Promise.all(brokers.map(({ broker }) => broker.close()))
  const queues = JSON.parse(await (cluster.nodes[0] as RabbitNode).control('list_queues', 'name', 'members', 'online', '--formatter=json')) as readonly { name: string; members: string[]; online: string[] }[]
  t.same(queues.map(({ name, members, online }) => [name, members.length, online.length]).sort(), [[`${prefix}.dead`, 3, 3], [`${prefix}.tasks`, 3, 3]], 'each queue has a member on each node')
  await t.test('deaths', async (t) => testDeaths(t, cluster))
  await t.test('minorities', async (t) => testMinorities(t, cluster))
  await t.test('freeze', async (t) => testFreeze(t, cluster))
})
