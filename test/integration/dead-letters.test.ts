// What becomes of messages that cannot be read, from RabbitMQ to the terminal and back.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'amqplib'
import t from 'tap'
import { startServer } from '@lichen/server'
import { log, runLichen, writeCatalog } from '../cli/system.js'
import { eventually } from '../eventually.js'
import { startRabbit } from '../rabbitmq.js'

interface Letter {
  readonly id: string
  readonly queue: string
  readonly body: string
  readonly reason: string
  readonly diedAt: number
}

/** Id, what a stranger put on the queue, and why nobody can read it. */
const poison: readonly (readonly [string, string | Buffer, RegExp])[] = [
  ['broken', '{"v":1,\n"task":', /^BROKER_MALFORMED_MESSAGE: the message is no JSON/],
  ['bytes', Buffer.from([0xff, 0x00, 0x1b, 0x5b]), /^BROKER_MALFORMED_MESSAGE: the message is no JSON/],
  ['newer', '{"v":2,"task":"t-1"}', /^BROKER_MALFORMED_MESSAGE: .*version 2; this engine knows version 1/],
  ['no/task', '{"v":1}', /^BROKER_MALFORMED_MESSAGE: `task`/],
  ['unknown', '{"v":1,"task":"t-unknown"}', /no task t-unknown in the store/],
]

t.test('messages that cannot be read are kept with their reason, shown whole, and put back when asked', { timeout: 110_000 }, async (t) => {
  const rabbit = await startRabbit(t)
  if (rabbit === undefined) return
  const directory = t.testdir({})
  mkdirSync(join(directory, 'catalog'))
  writeCatalog(join(directory, 'catalog'))
  const server = await startServer({ dataDirectory: join(directory, '.lichen'), catalogDirectory: join(directory, 'catalog'), brokerUrl: rabbit.url, host: '127.0.0.1', port: 0, gatewayHost: '127.0.0.1', gatewayPort: 0, version: 'test', log })
  t.teardown(() => server.stop())
  const lichen = (...args: readonly string[]) => runLichen(t, directory, ...args)
  const list = async (): Promise<readonly Letter[]> => JSON.parse((await lichen('dead-letters', '--json')).stdout) as readonly Letter[]

  t.match(await lichen('dead-letters', 'replay', '--all'), { code: 0, stdout: 'no dead letters\n' })
  const connection = await connect(rabbit.url)
  t.teardown(() => connection.close())
  const channel = await connection.createConfirmChannel()
  for (const [id, body] of poison) channel.publish('lichen', 'tasks', Buffer.from(body), { messageId: id })
  await channel.waitForConfirms()
  const letters = await eventually(t, 'all have died', () => list().then((found) => (found.length === poison.length ? found : undefined)), { timeoutMs: 30_000 })

  await t.test('each is listed with the reason, oldest first', async (t) => {
    t.same(letters.map(({ id }) => id).sort(), poison.map(([id]) => id).sort())
    t.same(letters.map(({ diedAt }) => diedAt), letters.map(({ diedAt }) => diedAt).sort((a, b) => a - b))
    for (const [id, , reason] of poison) t.match(letters.find((letter) => letter.id === id), { queue: 'tasks', reason }, id)
    const { stdout } = await lichen('dead-letters')
    t.match(stdout, /^ID +QUEUE +DIED +REASON +BODY\n/)
    t.match(stdout, /^newer +tasks +.* ago +BROKER_MALFORMED_MESSAGE: .*version 2.* +\{"v":2,"task":"t-1"\}$/m)
    t.notMatch(stdout, /\u001b/, 'no control sequence of a message reaches the terminal')
    t.equal((await lichen('dead-letters', '--limit', '2')).stdout.trim().split('\n').length, 3)
  })

  await t.test('one is shown whole', async (t) => {
    const { code, stdout } = await lichen('dead-letters', 'show', 'broken')
    t.equal(code, 0)
    t.match(stdout, /^broken\n {2}queue {5}tasks\n {2}died {6}.* ago \(\d{4}-\d\d-\d\dT[\d:]+Z\)\n {2}reason {4}BROKER_MALFORMED_MESSAGE: .*\n {2}body\n {4}\{"v":1,\n {4}"task":\n$/)
    t.match(JSON.parse((await lichen('dead-letters', 'show', 'no/task', '--json')).stdout), { id: 'no/task', body: '{"v":1}' })
    t.match(await lichen('dead-letters', 'show', 'nothing'), { code: 2, stderr: /there is no dead letter nothing[^]*REQUEST_NOT_FOUND/ })
  })

  await t.test('one is replayed: it comes to an engine again, and because it is still wrong it dies again', async (t) => {
    t.match(await lichen('dead-letters', 'replay', 'newer'), { code: 0, stdout: 'newer is back on its queue\n' })
    const before = letters.find(({ id }) => id === 'newer')
    const again = await eventually(t, 'it died again', async () => (await list()).find(({ id, diedAt }) => id === 'newer' && diedAt > (before?.diedAt ?? 0)), { timeoutMs: 30_000 })
    t.match(again, { body: before?.body, reason: before?.reason })
    t.match(await lichen('dead-letters', 'replay', 'nothing'), { code: 2, stderr: /REQUEST_NOT_FOUND/ })
  })

  await t.test('all are replayed, each once, although they die again', async (t) => {
    const { code, stdout } = await lichen('dead-letters', 'replay', '--all', '--json')
    t.equal(code, 0)
    t.same((JSON.parse(stdout) as { replayed: string[] }).replayed.toSorted(), poison.map(([id]) => id).sort())
    await eventually(t, 'all died again', async () => {
      const found = await list()
      return found.length === poison.length && found.every(({ id, diedAt }) => diedAt > (letters.find((letter) => letter.id === id)?.diedAt ?? 0))
    }, { timeoutMs: 30_000 })
  })

  await t.test('replay wants an id or --all, not both', async (t) => {
    t.match(await lichen('dead-letters', 'replay'), { code: 2, stderr: /--all/ })
    t.match(await lichen('dead-letters', 'replay', 'newer', '--all'), { code: 2, stderr: /--all/ })
  })
})
