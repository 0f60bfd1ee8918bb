import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { actionId, nodeId, taskId, type TaskId } from '@lichen/core'
import { openPostgresStore, type Store } from '@lichen/store'
import { eventually } from '../eventually.js'
import { startPostgres, type PrivatePostgres } from '../postgres.js'

const limits = { connectMs: 1_000, statementMs: 2_000, lockMs: 1_500, idleTransactionMs: 1_500 }
// A job may wait for the group before it and for its own, each as long as a statement may take and a session takes to get; the rest is what a busy machine needs.
const boundMs = 2 * (limits.connectMs + limits.statementMs * 1.2) + 4_000

async function openFor(t: Test, server: PrivatePostgres): Promise<Store> {
  const store = await openPostgresStore({ url: server.url, limits })
  t.teardown(() => store.close())
  return store
}

const makeTask = (id: string, by: string): Parameters<Store['tasks']['create']>[0] => ({
  id: taskId(id), kind: 'apply', project: 'p', deployment: 'd', plan: '{}', at: 1, requestDigest: 'r',
  event: { type: 'taskAccepted', kind: 'apply', project: 'p', deployment: 'd', planDigest: 'x', by },
})

/** Writers and readers that go on through every outage, as the programs of Lichen do: what failed is asked for again, until it is known. */
function startLoad(t: Test, store: Store) {
  let isOver = false
  let answered = 0
  let failed = 0
  let slowest = 0

  /** What `work` gives; undefined when it failed, which must be told as STORE_UNAVAILABLE and in time. */
  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    const startedAt = performance.now()
    try {
      const value = await work()
      answered += 1
      return value
    } catch (error) {
      failed += 1
      if ((error as { code?: string }).code !== 'STORE_UNAVAILABLE') t.fail('another error than STORE_UNAVAILABLE', { error: String((error as Error).stack) })
      await new Promise((done) => setTimeout(done, 20))
      return undefined
    } finally {
      slowest = Math.max(slowest, performance.now() - startedAt)
    }
  }

  async function insist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      const value = await attempt(work)
      if (value !== undefined) return value
    }
  }

  /** Appends events 2, 3, 4… to a task, each with its number as reason; gives back the last one that it knows to be there. */
  async function appendEvents(task: TaskId): Promise<number> {
    let seq = 1
    while (!isOver) {
      const size = 1 + (seq % 5)
      const events = Array.from({ length: size }, (_, index) => ({ type: 'actionSkipped', action: actionId('a'), reason: String(seq + 1 + index) }) as const)
      const answer = await attempt(() => store.tasks.append([{ task, expectedSeq: seq, epoch: null, events, at: 1, announce: true }]))
      if (answer?.[0] === 'appended') seq += size
      else seq = (await insist(() => store.tasks.readSummary(task).then((row) => row ?? { seq: 1 }))).seq
    }
    return seq
  }

  /** Makes tasks, each under a key of its own and asked for again under another id; gives back how many. */
  async function createTasks(name: string): Promise<number> {
    let count = 0
    while (!isOver) {
      let tries = 0
      await insist(() => store.tasks.create({ ...makeTask(`${name}-${count}-${(tries += 1)}`, name), idempotencyKey: `${name}-${count}` }))
      count += 1
    }
    return count
  }

  async function appendLog(task: TaskId): Promise<string> {
    let text = ''
    for (let line = 0; !isOver; line++) {
      const data = Buffer.from(`${line} `)
      const [answer] = await insist(() => store.logs.appendLog([{ task, action: actionId('a'), attempt: 1, node: nodeId('n'), position: text.length, command: 0, stream: 'stdout', at: 1, data }]))
      text += data.toString()
      t.same(answer, { position: text.length, gap: false })
    }
    return text
  }

  async function admitNodes(): Promise<number> {
    let count = 0
    for (; !isOver; count++) await insist(() => store.nodes.admitNode({ tokenId: 'jt-1', secretDigest: 's', node: nodeId(`n-${count}`), labels: {}, keyDigest: `k-${count}`, agentVersion: '0.1.0', now: 1 }))
    return count
  }

  async function readAll(): Promise<void> {
    while (!isOver) {
      const rows = await attempt(() => store.tasks.list({ limit: 20 }))
      for (const row of rows ?? []) {
        const events = await attempt(() => store.tasks.readEvents(row.id, 0))
        if (events?.some((event, index) => event.seq !== index + 1)) t.fail(`${row.id}: a hole in its events`)
      }
    }
  }

  const tasks = ['a-1', 'a-2', 'a-3'].map(taskId)
  const work = Promise.all([
    Promise.all(tasks.map(appendEvents)),
    Promise.all(['c-1', 'c-2'].map(createTasks)),
    Promise.all(tasks.map(appendLog)),
    admitNodes(),
    readAll(),
  ])
  return {
    tasks,
    get answered() {
      return answered
    },
    get failed() {
      return failed
    },
    get slowest() {
      return slowest
    },
    async stop() {
      isOver = true
      const [seqs, created, logs, admitted] = await work
      return { seqs, created, logs, admitted }
    },
  }
}

async function checkNothingLost(t: Test, store: Store, load: ReturnType<typeof startLoad>): Promise<void> {
  const { seqs, created, logs, admitted } = await load.stop()
  t.comment(`${load.answered} answered, ${load.failed} failed, slowest ${Math.round(load.slowest)} ms`)
  let appends = 0
  for (const [index, task] of load.tasks.entries()) {
    const events = await store.tasks.readEvents(task, 0)
    t.equal(events.length, seqs[index], `${task}: as many events as its writer knows of`)
    t.ok(events.slice(1).every(({ seq, event }, at) => seq === at + 2 && event.type === 'actionSkipped' && event.reason === String(seq)), `${task}: each once and in its place`)
    t.equal((await store.tasks.readSummary(task))?.seq, events.length, `${task}: row and events agree`)
    const chunks = await store.logs.readLog(task, 0, 1 << 26)
    t.equal(Buffer.concat(chunks.map((chunk) => chunk.data)).toString(), logs[index], `${task}: its log`)
    t.equal(await store.logs.logEnd(task), logs[index]?.length)
    for (let seq = 1; seq < events.length; seq += 1 + (seq % 5)) appends += 1
  }
  const tasks = await store.tasks.list({ limit: 1_000_000, before: taskId('d') })
  const made = created.reduce((sum, count) => sum + count, 0)
  t.equal(tasks.length, made + load.tasks.length, 'one task for each key')
  t.equal((await store.outbox.readOutbox(10_000_000)).length, made + load.tasks.length + appends, 'one bell for each task and each append')
  t.equal((await store.nodes.listNodes()).length, admitted)
  t.match(await store.nodes.listJoinTokens(), [{ usesLeft: 1_000_000 - admitted }], 'one use for each node')
  t.ok(load.slowest < boundMs, `the slowest call took ${Math.round(load.slowest)} ms`)
}

async function loadFor(t: Test, server: PrivatePostgres) {
  const store = await openFor(t, server)
  await store.nodes.putJoinToken({ id: 'jt-1', secretDigest: 's', labels: {}, usesLeft: 1_000_000, expiresAt: 1_000, createdAt: 1, createdBy: 'operator' })
  for (const id of ['a-1', 'a-2', 'a-3']) await store.tasks.create(makeTask(id, 'test'))
  const load = startLoad(t, store)
  const goOn = async (): Promise<void> => {
    const before = load.answered
    await eventually(t, 'work goes on', () => load.answered > before + 500, { timeoutMs: 60_000 })
  }
  const fail = async (): Promise<void> => {
    const before = load.failed
    await eventually(t, 'calls fail', () => load.failed > before + 10, { timeoutMs: 60_000 })
  }
  await goOn()
  return { store, load, goOn, fail }
}

t.test('with the server killed again and again under load, nothing answered is lost, nothing is doubled, and work goes on by itself', { timeout: 180_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const { store, load, goOn, fail } = await loadFor(t, server)
  for (let turn = 0; turn < 4; turn++) {
    await server.stop('SIGKILL')
    await fail()
    await server.start()
    await goOn()
  }
  t.ok(load.failed > 0)
  await checkNothingLost(t, store, load)
})

t.test('with the server restarted in good order under load it is the same', { timeout: 120_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const { store, load, goOn, fail } = await loadFor(t, server)
  for (let turn = 0; turn < 3; turn++) {
    await server.stop('SIGINT')
    await fail()
    await server.start()
    await goOn()
  }
  await checkNothingLost(t, store, load)
})

t.test('with the server frozen under load, calls fail in time, and work goes on when it is thawed', { timeout: 120_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const { store, load, goOn, fail } = await loadFor(t, server)
  for (let turn = 0; turn < 2; turn++) {
    server.freeze()
    await fail()
    server.thaw()
    await goOn()
  }
  await checkNothingLost(t, store, load)
})

t.test('while the server is frozen every kind of call fails in time, opening and closing too', { timeout: 120_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const store = await openFor(t, server)
  await store.tasks.create(makeTask('t-1', 'test'))
  server.freeze()
  const task = taskId('t-1')
  const engine = { name: 'e', instance: '1' }
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    ping: () => store.ping(),
    read: () => store.tasks.read(task),
    create: () => store.tasks.create(makeTask('t-2', 'test')),
    append: () => store.tasks.append([{ task, expectedSeq: 1, epoch: null, events: [], at: 1 }]),
    claim: () => store.tasks.claim(task, engine, 0, 1),
    renew: () => store.tasks.renew(engine, [task], 0, 1),
    log: () => store.logs.appendLog([{ task, action: actionId('a'), attempt: 1, node: nodeId('n'), position: 0, command: 0, stream: 'stdout', at: 1, data: Buffer.from('x') }]),
    nodes: () => store.nodes.listNodes(),
    update: () => store.nodes.updateNodes([{ node: nodeId('n'), seenAt: 1 }]),
    engines: () => store.engines.renewEngine(engine, 1),
    secrets: () => store.secrets.putSecretsIfAbsent([{ scope: 's', name: 'a', sealed: Uint8Array.of(1) }]),
    outbox: () => store.outbox.deleteOutbox([1]),
    open: () => openPostgresStore({ url: server.url, limits }),
  }
  await Promise.all(Object.entries(calls).map(async ([name, call]) => {
    const startedAt = performance.now()
    await t.rejects(call(), { code: 'STORE_UNAVAILABLE', retryAfterS: 1 }, name)
    t.ok(performance.now() - startedAt < boundMs, `${name}: ${Math.round(performance.now() - startedAt)} ms`)
  }))
  const closing = await openedBefore(t, server)
  const startedAt = performance.now()
  await closing.close()
  t.ok(performance.now() - startedAt < boundMs, 'close')
  server.thaw()
  await eventually(t, 'it answers again', () => store.ping().then(() => true))
  t.equal((await store.tasks.readSummary(task))?.seq, 1)
})

/** A store that was opened before the server froze. */
async function openedBefore(t: Test, server: PrivatePostgres): Promise<Store> {
  server.thaw()
  const store = await openFor(t, server)
  await store.tasks.create(makeTask('t-3', 'test'))
  server.freeze()
  return store
}

function startWriter(t: Test, server: PrivatePostgres, task: string) {
  const child = spawn(process.execPath, ['--import=tsx', resolve(import.meta.dirname, '../store/postgres-writer.ts'), server.url, task, String(limits.idleTransactionMs)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
  t.teardown(() => child.kill('SIGKILL'))
  return { child, lines }
}

t.test('what a process was told to be committed is there after it was killed, and another one goes on with the task', { timeout: 60_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const { child, lines } = startWriter(t, server, 't-1')
  await eventually(t, 'the child has committed a good deal', () => lines.length > 300, { timeoutMs: 30_000 })
  child.kill('SIGKILL')
  await once(child, 'close')
  const store = await openFor(t, server)
  const events = await store.tasks.readEvents(taskId('t-1'), 0)
  t.ok(events.length >= Number(lines.at(-1)), `${lines.at(-1)} events were reported committed, ${events.length} are there`)
  // The last transaction of the dead process may still be on its way through the server.
  await eventually(t, 'the task can be written', async () => {
    const seq = (await store.tasks.readSummary(taskId('t-1')))?.seq ?? 0
    return (await store.tasks.append([{ task: taskId('t-1'), expectedSeq: seq, epoch: null, events: [], at: 1 }]))[0] === 'appended'
  })
})

t.test('a process that is frozen in the middle of a transaction does not keep its task from others for longer than the limit', { timeout: 120_000 }, async (t) => {
  const server = await startPostgres(t)
  if (server === undefined) return
  const store = await openFor(t, server)
  const locked = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'lichen' AND datname = current_database() AND state = 'idle in transaction'"
  for (let turn = 0; ; turn++) {
    const task = taskId(`t-${turn}`)
    const { child, lines } = startWriter(t, server, task)
    await eventually(t, 'the child writes', () => lines.length > 20, { timeoutMs: 30_000 })
    child.kill('SIGSTOP')
    const isHeld = (await server.query(locked)).length > 0
    if (isHeld) {
      const startedAt = performance.now()
      await eventually(t, 'the task is taken over', async () => {
        const seq = (await store.tasks.readSummary(task))?.seq ?? 0
        return (await store.tasks.append([{ task, expectedSeq: seq, epoch: null, events: [], at: 1 }]).catch(() => ['failed']))[0] === 'appended'
      })
      t.ok(performance.now() - startedAt < limits.idleTransactionMs + 3_000, `after ${Math.round(performance.now() - startedAt)} ms`)
    }
    child.kill('SIGKILL')
    await once(child, 'close')
    if (isHeld) return
    if (turn === 20) return void t.fail('the child was never stopped in the middle of a transaction')
  }
})
