/** The rabbitmq blueprint on real nodes: one server, then three with the same queue, through the loss of one of them and of all at once, and back to one. */
import t, { type Test } from 'tap'
import { skipReason } from '../lab/lab-fixture.js'
import { eventually } from '../eventually.js'
import { patienceMs, startCluster, step, type Cluster } from './cluster-fixture.js'

t.setTimeout(2_600_000)

const nodes = ['a', 'b', 'c']

const buildPlan = (count: number) => ({
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name: 'messages' },
  nodes: [{ name: 'brokers', count }, { name: 'talkers', select: { role: 'a' }, count: 1 }],
  components: [
    { name: 'broker', blueprint: 'rabbitmq@^1', on: 'brokers', with: { removeData: true } },
    { name: 'talker', blueprint: 'e2e-messages@^1', on: 'talkers', uses: { messages: 'broker' } },
  ],
})

/** A client that knows nothing of mirrors: `put QUEUE TEXT` declares a durable queue and sends a persistent message, `get QUEUE` takes one away. */
const client = `
import amqp, re, sys
user, password, virtual_host = re.match(r"rabbit://([^:]+):([^@]+)@.*/(.*)$", open("/root/e2e-messages").read()).groups()
server, verb, queue, *text = sys.argv[1:]
with amqp.Connection(host=server + ":5672", userid=user, password=password, virtual_host=virtual_host, login_method="PLAIN", connect_timeout=20, read_timeout=20, confirm_publish=True) as connection:
    channel = connection.channel()
    if verb == "put":
        channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message(text[0], delivery_mode=2), routing_key=queue)
    else:
        message = channel.basic_get(queue)
        print("nothing" if message is None else message.body)
        if message is not None: channel.basic_ack(message.delivery_tag)
`

interface Queue {
  readonly name: string
  readonly messages: number
  /** Names of nodes, the others in order. */
  readonly leader: string
  readonly mirrors: readonly string[]
}

t.test('RabbitMQ from a plan', { skip: skipReason() }, async (t) => {
  const cluster = await startCluster(t, 'e2e-rabbitmq', nodes)
  const address = (node: string) => cluster.lab.node(node).address
  const nodeOf = (server: string) => nodes.find((node) => server.includes(`rabbit@${address(node)}`)) ?? server
  // the client runs on `a`, whichever server it talks to; so it needs that node's file, and not that node's server
  const talk = (server: string, words: string) => cluster.shell('a', `/usr/bin/python3 /root/client.py ${address(server)} ${words}`)
  const members = async (node: string) => {
    const { disk_nodes: all, running_nodes: running } = JSON.parse(await cluster.shell(node, 'rabbitmqctl --quiet cluster_status --formatter json')) as { readonly disk_nodes: string[]; readonly running_nodes: string[] }
    return { all: all.map(nodeOf).sort(), running: running.map(nodeOf).sort() }
  }
  const queues = async (node: string): Promise<Queue[]> => {
    // text, because processes lose their nodes in JSON
    const text = await cluster.shell(node, 'rabbitmqctl --quiet --no-table-headers list_queues --vhost e2e name messages pid synchronised_slave_pids')
    return text.trim().split('\n').map((line) => {
      const [name = '', messages, leader = '', mirrors = ''] = line.split('\t')
      return { name, messages: Number(messages), leader: nodeOf(leader), mirrors: mirrors.split(', ').filter((each) => each.includes('rabbit@')).map(nodeOf).sort() }
    })
  }
  const isWhole = async (node: string) => {
    // while a server starts, rabbitmqctl fails
    const seen = await members(node).catch(() => undefined)
    return seen?.running.join() === 'a,b,c'
  }
  const wholeAgain = (t: Test) => eventually(t, 'every server sees all running', async () => (await Promise.all(nodes.map(isWhole))).every(Boolean), { timeoutMs: 2 * patienceMs, intervalMs: 2000 })
  await cluster.shell('a', `cat >/root/client.py <<'END'${client}END`)

  await step(t, 'one server works where no name can be resolved, and keeps a message', async (t) => {
    await cluster.shell('a', "cp /etc/hosts /root/hosts && echo '127.0.0.1 localhost' >/etc/hosts && ! getent hosts \"$(hostname)\"")
    await succeed(t, cluster, 'apply', buildPlan(1))
    t.same(await members('a'), { all: ['a'], running: ['a'] })
    await talk('a', 'put work one')
    t.same(await queues('a'), [{ name: 'work', messages: 1, leader: 'a', mirrors: [] }])
  })

  await step(t, 'it becomes the first of three, which mirror what it had', async (t) => {
    await succeed(t, cluster, 'apply', buildPlan(3))
    for (const node of nodes) t.same(await members(node), { all: nodes, running: nodes })
    t.same(await queues('b'), [{ name: 'work', messages: 1, leader: 'a', mirrors: ['b', 'c'] }])
    const url = await cluster.shell('a', 'cat /root/e2e-messages')
    for (const node of nodes) t.ok(url.includes(`@${address(node)}:5672`), `clients know the server of ${node}`)
  })

  await step(t, 'a second apply changes nothing', async (t) => {
    const task = await succeed(t, cluster, 'apply', buildPlan(3))
    t.same((await cluster.actions(task)).filter((action) => action.result?.changed), [])
  })

  await step(t, 'the message outlives the server that leads its queue, which comes back as a mirror', async (t) => {
    await talk('a', 'put work two')
    await cluster.shell('a', 'systemctl kill --signal=SIGKILL rabbitmq-server.service')
    t.equal(await eventually(t, 'another server has the message', () => talk('b', 'get work').catch(() => undefined), { timeoutMs: 60_000, intervalMs: 500 }), 'one\n')
    await wholeAgain(t)
    const [queue] = await eventually(t, 'the queue has two mirrors with all messages', async () => {
      const seen = await queues('c')
      return seen[0]?.mirrors.length === 2 ? seen : undefined
    }, { timeoutMs: 60_000, intervalMs: 1000 })
    t.match(queue, { messages: 1 })
    t.not(queue!.leader, 'a')
  })

  await step(t, 'all of them return after a power loss of all at once', async (t) => {
    for (const node of nodes) await cluster.lab.kill(node)
    // all at once: the first would wait for the others
    await cluster.lab.up({ nodes })
    await wholeAgain(t)
    t.match(await queues('b'), [{ name: 'work', messages: 1 }])
  })

  await step(t, 'and after all were powered off in order', async (t) => {
    for (const node of nodes) await cluster.lab.powerOff(node, 90_000)
    await cluster.lab.up({ nodes })
    await wholeAgain(t)
    t.match(await queues('c'), [{ name: 'work', messages: 1 }])
  })

  await step(t, 'servers that were all stopped are started by an apply', async (t) => {
    for (const node of nodes) await cluster.shell(node, 'systemctl stop rabbitmq-server.service')
    await succeed(t, cluster, 'apply', buildPlan(3))
    for (const node of nodes) t.same(await members(node), { all: nodes, running: nodes })
    t.match(await queues('a'), [{ name: 'work', messages: 1 }])
  })

  await step(t, 'a server that has lost its data is a member again', async (t) => {
    await cluster.shell('b', 'systemctl stop rabbitmq-server.service && rm --recursive /var/lib/rabbitmq/mnesia')
    await succeed(t, cluster, 'apply', buildPlan(3))
    t.same(await members('b'), { all: nodes, running: nodes })
    t.match(await queues('b'), [{ name: 'work', messages: 1 }])
  })

  await step(t, 'two leave, and the one that stays has the message and no memory of them', async (t) => {
    await succeed(t, cluster, 'apply', buildPlan(1))
    t.same(await members('a'), { all: ['a'], running: ['a'] })
    for (const node of ['b', 'c']) t.equal(await cluster.shell(node, leftovers), '')
    t.equal(await talk('a', 'get work'), 'two\n')
  })

  await step(t, 'destroy leaves a clean node', async (t) => {
    await succeed(t, cluster, 'destroy', buildPlan(1))
    t.equal(await cluster.shell('a', leftovers), '')
  })
})

const leftovers = "ls -d /var/lib/rabbitmq /etc/rabbitmq /var/log/rabbitmq 2>/dev/null; systemctl list-unit-files --no-legend 'rabbitmq*'; pgrep --list-full beam.smp; true"

async function succeed(t: Test, cluster: Cluster, kind: 'apply' | 'destroy', plan: unknown): Promise<string> {
  const id = await cluster.submit(kind, plan)
  const ended = await cluster.ended(t, id, 3 * patienceMs)
  await cluster.tell(t, id)
  t.match(ended, { outcome: 'succeeded' }, `${kind} succeeds`)
  return id
}
