import type { Test } from 'tap'
import { actionId, nodeId, taskId, type ActionGraph, type Facts, type Plan, type TaskEvent, type TaskId, type TaskOutcome } from '@lichen/core'
import type { AppliedAction, Append, EngineIdentity, EngineRecord, NewLogChunk, NewTask, Store } from '@lichen/store'
import { eventually } from '../eventually.js'

/** A database of its own for one test: opened as often as one likes, each time by a new client. */
export interface TestDatabase {
  open(): Promise<Store>
}

/** Makes an empty database. */
export type MakeDatabase = (t: Test) => Promise<TestDatabase>

const now = 1_785_000_000_000

const makeTask = (id: string, more: Partial<NewTask> = {}): NewTask => ({
  id: taskId(id), kind: 'apply', project: 'demo', deployment: 'keystone', plan: '{"kind":"DeploymentPlan"}', at: now, requestDigest: 'digest-1',
  event: { type: 'taskAccepted', kind: 'apply', project: 'demo', deployment: 'keystone', planDigest: 'p', by: 'operator' },
  ...more,
})

/** A task of a deployment of its own: it waits for no other. */
const makeTaskApart = (id: string): NewTask => makeTask(id, { deployment: `of ${id}` })

const engine = (name: string, instance = `${name}, first process`): EngineIdentity => ({ name, instance })

const makeGraph = (more: Partial<ActionGraph> = {}): ActionGraph => ({
  kind: 'apply', project: 'demo', deployment: 'keystone', actions: [], gates: [], secrets: [], placement: { control: [nodeId('node-1')] },
  rollout: { maxParallelNodes: 10, maxFailures: 0, groups: {} }, limits: { queuedMs: null, taskMs: null }, digest: 'd'.repeat(64), ...more,
})

const makeFacts = (hostname: string): Facts => ({
  hostname, address: '10.0.0.1', addresses: [], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian' }, kernel: '6.1', architecture: 'amd64', cpus: 2,
  memoryBytes: 4e9, diskFreeBytes: 9e9, bootId: 'b', virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd',
})

const skipped = (reason: string): TaskEvent => ({ type: 'actionSkipped', action: actionId('a'), reason })
const makeAppend = (task: TaskId, expectedSeq: number, more: Partial<Append> = {}): Append => ({ task, expectedSeq, epoch: null, events: [skipped('because')], at: now + expectedSeq, ...more })

const makeChunk = (task: TaskId, position: number, text: string, more: Partial<NewLogChunk> = {}): NewLogChunk => ({
  task, action: actionId('hello/install@node-1'), attempt: 1, node: nodeId('node-1'), position, command: 0, stream: 'stdout', at: now, data: Buffer.from(text), ...more,
})

async function openFor(t: Test, make: MakeDatabase): Promise<{ readonly store: Store; readonly database: TestDatabase }> {
  const database = await make(t)
  const store = await database.open()
  t.teardown(() => store.close())
  return { store, database }
}

async function readText(store: Store, task: TaskId, offset = 0, maxBytes = 1 << 20): Promise<string> {
  const chunks = await store.logs.readLog(task, offset, maxBytes)
  return Buffer.concat(chunks.map((chunk) => chunk.data)).toString()
}

/** What every store adapter must do. */
export function testStore(t: Test, make: MakeDatabase): void {
  t.test('tasks', async (t) => testTasks(t, make))
  t.test('idempotency keys', async (t) => testKeys(t, make))
  t.test('events', async (t) => testEvents(t, make))
  t.test('reads at the same time', async (t) => testReadsAtOnce(t, make))
  t.test('leases', async (t) => testLeases(t, make))
  t.test('turns of the tasks of a deployment', async (t) => testTurns(t, make))
  t.test('outbox', async (t) => testOutbox(t, make))
  t.test('logs', async (t) => testLogs(t, make))
  t.test('what is applied', async (t) => testApplied(t, make))
  t.test('engines', async (t) => testEngines(t, make))
  t.test('nodes and join tokens', async (t) => testNodes(t, make))
  t.test('streams of nodes', async (t) => testStreams(t, make))
  t.test('changes of nodes', async (t) => testNodeChanges(t, make))
  t.test('secrets, API tokens, audit', async (t) => testSecrets(t, make))
  t.test('watching', async (t) => testWatching(t, make))
  t.test('opening and closing', async (t) => testLife(t, make))
}

function testTasks(t: Test, make: MakeDatabase): void {
  t.test('a created task has its row, its plan and its first event, and no graph yet', async (t) => {
    const { store } = await openFor(t, make)
    const plan = JSON.stringify({ text: 'ü "quoted" \\ \u0000 \u{1F33F} line\nline' })
    const task = makeTask('t-1', { plan, project: "o'brien", deployment: 'ü' })
    t.same(await store.tasks.create(task), { id: 't-1', isNew: true })
    const read = await store.tasks.read(task.id)
    t.same(read, {
      summary: { id: 't-1', kind: 'apply', project: "o'brien", deployment: 'ü', state: 'accepted', outcome: null, reason: '', counts: {}, seq: 1, createdAt: now, updatedAt: now },
      plan, graph: null,
    })
    t.same(await store.tasks.readEvents(task.id, 0), [{ seq: 1, at: now, event: task.event }])
  })

  t.test('a task id that exists is refused and the first task stays as it was', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    await t.rejects(store.tasks.create(makeTask('t-1', { plan: 'other' })), { code: 'STORE_CONFLICT' })
    t.match(await store.tasks.read(taskId('t-1')), { plan: makeTask('t-1').plan })
  })

  t.test('the very same task once more, whose first answer was lost, is there and not new, and rings no second bell', async (t) => {
    const { store } = await openFor(t, make)
    const task = makeTask('t-1')
    const answers = await Promise.all([store.tasks.create(task), store.tasks.create(task), store.tasks.create(task)])
    t.same(answers.map((answer) => answer.id), ['t-1', 't-1', 't-1'])
    t.equal(answers.filter((answer) => answer.isNew).length, 1)
    t.same(await store.tasks.create(task), { id: 't-1', isNew: false })
    t.equal((await store.outbox.readOutbox(9)).length, 1)
    t.equal((await store.tasks.readEvents(task.id, 0)).length, 1)
    for (const other of [{ plan: 'other' }, { at: now + 1 }, { event: { ...task.event, by: 'somebody else' } as TaskEvent }]) {
      await t.rejects(store.tasks.create({ ...task, ...other, idempotencyKey: 'key' }), { code: 'STORE_CONFLICT' })
    }
    t.equal(await store.tasks.findIdempotencyKey('key'), undefined, 'a refused task keeps no key')
  })

  t.test('among tasks created at the same time, one that is refused does not take others with it', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-05', { plan: 'another' }))
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, (_, index) => store.tasks.create(makeTask(`t-0${index}`))))
    t.same(outcomes.map((outcome) => outcome.status), outcomes.map((_, index) => (index === 5 ? 'rejected' : 'fulfilled')))
    t.equal((await store.tasks.list({ limit: 100 })).length, 10)
  })

  t.test('of an unknown task there is nothing', async (t) => {
    const { store } = await openFor(t, make)
    const unknown = taskId('t-none')
    t.equal(await store.tasks.read(unknown), undefined)
    t.same(await store.tasks.readEvents(unknown, 0), [])
    t.equal(await store.tasks.claim(unknown, engine('engine-1'), now, 1000), undefined)
    t.same([...(await store.tasks.renew(engine('engine-1'), [unknown], now, 1000))], [])
    await store.tasks.release(unknown, engine('engine-1'))
    t.same(await store.tasks.append([makeAppend(unknown, 0), makeAppend(unknown, 0, { epoch: 1 })]), ['conflict', 'fenced'])
    t.same(await store.logs.readLog(unknown, 0, 100), [])
    t.equal(await store.logs.logEnd(unknown), 0)
    t.equal(await store.tasks.readFootprint('demo', 'none'), undefined)
  })

  t.test('lists are newest first, page by page without gap or double, with filters', async (t) => {
    const { store } = await openFor(t, make)
    const ids = Array.from({ length: 25 }, (_, index) => `t-${String(index).padStart(3, '0')}`)
    await Promise.all(ids.map((id, index) => store.tasks.create(makeTask(id, { project: index % 2 ? 'odd' : 'even', deployment: index % 5 ? 'many' : 'few' }))))
    await store.tasks.append([makeAppend(taskId('t-024'), 1, { summary: { state: 'ended', outcome: 'succeeded', reason: 'all done', counts: { succeeded: 3 } } })])
    const seen: string[] = []
    for (let page = await store.tasks.list({ limit: 10 }); page.length > 0; page = await store.tasks.list({ limit: 10, before: page.at(-1)?.id as TaskId })) seen.push(...page.map((row) => row.id))
    t.same(seen, [...ids].reverse())
    const idsOf = async (query: Parameters<Store['tasks']['list']>[0]): Promise<string[]> => (await store.tasks.list(query)).map((row) => row.id)
    t.same(await idsOf({ limit: 3, project: 'odd' }), ['t-023', 't-021', 't-019'])
    t.same(await idsOf({ limit: 9, project: 'even', deployment: 'few' }), ['t-020', 't-010', 't-000'])
    t.same(await idsOf({ limit: 9, state: 'ended' }), ['t-024'])
    t.same(await idsOf({ limit: 9, outcome: 'succeeded' }), ['t-024'])
    t.same(await idsOf({ limit: 9, outcome: 'failed' }), [])
    t.same(await idsOf({ limit: 2, state: 'accepted', before: taskId('t-010') }), ['t-009', 't-008'])
    t.match((await store.tasks.list({ limit: 1 }))[0], { outcome: 'succeeded', reason: 'all done', counts: { succeeded: 3 }, seq: 2 })
  })

  t.test('the row alone is the row of the whole', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.append([makeAppend(taskId('t-1'), 1, { graph: makeGraph(), summary: { state: 'running', outcome: null, reason: 'r', counts: { sent: 1 } } })])
    t.same(await store.tasks.readSummary(taskId('t-1')), (await store.tasks.read(taskId('t-1')))?.summary)
    t.equal(await store.tasks.readSummary(taskId('t-none')), undefined)
  })

  t.test('the placement of a deployment is that of its newest planned apply task', async (t) => {
    const { store } = await openFor(t, make)
    for (const id of ['t-1', 't-2', 't-3', 't-4']) await store.tasks.create(makeTask(id, id === 't-3' ? { kind: 'destroy' } : {}))
    const plan = (id: string, node: string): Append => makeAppend(taskId(id), 1, { graph: makeGraph({ placement: { control: [nodeId(node)] } }) })
    await store.tasks.append([plan('t-1', 'node-1'), plan('t-2', 'node-2'), plan('t-3', 'node-3')])
    t.same(await store.tasks.readFootprint('demo', 'keystone'), { placement: { control: ['node-2'] }, nodes: {}, departures: [], plan: makeTask('t-2').plan, isDestroyed: false })
    t.equal(await store.tasks.readFootprint('demo', 'other'), undefined)
    t.match(await store.tasks.readLastPlan('demo', 'keystone'), { task: 't-3', kind: 'destroy' }, 'what it is: an apply that was not planned says nothing yet')
    await store.tasks.append([plan('t-4', 'node-4')])
    t.strictSame(await store.tasks.readLastPlan('demo', 'keystone'), { task: 't-4', kind: 'apply', plan: (await store.tasks.read(taskId('t-4')))?.plan })
    await store.tasks.create(makeTask('t-5', { kind: 'operation' }))
    await store.tasks.append([plan('t-5', 'node-5')])
    t.match(await store.tasks.readLastPlan('demo', 'keystone'), { task: 't-4' }, 'an operation is no plan')
    t.equal(await store.tasks.readLastPlan('demo', 'other'), undefined)
  })

  t.test('a footprint has what was known of nodes, what was leaving, versions of secrets, and whether all was destroyed since', async (t) => {
    const { store } = await openFor(t, make)
    for (const [id, kind] of [['t-1', 'destroy'], ['t-2', 'apply'], ['t-3', 'destroy'], ['t-4', 'apply']] as const) await store.tasks.create(makeTask(id, { kind }))
    const ended = (id: string, outcome: TaskOutcome): Append => makeAppend(taskId(id), 1, { summary: { state: 'ended', outcome, reason: '', counts: {} } })
    const nodes = { 'node-1': { hostname: 'one', address: '10.0.0.1', labels: { role: 'control' } } }
    const plan: Plan = { apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'keystone' }, nodes: [{ name: 'control' }], components: [{ name: 'a', blueprint: 'a', on: 'control' }] }
    const departures: ActionGraph['departures'] = [{ plan, placement: { control: [nodeId('node-1')] }, departures: [{ component: 'a', nodes: [nodeId('node-1')], isWhole: true, actions: [actionId('a/remove@node-1')], done: [] }] }]
    await store.tasks.append([ended('t-1', 'succeeded'), makeAppend(taskId('t-2'), 1, { graph: makeGraph({ known: { nodes, before: null }, departures, secretVersions: { 'a.key': 2 } }) })])
    const read = () => store.tasks.readFootprint('demo', 'keystone')
    t.match(await read(), { nodes, departures, secretVersions: { 'a.key': 2 }, isDestroyed: false }, 'a destroy before it says nothing')
    await store.tasks.append([ended('t-3', 'failed')])
    t.match(await read(), { isDestroyed: false }, 'nor does one that failed')
    await store.tasks.append([{ ...ended('t-3', 'succeeded'), expectedSeq: 2 }])
    t.match(await read(), { placement: { control: ['node-1'] }, isDestroyed: true })
    await store.tasks.append([makeAppend(taskId('t-4'), 1, { graph: makeGraph() })])
    t.match(await read(), { nodes: {}, departures: [], isDestroyed: false })
  })

  t.test('other deployments are those that were planned and not destroyed since, each by its newest apply', async (t) => {
    const { store } = await openFor(t, make)
    const tasks = [['t-1', 'a', 'apply'], ['t-2', 'b', 'apply'], ['t-3', 'b', 'destroy'], ['t-4', 'a', 'apply'], ['t-5', 'c', 'apply'], ['t-6', 'd', 'apply'], ['t-7', 'd', 'check'], ['t-8', 'd', 'apply']] as const
    for (const [id, deployment, kind] of tasks) await store.tasks.create(makeTask(id, { kind, deployment, plan: `plan of ${id}` }))
    const on = (node: string) => ({ graph: makeGraph({ placement: { all: [nodeId(node)] } }) })
    await store.tasks.append([
      makeAppend(taskId('t-1'), 1, on('node-1')), makeAppend(taskId('t-2'), 1, on('node-2')), makeAppend(taskId('t-4'), 1, on('node-4')), makeAppend(taskId('t-6'), 1, on('node-6')),
      makeAppend(taskId('t-3'), 1, { summary: { state: 'ended', outcome: 'succeeded', reason: '', counts: {} } }),
    ])
    const read = async (project: string, deployment: string) => (await store.tasks.readOtherFootprints(project, deployment)).map(({ deployment, plan, placement }) => [deployment, plan, placement['all']])
    t.same(await read('demo', 'a'), [['d', 'plan of t-6', ['node-6']]], 'b was destroyed, c and the newest of d were never planned')
    t.same(await read('demo', 'd'), [['a', 'plan of t-4', ['node-4']]])
    t.same(await read('other', 'a'), [['a', 'plan of t-4', ['node-4']], ['d', 'plan of t-6', ['node-6']]], 'the name alone is not the deployment')
  })
}

function testKeys(t: Test, make: MakeDatabase): void {
  t.test('fifty concurrent creates with one key and one digest make one task', async (t) => {
    const { store } = await openFor(t, make)
    const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => store.tasks.create(makeTask(`t-${index}`, { idempotencyKey: 'key' }))))
    t.equal(new Set(answers.map((answer) => answer.id)).size, 1)
    t.equal(answers.filter((answer) => answer.isNew).length, 1)
    t.equal((await store.tasks.list({ limit: 100 })).length, 1)
    t.equal((await store.outbox.readOutbox(100)).length, 1)
  })

  t.test('two clients of one database that create with one key at the same time make one task', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => (index % 2 ? store : other).tasks.create(makeTask(`t-${index}`, { idempotencyKey: 'key' }))))
    t.equal(new Set(answers.map((answer) => answer.id)).size, 1)
    t.equal((await store.tasks.list({ limit: 100 })).length, 1)
  })

  t.test('a key used with another request is a conflict, and other creates of the moment go on', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1', { idempotencyKey: 'key' }))
    const [conflict, other] = await Promise.allSettled([
      store.tasks.create(makeTask('t-2', { idempotencyKey: 'key', requestDigest: 'digest-2' })),
      store.tasks.create(makeTask('t-3', { idempotencyKey: 'another' })),
    ])
    t.match(conflict, { status: 'rejected', reason: { code: 'REQUEST_IDEMPOTENCY_CONFLICT' } })
    t.match(other, { status: 'fulfilled', value: { isNew: true } })
    t.equal(await store.tasks.read(taskId('t-2')), undefined)
  })

  t.test('a key tells the task and the request that it was used for', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1', { idempotencyKey: 'key', requestDigest: 'digest-7' }))
    t.same(await store.tasks.findIdempotencyKey('key'), { id: 't-1', requestDigest: 'digest-7' })
    t.equal(await store.tasks.findIdempotencyKey('t-1'), undefined)
  })

  t.test('a key is remembered for a day and forgotten later', async (t) => {
    const { store } = await openFor(t, make)
    const day = 24 * 3_600_000
    await store.tasks.create(makeTask('t-1', { idempotencyKey: 'key', at: now }))
    await store.tasks.create(makeTask('t-2', { idempotencyKey: 'newer', at: now + day }))
    t.match(await store.tasks.create(makeTask('t-3', { idempotencyKey: 'key', at: now + day })), { id: 't-1', isNew: false })
    await store.tasks.create(makeTask('t-4', { idempotencyKey: 'newest', at: now + day + 1 }))
    t.match(await store.tasks.create(makeTask('t-5', { idempotencyKey: 'key', at: now + day + 2 })), { id: 't-5', isNew: true })
  })
}

function testEvents(t: Test, make: MakeDatabase): void {
  t.test('appended events, row and graph are there together, numbered without a hole', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    const graph = makeGraph()
    const events: TaskEvent[] = [{ type: 'taskPlanned', graphDigest: graph.digest, actionCount: 0 }, skipped('ü "\\ \u0000 \u{1F33F}'), { type: 'taskEnded', outcome: 'failed', reason: 'why' }]
    t.same(await store.tasks.append([makeAppend(task, 1, { events, graph, at: now + 5, summary: { state: 'ended', outcome: 'failed', reason: 'why', counts: { failed: 1, skipped: 2 } } })]), ['appended'])
    const read = await store.tasks.read(task)
    t.match(read?.summary, { state: 'ended', outcome: 'failed', reason: 'why', counts: { failed: 1, skipped: 2 }, seq: 4, createdAt: now, updatedAt: now + 5 })
    t.same(read?.graph, graph)
    t.same(await store.tasks.readEvents(task, 1), events.map((event, index) => ({ seq: index + 2, at: now + 5, event })))
  })

  t.test('events are read after a number, up to a limit', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.append([makeAppend(task, 1, { events: Array.from({ length: 45_000 }, (_, index) => skipped(String(index))) })])
    const all = await store.tasks.readEvents(task, 0)
    t.equal(all.length, 45_001)
    t.ok(all.every((event, index) => event.seq === index + 1), 'in order, without a hole')
    t.same((await store.tasks.readEvents(task, 44_999)).map((event) => event.seq), [45_000, 45_001])
    t.same((await store.tasks.readEvents(task, 10, 2)).map((event) => event.seq), [11, 12])
    t.same(await store.tasks.readEvents(task, 0, 0), [])
    t.same(await store.tasks.readEvents(task, 45_001), [])
  })

  t.test('an append that expects another number is a conflict and changes nothing; the other parts go through', async (t) => {
    const { store } = await openFor(t, make)
    for (const id of ['t-1', 't-2']) await store.tasks.create(makeTask(id))
    const summary = { state: 'ended', outcome: 'failed', reason: 'wrong', counts: {} } as const
    t.same(await store.tasks.append([makeAppend(taskId('t-1'), 7, { summary, announce: true }), makeAppend(taskId('t-2'), 1)]), ['conflict', 'appended'])
    t.match((await store.tasks.read(taskId('t-1')))?.summary, { seq: 1, state: 'accepted' })
    t.equal((await store.outbox.readOutbox(9)).length, 2, 'no bell for the refused part')
  })

  t.test('of many writers that expect the same number exactly one is first', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.tasks.create(makeTask('t-1'))
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => (index % 2 ? store : other).tasks.append([makeAppend(taskId('t-1'), 1, { events: [skipped(String(index))] })])))
    t.same(answers.flat().sort(), ['appended', ...Array<string>(19).fill('conflict')])
    t.equal((await store.tasks.readEvents(taskId('t-1'), 1)).length, 1)
  })

  t.test('two parts of one task in a batch follow each other', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    t.same(await store.tasks.append([makeAppend(taskId('t-1'), 1), makeAppend(taskId('t-1'), 2), makeAppend(taskId('t-1'), 2)]), ['appended', 'appended', 'conflict'])
    t.same((await store.tasks.readEvents(taskId('t-1'), 0)).map((event) => event.seq), [1, 2, 3])
  })

  t.test('an empty batch and a part without events are fine', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    t.same(await store.tasks.append([]), [])
    t.same(await store.tasks.append([makeAppend(taskId('t-1'), 1, { events: [], summary: { state: 'running', outcome: null, reason: 'waiting', counts: {} } })]), ['appended'])
    t.match((await store.tasks.read(taskId('t-1')))?.summary, { seq: 1, state: 'running', reason: 'waiting' })
  })

  t.test('an append with an old epoch is fenced, with the present one it goes through, and requests of the API need none', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    const first = await store.tasks.claim(task, engine('engine-1'), now, 1_000)
    t.same(await store.tasks.append([makeAppend(task, 1, { epoch: first?.epoch ?? -1 })]), ['appended'])
    const second = await store.tasks.claim(task, engine('engine-2'), now + 1_000, 1_000)
    t.same(await store.tasks.append([makeAppend(task, 2, { epoch: first?.epoch ?? -1 })]), ['fenced'])
    t.same(await store.tasks.append([makeAppend(task, 9, { epoch: first?.epoch ?? -1 })]), ['fenced'], 'fenced counts before the number')
    t.same(await store.tasks.append([makeAppend(task, 2, { epoch: second?.epoch ?? -1 }), makeAppend(task, 3)]), ['appended', 'appended'])
  })

  t.test('a retry may replace plan and graph; what is not given stays', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1', { plan: 'first' }))
    const graph = makeGraph()
    const other = makeGraph({ digest: 'e'.repeat(64), placement: { control: [nodeId('node-2')] } })
    await store.tasks.append([makeAppend(task, 1, { graph })])
    t.match(await store.tasks.read(task), { plan: 'first', graph })
    await store.tasks.append([makeAppend(task, 2, { plan: 'second' })])
    t.match(await store.tasks.read(task), { plan: 'second', graph })
    await store.tasks.append([makeAppend(task, 3, { plan: 'third', graph: other }), makeAppend(task, 4, { plan: 'fourth' }), makeAppend(task, 4, { plan: 'of a part that is refused' })])
    t.match(await store.tasks.read(task), { plan: 'fourth', graph: other })
    t.match(await store.tasks.readFootprint('demo', 'keystone'), { placement: { control: ['node-2'] }, plan: 'fourth' })
  })

  t.test('a paused task is listed as such', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.append([makeAppend(taskId('t-1'), 1, { summary: { state: 'paused', outcome: null, reason: 'lunch', counts: {} } })])
    t.match(await store.tasks.list({ limit: 9, state: 'paused' }), [{ id: 't-1', state: 'paused', reason: 'lunch' }])
    t.same(await store.tasks.listUnowned(now, 9), ['t-1'], 'it has not ended: somebody has to drive it')
  })

  t.test('a thousand tasks take events at once and each has its own', async (t) => {
    const { store } = await openFor(t, make)
    const ids = Array.from({ length: 1000 }, (_, index) => taskId(`t-${String(index).padStart(4, '0')}`))
    await Promise.all(ids.map((id) => store.tasks.create(makeTask(id))))
    const answers = await Promise.all(ids.map((id) => store.tasks.append([makeAppend(id, 1, { events: [skipped(`first of ${id}`), skipped(`second of ${id}`)] })])))
    t.ok(answers.every(([answer]) => answer === 'appended'))
    const id = ids[617] as TaskId
    t.same((await store.tasks.readEvents(id, 1)).map((event) => event.event), [skipped(`first of ${id}`), skipped(`second of ${id}`)])
  })
}

/** Many at once are answered together, or one after the other: nobody gets what another one asked for. */
function testReadsAtOnce(t: Test, make: MakeDatabase): void {
  const ids = Array.from({ length: 100 }, (_, index) => taskId(`t-${100 + index}`))
  const fill = async (t: Test): Promise<Store> => {
    const { store } = await openFor(t, make)
    await Promise.all(ids.map((id) => store.tasks.create(makeTask(id, { deployment: `of ${id}`, plan: `plan of ${id}` }))))
    const answers = await Promise.all(ids.map((id, index) => {
      const applied: AppliedAction = { action: actionId(`of ${id}`), node: nodeId('node-1'), key: id, task: id, outputs: { id } }
      // Every tenth graph is a large one.
      const graph = makeGraph({ digest: (index % 10 === 0 ? 'd'.repeat(100_000) : '') + id, placement: { [id]: [nodeId('node-1')] } })
      return store.tasks.append([makeAppend(id, 1, { events: Array.from({ length: index }, (_, event) => skipped(`${event} of ${id}`)), graph, applied: [applied] })])
    }))
    t.ok(answers.every(([answer]) => answer === 'appended'))
    return store
  }

  t.test('of tasks, events, applied actions and placements', async (t) => {
    const store = await fill(t)
    const reads = await Promise.all([taskId('t-000'), ...ids].map(async (id, index) => {
      const [task, all, some, applied, placement] = await Promise.all([
        store.tasks.read(id), store.tasks.readEvents(id, 0), store.tasks.readEvents(id, 3, index), store.tasks.readApplied('demo', `of ${id}`), store.tasks.readFootprint('demo', `of ${id}`).then((footprint) => footprint?.placement),
      ])
      return { id: task?.summary.id, keys: Object.keys(task?.summary ?? {}).includes('at'), plan: task?.plan, digest: task?.graph?.digest.replace(/^d+/, ''), all: all.map(({ seq }) => seq), some: some.map(({ seq }) => seq), applied: applied.map(({ action, outputs }) => [action, outputs]), placement }
    }))
    const numbers = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index)
    t.same(reads[0], { id: undefined, keys: false, plan: undefined, digest: undefined, all: [], some: [], applied: [], placement: undefined })
    t.same(reads.slice(1), ids.map((id, index) => ({ id, keys: false, plan: `plan of ${id}`, digest: id, all: numbers(1, index + 1), some: numbers(4, Math.min(index + 1, 3 + index + 1)), applied: [[`of ${id}`, { id }]], placement: { [id]: ['node-1'] } })))
  })

  t.test('what was committed before a read was asked for is in it, however many others are under way', async (t) => {
    const store = await fill(t)
    const others = ids.map((id) => store.tasks.readEvents(id, 0))
    await store.tasks.append([makeAppend(ids[0]!, 1, { events: [skipped('the last')] })])
    const [events] = await Promise.all([store.tasks.readEvents(ids[0]!, 0), ...others])
    t.equal(events.length, 2)
  })
}

function testLeases(t: Test, make: MakeDatabase): void {
  t.test('a lease has one owner until it expires, and a new owner gets a higher epoch', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    const first = await store.tasks.claim(task, engine('engine-1'), now, 1_000)
    t.same(first, { task, epoch: 1, until: now + 1_000 })
    t.equal(await store.tasks.claim(task, engine('engine-2'), now + 999, 1_000), undefined)
    t.same(await store.tasks.claim(task, engine('engine-1'), now + 500, 1_000), { task, epoch: 1, until: now + 1_500 }, 'its owner keeps the epoch')
    t.same(await store.tasks.claim(task, engine('engine-2'), now + 1_500, 1_000), { task, epoch: 2, until: now + 2_500 })
    t.equal(await store.tasks.claim(task, engine('engine-1'), now + 1_600, 1_000), undefined)
  })

  t.test('the epoch belongs to one process: another one of the same name gets the lease at once, but a higher epoch', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    const [old, young] = [engine('engine-1', 'old'), engine('engine-1', 'young')]
    t.match(await store.tasks.claim(task, old, now, 1_000), { epoch: 1 })
    t.same(await store.tasks.claim(task, young, now + 1, 1_000), { task, epoch: 2, until: now + 1_001 })
    t.match(await store.tasks.claim(task, young, now + 2, 1_000), { epoch: 2 })
    t.same(await store.tasks.append([makeAppend(task, 1, { epoch: 1 })]), ['fenced'])
    t.same([...(await store.tasks.renew(old, [task], now, 9_000))], [], 'the one before lost it')
    await store.tasks.release(task, old)
    t.equal(await store.tasks.claim(task, engine('engine-2'), now + 3, 1_000), undefined, 'and cannot give it away')
    t.same([...(await store.tasks.renew(young, [task], now + 3, 1_000)).keys()], [task])
    t.match(await store.tasks.claim(task, old, now + 4, 1_000), { epoch: 3 }, 'coming back it is another taking')
  })

  t.test('an expired lease that its engine takes again, and one that it released, have the epoch that follows', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.claim(task, engine('engine-1'), now, 1_000)
    t.match(await store.tasks.claim(task, engine('engine-1'), now + 5_000, 1_000), { epoch: 1 }, 'nobody had it in between')
    await store.tasks.release(task, engine('engine-1'))
    t.match(await store.tasks.claim(task, engine('engine-1'), now + 5_000, 1_000), { epoch: 2 })
  })

  t.test('owners are told by name, also while their lease is expired; a free or unknown task has none', async (t) => {
    const { store } = await openFor(t, make)
    const [one, two, three, four] = ['t-1', 't-2', 't-3', 't-4'].map(taskId) as [TaskId, TaskId, TaskId, TaskId]
    for (const id of [one, two, three]) await store.tasks.create(makeTaskApart(id))
    await store.tasks.claim(one, engine('engine-1'), now, 1_000)
    await store.tasks.claim(two, engine('engine-2'), now - 99_000, 1_000)
    await store.tasks.claim(three, engine('engine-1'), now, 1_000)
    await store.tasks.release(three, engine('engine-1'))
    t.same(new Map([...(await store.tasks.readOwners([one, two, three, four]))].sort()), new Map([[one, 'engine-1'], [two, 'engine-2']]))
    t.same(await store.tasks.readOwners([]), new Map())
  })

  t.test('of many engines that claim at once exactly one gets the lease', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.tasks.create(makeTask('t-1'))
    const leases = await Promise.all(Array.from({ length: 20 }, (_, index) => (index % 2 ? store : other).tasks.claim(taskId('t-1'), engine(`engine-${index}`), now, 1_000)))
    t.equal(leases.filter((lease) => lease !== undefined).length, 1)
  })

  t.test('renewing extends what is held, tells the newest number, and leaves out what was lost', async (t) => {
    const { store } = await openFor(t, make)
    for (const id of ['t-1', 't-2', 't-3']) await store.tasks.create(makeTaskApart(id))
    const [one, two, three] = ['t-1', 't-2', 't-3'].map(taskId) as [TaskId, TaskId, TaskId]
    await store.tasks.claim(one, engine('engine-1'), now, 1_000)
    await store.tasks.claim(two, engine('engine-1'), now, 1_000)
    await store.tasks.claim(two, engine('engine-2'), now + 1_000, 1_000)
    await store.tasks.append([makeAppend(one, 1)])
    t.same([...(await store.tasks.renew(engine('engine-1'), [one, two, three], now + 900, 1_000))], [[one, 2]])
    t.equal(await store.tasks.claim(one, engine('engine-2'), now + 1_800, 1_000), undefined, 'renewed until 1,900')
    t.same([...(await store.tasks.renew(engine('engine-1'), [one], now + 5_000, 1_000)).keys()], [one], 'expired, but nobody took it')
    t.same([...(await store.tasks.renew(engine('engine-1'), [], now, 1_000))], [])
  })

  t.test('a released task is free at once, its next owner has a higher epoch, and a stranger cannot release it', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.claim(task, engine('engine-1'), now, 1_000)
    await store.tasks.release(task, engine('engine-2'))
    t.equal(await store.tasks.claim(task, engine('engine-2'), now, 1_000), undefined)
    await store.tasks.release(task, engine('engine-1'))
    t.match(await store.tasks.claim(task, engine('engine-2'), now, 1_000), { epoch: 2 })
  })

  t.test('unowned tasks are those not ended whose lease is free or expired', async (t) => {
    const { store } = await openFor(t, make)
    for (const id of ['t-1', 't-2', 't-3', 't-4']) await store.tasks.create(makeTaskApart(id))
    await store.tasks.claim(taskId('t-1'), engine('engine-1'), now, 1_000)
    await store.tasks.claim(taskId('t-2'), engine('engine-1'), now, 9_000)
    await store.tasks.append([makeAppend(taskId('t-3'), 1, { summary: { state: 'ended', outcome: 'succeeded', reason: '', counts: {} } })])
    t.same(await store.tasks.listUnowned(now, 10), ['t-4'])
    t.same([...(await store.tasks.listUnowned(now + 1_000, 10))].sort(), ['t-1', 't-4'])
    t.equal((await store.tasks.listUnowned(now + 1_000, 1)).length, 1)
    await store.tasks.append([makeAppend(taskId('t-3'), 2, { events: [{ type: 'retryRequested', by: 'operator' }], summary: { state: 'accepted', outcome: null, reason: '', counts: {} } })])
    t.ok((await store.tasks.listUnowned(now, 10)).includes(taskId('t-3')), 'a retried task is looked for again')
  })
}

const ended: Partial<Append> = { summary: { state: 'ended', outcome: 'succeeded', reason: '', counts: {} } }
const retried: Partial<Append> = { events: [{ type: 'retryRequested', by: 'operator' }], summary: { state: 'accepted', outcome: null, reason: '', counts: {} } }
const cancelling: Partial<Append> = { summary: { state: 'cancelling', outcome: null, reason: '', counts: {} } }

function testTurns(t: Test, make: MakeDatabase): void {
  const [one, two, three] = ['t-1', 't-2', 't-3'].map(taskId) as [TaskId, TaskId, TaskId]
  const openWith = async (t: Test, ...tasks: readonly NewTask[]) => {
    const { store, database } = await openFor(t, make)
    for (const task of tasks) await store.tasks.create(task)
    const isTaken = async (task: TaskId, name = 'engine-1') => (await store.tasks.claim(task, engine(name), now, 1_000)) !== undefined
    return { store, database, isTaken, front: () => store.tasks.readFront('demo', 'keystone') }
  }

  t.test('tasks of one deployment are taken one after the other, the oldest first, each when the one before has ended', async (t) => {
    const { store, isTaken, front } = await openWith(t, makeTask('t-2'), makeTask('t-1'), makeTask('t-3'))
    t.equal(await front(), one)
    t.notOk(await isTaken(two), 'one is older, also while nobody has taken it')
    t.same(await store.tasks.listUnowned(now, 9), [one], 'engines look for that one alone')
    t.ok(await isTaken(one))
    t.same(await store.tasks.listUnowned(now, 9), [])
    t.notOk(await isTaken(two, 'engine-2'))
    t.ok(await store.tasks.claim(one, engine('engine-2'), now + 1_000, 1_000), 'whoever takes over the task has its turn')
    await store.tasks.release(one, engine('engine-2'))
    t.notOk(await isTaken(two), 'nobody drives the first one: it has not ended')
    await store.tasks.append([makeAppend(one, 1, ended)])
    t.equal(await front(), two)
    t.same(await store.tasks.listUnowned(now, 9), [two])
    t.notOk(await isTaken(three))
    t.ok(await isTaken(two))
  })

  t.test('one that is older and came later waits for the one that was taken', async (t) => {
    const { store, isTaken, front } = await openWith(t, makeTask('t-2'))
    t.ok(await isTaken(two))
    await store.tasks.create(makeTask('t-1'))
    t.equal(await front(), two)
    t.notOk(await isTaken(one))
    t.ok(await store.tasks.claim(two, engine('engine-2'), now + 1_000, 1_000), 'which can still be taken over')
    await store.tasks.append([makeAppend(two, 1, ended)])
    t.ok(await isTaken(one))
  })

  t.test('a task that is tried again waits for the one that was taken meanwhile', async (t) => {
    const { store, isTaken } = await openWith(t, makeTask('t-1'), makeTask('t-2'))
    t.ok(await isTaken(one))
    await store.tasks.append([makeAppend(one, 1, ended)])
    t.ok(await isTaken(two))
    await store.tasks.append([makeAppend(one, 2, retried)])
    t.notOk(await isTaken(one), 'also by the engine that drove it')
    await store.tasks.append([makeAppend(two, 1, ended)])
    t.ok(await isTaken(one))
    await store.tasks.append([makeAppend(two, 2, retried)])
    t.notOk(await isTaken(two))
  })

  t.test('checks, and tasks of other deployments and projects, wait for nobody; nobody waits for a check', async (t) => {
    const { store, isTaken, front } = await openWith(t, makeTask('t-1', { kind: 'check' }), makeTask('t-2'), makeTask('t-3', { kind: 'check' }), makeTask('t-4', { deployment: 'nova' }), makeTask('t-5', { project: 'other' }))
    t.equal(await front(), two)
    t.same([...(await store.tasks.listUnowned(now, 9))].sort(), ['t-1', 't-2', 't-3', 't-4', 't-5'])
    for (const id of ['t-3', 't-1', 't-2', 't-5', 't-4']) t.ok(await isTaken(taskId(id)), id)
    t.equal(await front(), two, 'a check takes no turn')
  })

  t.test('one that is being cancelled is taken at once, to be ended, and takes no turn', async (t) => {
    const { store, isTaken, front } = await openWith(t, makeTask('t-1'), makeTask('t-2'))
    t.ok(await isTaken(one))
    await store.tasks.append([makeAppend(two, 1, cancelling)])
    t.same(await store.tasks.listUnowned(now, 9), [two])
    t.ok(await isTaken(two))
    t.equal(await front(), one)
    t.ok(await store.tasks.claim(one, engine('engine-2'), now + 1_000, 1_000))
  })

  t.test('of fifty tasks of one deployment that many engines claim at once, in any order, one is taken', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    const ids = Array.from({ length: 50 }, (_, index) => taskId(`t-${String(index).padStart(2, '0')}`))
    await Promise.all(ids.map((id) => store.tasks.create(makeTask(id))))
    for (let round = 0; round < 5; round++) {
      const leases = await Promise.all(ids.toReversed().map((id, index) => (index % 2 ? store : other).tasks.claim(id, engine(`engine-${index % 7}`), now + round, 60_000)))
      const taken = leases.flatMap((lease) => lease?.task ?? [])
      t.same(taken, [ids[round]])
      await store.tasks.append([makeAppend(ids[round]!, 1, ended)])
    }
  })

  t.test('nothing is at the front of a deployment without open tasks', async (t) => {
    const { store, front } = await openWith(t)
    t.equal(await front(), undefined)
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.append([makeAppend(one, 1, ended)])
    t.equal(await front(), undefined)
  })
}

function testOutbox(t: Test, make: MakeDatabase): void {
  t.test('each created and each announced task has a bell, oldest first, until it is deleted', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.create(makeTask('t-2'))
    await store.tasks.append([makeAppend(taskId('t-1'), 1, { announce: true }), makeAppend(taskId('t-2'), 1)])
    const rows = await store.outbox.readOutbox(10)
    t.same(rows.map((row) => JSON.parse(row.message)), ['t-1', 't-2', 't-1'].map((task) => ({ v: 1, task })))
    t.same(rows.map((row) => row.task), ['t-1', 't-2', 't-1'])
    t.same((await store.outbox.readOutbox(1)).map((row) => row.task), ['t-1'])
    await store.outbox.deleteOutbox([rows[0]?.id ?? -1, rows[1]?.id ?? -1, 999_999])
    await store.outbox.deleteOutbox([])
    t.same((await store.outbox.readOutbox(10)).map((row) => row.id), [rows[2]?.id])
  })

  t.test('a refused create rings no bell', async (t) => {
    const { store } = await openFor(t, make)
    await store.tasks.create(makeTask('t-1', { idempotencyKey: 'key' }))
    await store.tasks.create(makeTask('t-2', { idempotencyKey: 'key', requestDigest: 'other' })).catch(() => undefined)
    await store.tasks.create(makeTask('t-1')).catch(() => undefined)
    t.same((await store.outbox.readOutbox(10)).map((row) => row.task), ['t-1'])
  })
}

function testLogs(t: Test, make: MakeDatabase): void {
  t.test('chunks are read back as they came, at offsets that count bytes', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    const binary = Buffer.from([0x00, 0xff, 0xfe, 0x0a])
    const chunks = [makeChunk(task, 0, 'first ü\n', { stream: 'stderr', command: 2 }), makeChunk(task, 9, 'x', { data: binary }), makeChunk(task, 0, 'other\n', { node: nodeId('node-2'), action: actionId('b@node-2'), attempt: 3 })]
    t.same(await store.logs.appendLog(chunks), [{ position: 9, gap: false }, { position: 13, gap: false }, { position: 6, gap: false }])
    const read = await store.logs.readLog(task, 0, 1_000)
    t.same(read.map(({ data, ...rest }) => ({ ...rest, data: Buffer.from(data) })), chunks.map((chunk, index) => ({ ...chunk, offset: [0, 9, 13][index], data: Buffer.from(chunk.data) })))
    t.equal(await store.logs.logEnd(task), 19)
  })

  t.test('what was sent twice is stored once, and the overlap of a longer chunk is cut off', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.logs.appendLog([makeChunk(task, 0, 'abc\n')])
    t.same(await store.logs.appendLog([makeChunk(task, 0, 'abc\n'), makeChunk(task, 0, 'abc\ndef\n'), makeChunk(task, 2, 'c\n')]), [{ position: 4, gap: false }, { position: 8, gap: false }, { position: 8, gap: false }])
    t.equal(await readText(store, task), 'abc\ndef\n')
    t.match((await store.logs.readLog(task, 4, 10))[0], { offset: 4, position: 4 })
  })

  t.test('a chunk that would leave a hole is refused and says where to begin', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    t.same(await store.logs.appendLog([makeChunk(task, 0, 'abc\n'), makeChunk(task, 9, 'xyz\n'), makeChunk(task, 4, 'def\n')]), [{ position: 4, gap: false }, { position: 4, gap: true }, { position: 8, gap: false }])
    t.equal(await readText(store, task), 'abc\ndef\n')
    t.same(await store.logs.appendLog([makeChunk(task, 3, 'x', { attempt: 2 })]), [{ position: 0, gap: true }], 'a new attempt begins at 0')
  })

  t.test('empty chunks and empty batches change nothing', async (t) => {
    const { store } = await openFor(t, make)
    t.same(await store.logs.appendLog([]), [])
    t.same(await store.logs.appendLog([makeChunk(taskId('t-1'), 0, '')]), [{ position: 0, gap: false }])
    t.equal(await store.logs.logEnd(taskId('t-1')), 0)
  })

  t.test('a reader that begins anywhere and follows misses nothing and sees nothing twice', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    const lines = Array.from({ length: 500 }, (_, index) => `${'x'.repeat(index % 97)} line ${index}\n`)
    let position = 0
    await store.logs.appendLog(lines.map((line) => {
      const chunk = makeChunk(task, position, line)
      position += line.length
      return chunk
    }))
    const whole = lines.join('')
    for (const start of [0, 1, 777, whole.length - 1]) {
      let offset = start
      let text = ''
      while (offset < whole.length) {
        const chunks = await store.logs.readLog(task, offset, 1_000)
        for (const chunk of chunks) {
          text += Buffer.from(chunk.data).subarray(offset - chunk.offset).toString()
          offset = chunk.offset + chunk.data.byteLength
        }
        if (chunks.length === 0) break
      }
      t.equal(text, whole.slice(start), `from ${start}`)
    }
    t.same(await store.logs.readLog(task, whole.length, 1_000), [])
  })

  t.test('a page holds about as many bytes as asked for and at least one chunk', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.logs.appendLog(Array.from({ length: 10 }, (_, index) => makeChunk(task, index * 100, 'y'.repeat(100))))
    t.equal((await store.logs.readLog(task, 0, 300)).length, 3)
    t.equal((await store.logs.readLog(task, 0, 1)).length, 1)
    t.equal((await store.logs.readLog(task, 250, 100)).at(0)?.offset, 200)
  })

  t.test('a filter by node or action skips the rest, page by page, and keeps the offsets', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    const chunks = Array.from({ length: 100 }, (_, index) => {
      const node = index % 10
      return makeChunk(task, Math.floor(index / 10) * 10, `line ${String(index).padStart(4, '0')}\n`, { node: nodeId(`node-${node}`), action: actionId(`a@node-${node}`) })
    })
    await store.logs.appendLog(chunks)
    const all = await store.logs.readLog(task, 0, 1 << 20, { node: nodeId('node-3') })
    t.same(all.map((chunk) => chunk.offset), Array.from({ length: 10 }, (_, index) => index * 100 + 30))
    t.same((await store.logs.readLog(task, 0, 25, { node: nodeId('node-3') })).map((chunk) => chunk.offset), [30, 130, 230])
    t.same((await store.logs.readLog(task, 240, 20, { action: actionId('a@node-3') })).map((chunk) => chunk.offset), [330, 430])
    t.same(await store.logs.readLog(task, 0, 100, { node: nodeId('node-3'), action: actionId('a@node-4') }), [])
    t.same(await store.logs.readLog(task, 931, 100, { node: nodeId('node-3') }).then((found) => found.map((chunk) => chunk.offset)), [930], 'the chunk that contains the offset')
  })

  t.test('many attempts append at once and each keeps its order', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    const attempts = Array.from({ length: 20 }, (_, index) => actionId(`a@node-${index}`))
    await Promise.all(attempts.map(async (action) => {
      for (let turn = 0; turn < 20; turn++) await store.logs.appendLog([makeChunk(task, turn * 10, `${String(turn).padStart(9, '0')}\n`, { action })])
    }))
    const chunks = await store.logs.readLog(task, 0, 1 << 20)
    t.equal(chunks.length, 400)
    t.ok(chunks.every((chunk, index) => chunk.offset === index * 10), 'no hole in the offsets')
    for (const action of attempts) t.same(chunks.filter((chunk) => chunk.action === action).map((chunk) => chunk.position), Array.from({ length: 20 }, (_, index) => index * 10))
  })
}

function testApplied(t: Test, make: MakeDatabase): void {
  const makeApplied = (action: string, more: Partial<AppliedAction> = {}): AppliedAction => ({ action: actionId(action), node: nodeId('node-1'), key: 'k'.repeat(64), task: taskId('t-1'), outputs: { port: '5000', odd: 'ü "\\ \u0000' }, ...more })
  const read = async (store: Store, deployment = 'keystone', project = 'demo'): Promise<AppliedAction[]> => [...(await store.tasks.readApplied(project, deployment))].sort((a, b) => (a.action < b.action ? -1 : 1))

  t.test('what succeeded is recorded for its deployment, replaced by action, and forgotten', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    t.same(await read(store), [])
    await store.tasks.append([makeAppend(task, 1, { applied: [makeApplied('a'), makeApplied('b', { outputs: {} })] })])
    t.same(await read(store), [makeApplied('a'), makeApplied('b', { outputs: {} })])
    t.same(await read(store, 'another'), [])
    t.same(await read(store, 'keystone', 'another'), [])
    await store.tasks.append([makeAppend(task, 2, { unapplied: [actionId('b'), actionId('never')], applied: [makeApplied('a', { key: 'other' }), makeApplied('c')] })])
    t.same(await read(store), [makeApplied('a', { key: 'other' }), makeApplied('c')])
    await store.tasks.append([makeAppend(task, 3, { unapplied: [actionId('a')], applied: [makeApplied('a', { key: 'again' })] })])
    t.match(await read(store), [{ action: 'a', key: 'again' }, { action: 'c' }], 'taking away comes before recording')
  })

  t.test('parts of one batch count one after the other, each for its own deployment; a refused part changes nothing', async (t) => {
    const { store } = await openFor(t, make)
    const [one, two] = [taskId('t-1'), taskId('t-2')]
    await store.tasks.create(makeTask('t-1'))
    await store.tasks.create(makeTask('t-2', { deployment: 'nova' }))
    const answers = await store.tasks.append([
      makeAppend(one, 1, { applied: [makeApplied('a', { key: '1' }), makeApplied('b')] }),
      makeAppend(two, 1, { applied: [makeApplied('a', { key: '2', task: two })] }),
      makeAppend(one, 2, { unapplied: [actionId('a')] }),
      makeAppend(one, 9, { applied: [makeApplied('c')], unapplied: [actionId('b')] }),
    ])
    t.same(answers, ['appended', 'appended', 'appended', 'conflict'])
    t.same(await read(store), [makeApplied('b')])
    t.same(await read(store, 'nova'), [makeApplied('a', { key: '2', task: two })])
  })

  t.test('two tasks of one deployment that record the same thousand actions at once, in opposite order, both go through', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    for (const id of ['t-1', 't-2']) await store.tasks.create(makeTask(id))
    const actions = Array.from({ length: 1_000 }, (_, index) => String(index).padStart(4, '0'))
    const writes = [store, other].map(async (one, index) => {
      const task = taskId(`t-${index + 1}`)
      const ordered = index === 0 ? actions : actions.toReversed()
      for (let seq = 1; seq <= 6; seq++) {
        const half = ordered.slice((seq % 2) * 500, (seq % 2) * 500 + 500)
        const answers = await one.tasks.append([makeAppend(task, seq, { applied: half.map((action) => makeApplied(action, { task })), unapplied: ordered.slice(990 - seq, 1_000 - seq).map(actionId) })])
        t.same(answers, ['appended'])
      }
    })
    await Promise.all(writes)
    t.ok((await read(store)).length >= 900)
  })
}

function testEngines(t: Test, make: MakeDatabase): void {
  const makeEngine = (name: string, instance: string, more: Partial<EngineRecord> = {}): EngineRecord => ({ name, instance, gateway: '10.0.0.1:8471', startedAt: now, until: now + 1_000, ...more })
  const day = 24 * 3_600_000

  t.test('an engine is registered, listed by name, renewed and removed', async (t) => {
    const { store } = await openFor(t, make)
    const [b, a] = [makeEngine('b', '1'), makeEngine('a', '2', { gateway: '[fd00::1]:1', startedAt: now + 1 })]
    t.equal(await store.engines.registerEngine(b, now, false), 'registered')
    t.equal(await store.engines.registerEngine(a, now, false), 'registered')
    t.same(await store.engines.listEngines(now), [a, b])
    t.equal(await store.engines.renewEngine(b, now + 5_000), true)
    t.equal(await store.engines.renewEngine(engine('b', 'another'), now + 9_000), false)
    t.equal(await store.engines.renewEngine(engine('c', '1'), now + 9_000), false)
    t.same(await store.engines.listEngines(now), [a, { ...b, until: now + 5_000 }])
    await store.engines.removeEngine(engine('b', 'another'))
    await store.engines.removeEngine(engine('none', '1'))
    t.equal((await store.engines.listEngines(now)).length, 2, 'only its own row')
    await store.engines.removeEngine(b)
    t.same(await store.engines.listEngines(now), [a])
    t.equal(await store.engines.renewEngine(b, now + 9_000), false)
  })

  t.test('a name is taken while another instance of it lives; its successor, or one that comes after it expired, takes it over', async (t) => {
    const { store } = await openFor(t, make)
    const [first, second, third] = [makeEngine('a', '1'), makeEngine('a', '2', { until: now + 2_000 }), makeEngine('a', '3', { until: now + 9_000 })]
    await store.engines.registerEngine(first, now, false)
    t.equal(await store.engines.registerEngine(second, now + 999, false), 'taken')
    t.same(await store.engines.listEngines(now), [first])
    t.equal(await store.engines.registerEngine(first, now + 999, false), 'registered', 'the same process once more, whose first answer was lost')
    t.equal(await store.engines.registerEngine(second, now + 1_000, false), 'registered')
    t.equal(await store.engines.registerEngine(third, now + 1_001, true), 'registered')
    t.same(await store.engines.listEngines(now), [third])
    t.equal(await store.engines.renewEngine(first, now + 9_999), false)
  })

  t.test('of twenty processes with one name that register at once one gets in', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => (index % 2 ? store : other).engines.registerEngine(makeEngine('a', String(index)), now, false)))
    t.equal(answers.filter((answer) => answer === 'registered').length, 1)
  })

  t.test('rows stay for a day after they expired and are deleted by the next look', async (t) => {
    const { store } = await openFor(t, make)
    await store.engines.registerEngine(makeEngine('old', '1', { until: now }), now, false)
    await store.engines.registerEngine(makeEngine('young', '1', { until: now + 1 }), now, false)
    t.same((await store.engines.listEngines(now + day)).map((row) => row.name), ['old', 'young'])
    t.same((await store.engines.listEngines(now + day + 1)).map((row) => row.name), ['young'])
    t.same((await store.engines.listEngines(now)).map((row) => row.name), ['young'], 'it is gone')
  })
}

function testNodes(t: Test, make: MakeDatabase): void {
  const token = { id: 'jt-1', secretDigest: 'a'.repeat(64), labels: { role: 'control' }, usesLeft: 2, expiresAt: now + 1_000, createdAt: now, createdBy: 'operator' }
  const makeAdmission = (node: string, more: Partial<Parameters<Store['nodes']['admitNode']>[0]> = {}): Parameters<Store['nodes']['admitNode']>[0] => ({
    tokenId: token.id, secretDigest: token.secretDigest, node: nodeId(node), labels: {}, keyDigest: `key of ${node}`, agentVersion: '0.1.0', now, ...more,
  })

  t.test('a join token is listed, replaced and deleted', async (t) => {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken(token)
    await store.nodes.putJoinToken({ ...token, id: 'jt-2', usesLeft: null, createdAt: now + 1 })
    t.same(await store.nodes.listJoinTokens(), [token, { ...token, id: 'jt-2', usesLeft: null, createdAt: now + 1 }])
    t.equal(await store.nodes.deleteJoinToken('jt-2'), true)
    t.equal(await store.nodes.deleteJoinToken('jt-2'), false)
    t.same(await store.nodes.listJoinTokens(), [token])
  })

  t.test('a node that joins counts one use, gets the labels of the token over its own, and is listed before it has facts', async (t) => {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken(token)
    t.same(await store.nodes.admitNode(makeAdmission('node-1', { labels: { role: 'mine', rack: '7' } })), { labels: { role: 'control', rack: '7' } })
    t.match(await store.nodes.listJoinTokens(), [{ usesLeft: 1 }])
    t.match(await store.nodes.listNodes(), [{ id: 'node-1', labels: { role: 'control', rack: '7' }, state: 'lost', cordoned: false, keyDigest: 'key of node-1', joinedAt: now, lastSeenAt: now, facts: { hostname: 'node-1', address: '', cpus: 0 } }])
  })

  t.test('an unknown token, a wrong secret, an expired and a used-up token are refused and register nobody', async (t) => {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken({ ...token, usesLeft: 1 })
    await t.rejects(store.nodes.admitNode(makeAdmission('node-1', { tokenId: 'jt-none' })), { code: 'JOIN_TOKEN_INVALID' })
    await t.rejects(store.nodes.admitNode(makeAdmission('node-1', { secretDigest: 'b'.repeat(64) })), { code: 'JOIN_TOKEN_INVALID' })
    await t.rejects(store.nodes.admitNode(makeAdmission('node-1', { secretDigest: '' })), { code: 'JOIN_TOKEN_INVALID' })
    await t.rejects(store.nodes.admitNode(makeAdmission('node-1', { now: now + 1_000 })), { code: 'JOIN_TOKEN_EXPIRED' })
    await store.nodes.admitNode(makeAdmission('node-1'))
    await t.rejects(store.nodes.admitNode(makeAdmission('node-2')), { code: 'JOIN_TOKEN_EXPIRED', message: /no uses left/ })
    t.same((await store.nodes.listNodes()).map((node) => node.id), ['node-1'])
  })

  t.test('of thirty nodes that join at once with a token of five uses, five get in', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.nodes.putJoinToken({ ...token, usesLeft: 5 })
    const outcomes = await Promise.allSettled(Array.from({ length: 30 }, (_, index) => (index % 2 ? store : other).nodes.admitNode(makeAdmission(`node-${index}`))))
    t.equal(outcomes.filter((outcome) => outcome.status === 'fulfilled').length, 5)
    t.equal((await store.nodes.listNodes()).length, 5)
    t.match(await store.nodes.listJoinTokens(), [{ usesLeft: 0 }])
  })

  t.test('a taken name is refused; the same machine again is let in without using the token up; a deleted node can join again', async (t) => {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken(token)
    await store.nodes.admitNode(makeAdmission('node-1'))
    await t.rejects(store.nodes.admitNode(makeAdmission('node-1', { keyDigest: 'another key' })), { code: 'JOIN_NAME_TAKEN' })
    t.same(await store.nodes.admitNode(makeAdmission('node-1')), { labels: token.labels })
    t.match(await store.nodes.listJoinTokens(), [{ usesLeft: 1 }])
    await store.nodes.updateNodes([{ node: nodeId('node-1'), seenAt: now + 9_000 }])
    t.match(await store.nodes.listNodes(), [{ lastSeenAt: now + 9_000 }])
    t.equal(await store.nodes.deleteNode(nodeId('node-1')), true)
    t.equal(await store.nodes.deleteNode(nodeId('node-1')), false)
    await store.nodes.updateNodes([{ node: nodeId('node-1'), seenAt: now + 9_000 }])
    await store.nodes.admitNode(makeAdmission('node-1', { keyDigest: 'another key' }))
    t.match(await store.nodes.listNodes(), [{ keyDigest: 'another key', lastSeenAt: now }], 'when the one before it was heard of is forgotten')
  })

  t.test('updates of many nodes change what they name and nothing else', async (t) => {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken({ ...token, usesLeft: null })
    for (const node of ['node-1', 'node-2']) await store.nodes.admitNode(makeAdmission(node))
    const node = nodeId('node-1')
    await Promise.all([
      store.nodes.updateNodes([{ node, facts: makeFacts('one'), state: 'ready', agentVersion: '0.2.0', seenAt: now + 10 }, { node: nodeId('unknown'), state: 'ready', seenAt: now }]),
      store.nodes.updateNodes([{ node, seenAt: now + 5 }]),
      store.nodes.updateNodes([]),
    ])
    t.equal(await store.nodes.setNode(node, { labels: { zone: 'a' } }), true)
    t.equal(await store.nodes.setNode(node, { cordoned: true }), true)
    t.equal(await store.nodes.setNode(nodeId('unknown'), { cordoned: true }), false)
    const [one, two] = await store.nodes.listNodes()
    t.same(one, { id: 'node-1', labels: { zone: 'a' }, facts: makeFacts('one'), state: 'ready', cordoned: true, agentVersion: '0.2.0', keyDigest: 'key of node-1', joinedAt: now, lastSeenAt: now + 10, engine: null })
    t.match(two, { id: 'node-2', state: 'lost', cordoned: false, agentVersion: '0.1.0', lastSeenAt: now })
  })
}

/** What a reader that keeps a copy of the list of nodes is told. */
function testNodeChanges(t: Test, make: MakeDatabase): void {
  const openWithNodes = async (t: Test, ...names: readonly string[]): Promise<{ readonly store: Store; readonly other: Store; readonly join: (name: string, keyDigest?: string) => Promise<unknown> }> => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.nodes.putJoinToken({ id: 'jt-1', secretDigest: 'a'.repeat(64), labels: {}, usesLeft: null, expiresAt: now + 1_000, createdAt: now, createdBy: 'operator' })
    const join = (name: string, keyDigest = `key of ${name}`) => store.nodes.admitNode({ tokenId: 'jt-1', secretDigest: 'a'.repeat(64), node: nodeId(name), labels: {}, keyDigest, agentVersion: '0.1.0', now })
    for (const name of names) await join(name)
    return { store, other, join }
  }
  const [one, two, three] = ['node-1', 'node-2', 'node-3'].map(nodeId) as [ReturnType<typeof nodeId>, ReturnType<typeof nodeId>, ReturnType<typeof nodeId>]

  t.test('an empty list has nothing to tell', async (t) => {
    const { store } = await openWithNodes(t)
    t.match(await store.nodes.readNodeChanges(0, 'engine-1'), { changed: [], seen: [], count: 0 })
  })

  t.test('the first read brings all nodes as they are listed; the next ones what has changed meanwhile, whoever wrote it', async (t) => {
    const { store, other, join } = await openWithNodes(t, 'node-2', 'node-1')
    const first = await store.nodes.readNodeChanges(0, 'engine-1')
    t.same(first.changed, await store.nodes.listNodes())
    t.equal(first.count, 2)
    let { cursor } = first
    const readNext = async () => {
      const { cursor: next, changed, count } = await store.nodes.readNodeChanges(cursor, 'engine-1')
      cursor = next
      t.equal(count, (await store.nodes.listNodes()).length)
      const listed = new Map((await store.nodes.listNodes()).map((node) => [node.id, node]))
      for (const node of changed) t.same(node, listed.get(node.id))
      return changed.map(({ id }) => id)
    }
    t.same(await readNext(), [])
    await other.nodes.updateNodes([{ node: one, seenAt: now + 5, facts: makeFacts('one') }])
    t.same(await readNext(), ['node-1'], 'facts')
    await other.nodes.setNode(two, { labels: { zone: 'a' } })
    t.same(await readNext(), ['node-2'], 'labels')
    await other.nodes.setNode(two, { cordoned: true })
    t.same(await readNext(), ['node-2'], 'cordoned')
    await other.nodes.updateNodes([{ node: one, seenAt: now, state: 'ready' }, { node: two, seenAt: now, engine: 'engine-2' }])
    t.same(await readNext(), ['node-1', 'node-2'], 'state and engine')
    await other.nodes.updateNodes([{ node: one, seenAt: now, agentVersion: '0.2.0' }])
    t.same(await readNext(), ['node-1'], 'version')
    await other.nodes.updateNodes([{ node: one, seenAt: now + 9, state: 'ready', agentVersion: '0.2.0', facts: makeFacts('one') }, { node: two, seenAt: now + 9 }])
    t.same(await readNext(), [], 'being heard of is no change, nor saying once more what is written already')
    await join('node-3')
    t.same(await readNext(), ['node-3'], 'a new one')
  })

  t.test('a node that was deleted shows in the count, also when another has come in its place; one that joined anew under its name has changed', async (t) => {
    const { store, join } = await openWithNodes(t, 'node-1', 'node-2')
    const first = await store.nodes.readNodeChanges(0, 'engine-1')
    await store.nodes.deleteNode(two)
    const second = await store.nodes.readNodeChanges(first.cursor, 'engine-1')
    t.match(second, { changed: [], count: 1 })
    await store.nodes.deleteNode(one)
    await join('node-3')
    const third = await store.nodes.readNodeChanges(second.cursor, 'engine-1')
    t.match(third, { changed: [{ id: 'node-3' }], count: 1 })
    await store.nodes.deleteNode(three)
    await join('node-3', 'another key')
    t.match(await store.nodes.readNodeChanges(third.cursor, 'engine-1'), { changed: [{ id: 'node-3', keyDigest: 'another key' }], count: 1 })
  })

  t.test('who asks is told when ready nodes of others were heard of, and not of its own and of lost ones', async (t) => {
    const { store } = await openWithNodes(t, 'node-1', 'node-2', 'node-3', 'node-4')
    await store.nodes.updateNodes([{ node: one, seenAt: now, state: 'ready', engine: 'engine-1' }, { node: two, seenAt: now, state: 'ready', engine: 'engine-2' }, { node: three, seenAt: now, state: 'ready' }])
    const { cursor, seen } = await store.nodes.readNodeChanges(0, 'engine-1')
    t.same(seen, [], 'it was told of all of them')
    await store.nodes.updateNodes([one, two, three, nodeId('node-4')].map((node, index) => ({ node, seenAt: now + 10 + index })))
    t.same((await store.nodes.readNodeChanges(cursor, 'engine-1')).seen, [{ id: 'node-2', lastSeenAt: now + 11 }, { id: 'node-3', lastSeenAt: now + 12 }])
    t.same((await store.nodes.readNodeChanges(cursor, 'engine-2')).seen, [{ id: 'node-1', lastSeenAt: now + 10 }, { id: 'node-3', lastSeenAt: now + 12 }])
  })

  t.test('a reader that follows two writers misses no change', async (t) => {
    const { store, other } = await openWithNodes(t, ...Array.from({ length: 40 }, (_, index) => `node-${index}`))
    const copy = new Map<string, string>()
    let cursor = 0
    const follow = async (): Promise<void> => {
      const changes = await store.nodes.readNodeChanges(cursor, 'engine-1')
      cursor = changes.cursor
      for (const node of changes.changed) copy.set(node.id, node.agentVersion)
    }
    let isOver = false
    const reading = (async () => {
      while (!isOver) await follow()
    })()
    await Promise.all([store, other].map(async (writer, half) => {
      for (let turn = 0; turn < 50; turn++) await Promise.all(Array.from({ length: 20 }, (_, index) => writer.nodes.updateNodes([{ node: nodeId(`node-${2 * index + half}`), seenAt: now, agentVersion: `${turn}` }])))
    }))
    isOver = true
    await reading
    await follow()
    t.same([...new Set(copy.values())], ['49'])
    t.equal(copy.size, 40)
  })
}

/** How a row of `nodes` says where the stream of the node ends. */
function testStreams(t: Test, make: MakeDatabase): void {
  const node = nodeId('node-1')

  async function openWithNode(t: Test): Promise<{ readonly store: Store; readonly read: () => Promise<object | undefined>; readonly update: (...changes: readonly Omit<Parameters<Store['nodes']['updateNodes']>[0][number], 'node'>[]) => Promise<void> }> {
    const { store } = await openFor(t, make)
    await store.nodes.putJoinToken({ id: 'jt-1', secretDigest: 'a'.repeat(64), labels: {}, usesLeft: null, expiresAt: now + 1_000, createdAt: now, createdBy: 'operator' })
    await store.nodes.admitNode({ tokenId: 'jt-1', secretDigest: 'a'.repeat(64), node, labels: {}, keyDigest: 'k', agentVersion: '0.1.0', now })
    return { store, read: async () => (await store.nodes.listNodes())[0], update: (...changes) => store.nodes.updateNodes(changes.map((change) => ({ node, ...change }))) }
  }

  t.test('the engine of a stream is written, kept by changes that do not name it, and taken away', async (t) => {
    const { read, update } = await openWithNode(t)
    t.match(await read(), { engine: null, state: 'lost' })
    await update({ engine: 'engine-1', state: 'ready', seenAt: now + 5 })
    await update({ seenAt: now + 6 })
    t.match(await read(), { engine: 'engine-1', state: 'ready', lastSeenAt: now + 6 })
    await update({ engine: null, seenAt: now + 7 })
    t.match(await read(), { engine: null, state: 'ready' })
  })

  t.test('who lost a stream does not undo what the next engine of the node wrote; the rest of its change counts', async (t) => {
    const { read, update } = await openWithNode(t)
    await update({ engine: 'engine-2', state: 'ready', seenAt: now + 5 })
    await update({ engine: null, ifEngine: 'engine-1', agentVersion: '0.2.0', seenAt: now + 6 })
    t.match(await read(), { engine: 'engine-2', agentVersion: '0.2.0', lastSeenAt: now + 6 })
    await update({ engine: null, ifEngine: 'engine-2', seenAt: now + 7 })
    t.match(await read(), { engine: null })
    await update({ engine: 'engine-3', ifEngine: 'engine-2', seenAt: now + 8 })
    t.match(await read(), { engine: null }, 'none is not engine-2')
  })

  t.test('changes of one node in one batch count one after the other', async (t) => {
    const { read, update } = await openWithNode(t)
    await update({ engine: 'engine-1', seenAt: now + 9 }, { engine: null, ifEngine: 'engine-1', seenAt: now + 2 }, { engine: 'engine-2', seenAt: now + 3 }, { engine: null, ifEngine: 'engine-1', seenAt: now + 4 })
    t.match(await read(), { engine: 'engine-2', lastSeenAt: now + 9 })
    await update({ engine: null, ifEngine: 'engine-2', seenAt: now }, { engine: 'engine-9', ifEngine: 'engine-2', seenAt: now })
    t.match(await read(), { engine: null, lastSeenAt: now + 9 })
  })

  t.test('the time a node was seen never goes back, whoever writes last', async (t) => {
    const { store, read, update } = await openWithNode(t)
    await update({ seenAt: now + 50 })
    await Promise.all([update({ seenAt: now + 20 }), update({ seenAt: now + 70 }), update({ seenAt: now + 60 }), store.nodes.updateNodes([])])
    await update({ seenAt: now + 1 })
    t.match(await read(), { lastSeenAt: now + 70 })
  })

  t.test('two clients that write the same five hundred nodes in opposite order both go through', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.nodes.putJoinToken({ id: 'jt-1', secretDigest: 'a'.repeat(64), labels: {}, usesLeft: null, expiresAt: now + 1_000, createdAt: now, createdBy: 'operator' })
    const nodes = Array.from({ length: 500 }, (_, index) => nodeId(`node-${String(index).padStart(3, '0')}`))
    await Promise.all(nodes.map((one) => store.nodes.admitNode({ tokenId: 'jt-1', secretDigest: 'a'.repeat(64), node: one, labels: {}, keyDigest: one, agentVersion: '0.1.0', now })))
    await Promise.all([store, other].map(async (one, index) => {
      const ordered = index === 0 ? nodes : nodes.toReversed()
      for (let turn = 1; turn <= 10; turn++) await one.nodes.updateNodes(ordered.map((node) => ({ node, seenAt: now + turn, engine: `engine-${index}`, ...(turn % 2 ? { ifEngine: `engine-${index}` } : {}) })))
    }))
    t.ok((await store.nodes.listNodes()).every((node) => node.lastSeenAt === now + 10))
  })
}

function testSecrets(t: Test, make: MakeDatabase): void {
  t.test('a secret is kept as the bytes it came in; what is there stays unless it is put', async (t) => {
    const { store } = await openFor(t, make)
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    const read = async (scope: string): Promise<[string, Buffer][]> => (await store.secrets.readSecrets(scope)).map((secret) => [secret.name, Buffer.from(secret.sealed)])
    await store.secrets.putSecretsIfAbsent([{ scope: 's', name: 'b', sealed: bytes.subarray(3, 200) }, { scope: 's', name: 'a', sealed: bytes }, { scope: 'other', name: 'a', sealed: new Uint8Array() }])
    await store.secrets.putSecretsIfAbsent([{ scope: 's', name: 'a', sealed: Uint8Array.of(1) }])
    await store.secrets.putSecretsIfAbsent([])
    t.same(await read('s'), [['a', Buffer.from(bytes)], ['b', Buffer.from(bytes.subarray(3, 200))]])
    await store.secrets.putSecret({ scope: 's', name: 'a', sealed: Uint8Array.of(2) })
    t.same((await read('s'))[0], ['a', Buffer.of(2)])
    t.same(await read('other'), [['a', Buffer.alloc(0)]])
    t.same(await read('none'), [])
  })

  t.test('two clients that make the same secret at once agree on one', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await Promise.all([store, other].map((one, index) => one.secrets.putSecretsIfAbsent([{ scope: 's', name: 'a', sealed: Uint8Array.of(index) }])))
    t.same(await store.secrets.readSecrets('s'), await other.secrets.readSecrets('s'))
    t.equal((await store.secrets.readSecrets('s')).length, 1)
  })

  t.test('an API token is found by its digest alone', async (t) => {
    const { store } = await openFor(t, make)
    await store.secrets.putApiToken({ id: 'at-1', digest: 'd1', name: 'admin', createdAt: now, expiresAt: null })
    await store.secrets.putApiToken({ id: 'at-2', digest: 'd2', name: 'ci', createdAt: now, expiresAt: now + 5 })
    t.same(await store.secrets.findApiToken('d1'), { id: 'at-1', name: 'admin', expiresAt: null })
    t.same(await store.secrets.findApiToken('d2'), { id: 'at-2', name: 'ci', expiresAt: now + 5 })
    t.equal(await store.secrets.findApiToken('at-1'), undefined)
    await store.secrets.putApiToken({ id: 'at-1', digest: 'd3', name: 'admin', createdAt: now, expiresAt: null })
    t.equal(await store.secrets.findApiToken('d1'), undefined, 'a replaced token is void')
  })

  t.test('audit entries are taken', async (t) => {
    const { store } = await openFor(t, make)
    await t.resolves(store.secrets.appendAudit({ at: now, by: 'operator', what: 'task.create', target: 't-1', detail: '{}' }))
  })
}

function testWatching(t: Test, make: MakeDatabase): void {
  t.test('a listener is called after a commit of its task, when the events can be read, and not after it unsubscribed', async (t) => {
    const { store } = await openFor(t, make)
    const task = taskId('t-1')
    await store.tasks.create(makeTask('t-1'))
    let calls = 0
    let seen = 0
    const stop = store.watchTask(task, () => {
      calls += 1
      void store.tasks.readEvents(task, 1).then((events) => (seen = events.length))
    })
    await store.tasks.append([makeAppend(task, 1)])
    await eventually(t, 'the listener saw the event', () => seen === 1)
    const before = calls
    await store.logs.appendLog([makeChunk(task, 0, 'line\n')])
    await eventually(t, 'the listener was called for the log', () => calls > before)
    stop()
    stop()
    await store.tasks.read(task)
    const after = calls
    await store.tasks.append([makeAppend(task, 2)])
    await store.tasks.read(task)
    t.equal(calls, after)
  })

  t.test('commits of another client wake the listener too', async (t) => {
    const { store, database } = await openFor(t, make)
    const other = await database.open()
    t.teardown(() => other.close())
    await store.tasks.create(makeTask('t-1'))
    let seen = 0
    const stop = store.watchTask(taskId('t-1'), () => void store.tasks.readEvents(taskId('t-1'), 0).then((events) => (seen = events.length)))
    t.teardown(stop)
    await other.tasks.append([makeAppend(taskId('t-1'), 1)])
    await eventually(t, 'the event of the other client was seen', () => seen === 2)
  })

  t.test('a listener that throws harms neither the writer nor other listeners', async (t) => {
    const { store } = await openFor(t, make)
    let calls = 0
    store.watchTask(taskId('t-1'), () => {
      throw new Error('the listener of this test fails')
    })
    store.watchTask(taskId('t-1'), () => (calls += 1))
    await store.tasks.create(makeTask('t-1'))
    await eventually(t, 'the other one was called', () => calls > 0)
  })
}

function testLife(t: Test, make: MakeDatabase): void {
  t.test('everything is there after closing and opening again', async (t) => {
    const database = await make(t)
    const first = await database.open()
    await first.tasks.create(makeTask('t-1'))
    await first.logs.appendLog([makeChunk(taskId('t-1'), 0, 'kept\n')])
    await first.close()
    const second = await database.open()
    t.teardown(() => second.close())
    t.match(await second.tasks.read(taskId('t-1')), { summary: { seq: 1 } })
    t.equal(await readText(second, taskId('t-1')), 'kept\n')
    t.same(await second.logs.appendLog([makeChunk(taskId('t-1'), 5, 'more\n')]), [{ position: 10, gap: false }])
  })

  t.test('closing waits for writes that were submitted, refuses later ones, and can be asked twice', async (t) => {
    const database = await make(t)
    const store = await database.open()
    const writes = Array.from({ length: 100 }, (_, index) => store.tasks.create(makeTask(`t-${index}`)))
    await Promise.all([store.close(), store.close()])
    t.equal((await Promise.allSettled(writes)).filter((outcome) => outcome.status === 'fulfilled').length, 100)
    await t.rejects(store.tasks.create(makeTask('t-late')), { code: 'STORE_UNAVAILABLE' })
    await t.rejects(store.ping(), { code: 'STORE_UNAVAILABLE' })
  })

  t.test('an open store answers a ping', async (t) => {
    const { store } = await openFor(t, make)
    await t.resolves(store.ping())
  })
}
