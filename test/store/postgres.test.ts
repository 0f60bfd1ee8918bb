import { spawnSync } from 'node:child_process'
import { chownSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { actionId, nodeId, taskId, type TaskEvent } from '@lichen/core'
import { openPostgresStore, openStore, type Append, type NewLogChunk, type NewTask, type PostgresStoreOptions, type Store } from '@lichen/store'
import { eventually } from '../eventually.js'
import { startLossyWire } from '../postgres-proxy.js'
import { startPostgres, type PrivatePostgres } from '../postgres.js'

async function openFor(t: Test, url: string, options: Omit<PostgresStoreOptions, 'url'> = {}): Promise<Store> {
  const store = await openPostgresStore({ url, ...options })
  t.teardown(() => store.close())
  return store
}

const makeTask = (id: string, more: Partial<NewTask> = {}): NewTask => ({
  id: taskId(id), kind: 'apply', project: 'p', deployment: 'd', plan: '{}', at: 1, requestDigest: 'r',
  event: { type: 'taskAccepted', kind: 'apply', project: 'p', deployment: 'd', planDigest: 'x', by: 'test' },
  ...more,
})
const skipped = (reason: string): TaskEvent => ({ type: 'actionSkipped', action: actionId('a'), reason })
const makeAppend = (task: string, expectedSeq: number, more: Partial<Append> = {}): Append => ({ task: taskId(task), expectedSeq, epoch: null, events: [skipped('because')], at: 1, ...more })
const makeChunk = (task: string, position: number, data: string | Buffer): NewLogChunk => ({ task: taskId(task), action: actionId('a'), attempt: 1, node: nodeId('n'), position, command: 0, stream: 'stdout', at: 1, data: Buffer.from(data) })
const makeAdmission = (node: string, more: Partial<Parameters<Store['nodes']['admitNode']>[0]> = {}): Parameters<Store['nodes']['admitNode']>[0] => ({
  tokenId: 'jt-1', secretDigest: 's', node: nodeId(node), labels: {}, keyDigest: `key of ${node}`, agentVersion: '0.1.0', now: 1, ...more,
})
const token = { id: 'jt-1', secretDigest: 's', labels: { role: 'control' }, usesLeft: 3, expiresAt: 1_000, createdAt: 1, createdBy: 'operator' }

/** A session of somebody else on the database. */
async function connectFor(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  t.teardown(() => client.end())
  return client
}

const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lichen' AND datname = current_database()"

function testPostgres(t: Test, server: PrivatePostgres): void {
  t.test('with answers to commits lost', async (t) => testLostAnswers(t, server))
  t.test('sessions that are ended, locked out or refused', async (t) => testRefusals(t, server))
  t.test('opening', async (t) => testOpening(t, server))
  t.test('watching', async (t) => testNotices(t, server))

  t.test('ids are ordered by their bytes whatever the locale of the database', async (t) => {
    const url = await server.makeDatabase("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'")
    const store = await openFor(t, url)
    const ids = ['T-2', 't-1', 'T-1', 'ü-1', 't_1', 't-2']
    for (const id of ids) await store.tasks.create(makeTask(id))
    t.same((await store.tasks.list({ limit: 9 })).map((row) => row.id), ids.toSorted((a, b) => Buffer.compare(Buffer.from(b), Buffer.from(a))))
    t.same((await store.tasks.list({ limit: 9, before: taskId('t-1') })).map((row) => row.id), ['T-2', 'T-1'])
  })

  t.test('characters that texts of PostgreSQL cannot hold do no harm', async (t) => {
    const store = await openFor(t, server.url)
    await store.tasks.create(makeTask('t-nul', { plan: '"\\u0000 \\ud800"' }))
    const events = [skipped('zero \0, half \ud800, end')]
    t.same(await store.tasks.append([makeAppend('t-nul', 1, { events, summary: { state: 'running', outcome: null, reason: 'zero \0, half \ud800', counts: {} } })]), ['appended'])
    t.same((await store.tasks.readEvents(taskId('t-nul'), 1)).map((event) => event.event), events)
    t.match(await store.tasks.read(taskId('t-nul')), { plan: '"\\u0000 \\ud800"', summary: { reason: 'zero \ufffd, half \ufffd' } })
  })

  t.test('of writes in one group, the one that breaks a constraint fails alone', async (t) => {
    const store = await openFor(t, await server.makeDatabase())
    const makeToken = (id: string, digest: string) => ({ id, digest, name: id, createdAt: 1, expiresAt: null })
    const first = store.secrets.putApiToken(makeToken('at-0', 'd0'))
    const outcomes = await Promise.allSettled([store.secrets.putApiToken(makeToken('at-1', 'd1')), store.secrets.putApiToken(makeToken('at-2', 'd0')), store.secrets.putApiToken(makeToken('at-3', 'd3'))])
    await first
    t.match(outcomes, [{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'STORE_CONFLICT' } }, { status: 'fulfilled' }])
    t.match(await store.secrets.findApiToken('d0'), { id: 'at-0' })
    t.match(await store.secrets.findApiToken('d3'), { id: 'at-3' })
  })

  t.test('many clients that create, claim, append and log the same things at once agree on all of it', { timeout: 120_000 }, async (t) => {
    const url = await server.makeDatabase()
    const stores = await Promise.all(Array.from({ length: 4 }, () => openPostgresStore({ url })))
    t.teardown(() => Promise.all(stores.map((store) => store.close())))
    const ids = Array.from({ length: 30 }, (_, index) => `t-${String(index).padStart(2, '0')}`)
    const created = await Promise.all(stores.map((store, one) => Promise.all((one % 2 ? ids.toReversed() : ids).map((id) => store.tasks.create(makeTask(`${id}-${one}`, { idempotencyKey: id }))))))
    t.equal(created.flat().filter((answer) => answer.isNew).length, ids.length)
    const tasks = new Set(created.flat().map((answer) => answer.id))
    t.equal(tasks.size, ids.length)
    let appended = 0
    await Promise.all(stores.map(async (store, one) => {
      for (let turn = 0; turn < 30; turn++) {
        const heads = await store.tasks.list({ limit: 100 })
        const ordered = (one % 2 ? heads.toReversed() : heads).filter((_, index) => (index + turn) % 3 !== 0)
        const [answers] = await Promise.all([
          store.tasks.append(ordered.map((row) => makeAppend(row.id, row.seq, { events: [skipped(`${one}`), skipped(`${turn}`)], announce: true }))),
          ...ordered.map((row) => store.tasks.claim(row.id, { name: `engine-${one}`, instance: '1' }, turn * 10, 5)),
          store.tasks.renew({ name: `engine-${one}`, instance: '1' }, ordered.map((row) => row.id), turn * 10, 5),
          store.logs.appendLog(ordered.map((row) => ({ ...makeChunk(row.id, turn * 4, 'abc\n'), action: actionId(`a-${one}`) }))).then((answer) => answer.length),
        ])
        appended += answers.filter((answer) => answer === 'appended').length
      }
    }))
    let events = 0
    for (const task of tasks) {
      const found = await stores[0]!.tasks.readEvents(task, 0)
      t.ok(found.every((event, index) => event.seq === index + 1), `${task}: no hole`)
      events += found.length - 1
      const chunks = await stores[0]!.logs.readLog(task, 0, 1 << 20)
      t.ok(chunks.every((chunk, index) => chunk.offset === index * 4), `${task}: log without hole`)
    }
    t.equal(events, appended * 2)
    t.equal((await stores[0]!.outbox.readOutbox(10_000)).length, appended + tasks.size)
  })
}

function testLostAnswers(t: Test, server: PrivatePostgres): void {
  const engine = { name: 'engine-1', instance: '1' }

  async function openLossy(t: Test): Promise<{ readonly store: Store; readonly losing: <T>(work: () => Promise<T>) => Promise<void> }> {
    const wire = await startLossyWire(t, await server.makeDatabase())
    const store = await openFor(t, wire.url)
    return {
      store,
      async losing(work) {
        const before = wire.lost
        wire.losesAnswers = true
        await t.rejects(work(), { code: 'STORE_UNAVAILABLE' })
        t.equal(wire.lost, before + 1, 'it was committed, and the answer was lost')
        wire.losesAnswers = false
      },
    }
  }

  t.test('a created task is there once, with one bell, and asking again finds it', async (t) => {
    const { store, losing } = await openLossy(t)
    await losing(() => store.tasks.create(makeTask('t-1')))
    t.same(await store.tasks.create(makeTask('t-1')), { id: 't-1', isNew: false })
    await losing(() => store.tasks.create(makeTask('t-2', { idempotencyKey: 'key' })))
    t.same(await store.tasks.create(makeTask('t-3', { idempotencyKey: 'key' })), { id: 't-2', isNew: false })
    t.same((await store.outbox.readOutbox(9)).map((row) => row.task), ['t-1', 't-2'])
    await losing(() => store.outbox.deleteOutbox([1]))
    await store.outbox.deleteOutbox([1])
    t.same((await store.outbox.readOutbox(9)).map((row) => row.task), ['t-2'])
  })

  t.test('appended events are there once, and the same append again is a conflict', async (t) => {
    const { store, losing } = await openLossy(t)
    await store.tasks.create(makeTask('t-1'))
    const append = makeAppend('t-1', 1, { announce: true, applied: [{ action: actionId('a'), node: nodeId('n'), key: 'k', task: taskId('t-1'), outputs: {} }] })
    await losing(() => store.tasks.append([append]))
    t.same(await store.tasks.append([append]), ['conflict'])
    t.same((await store.tasks.readEvents(taskId('t-1'), 0)).map((event) => event.seq), [1, 2])
    t.equal((await store.outbox.readOutbox(9)).length, 2)
    t.equal((await store.tasks.readApplied('p', 'd')).length, 1)
  })

  t.test('log bytes are there once, and the same bytes again are known', async (t) => {
    const { store, losing } = await openLossy(t)
    await losing(() => store.logs.appendLog([makeChunk('t-1', 0, 'abc\n')]))
    t.same(await store.logs.appendLog([makeChunk('t-1', 0, 'abc\ndef\n')]), [{ position: 8, gap: false }])
    t.equal(Buffer.concat((await store.logs.readLog(taskId('t-1'), 0, 100)).map((chunk) => chunk.data)).toString(), 'abc\ndef\n')
  })

  t.test('a lease is taken once: the same instance has it, with the same epoch; renewing and releasing may be repeated', async (t) => {
    const { store, losing } = await openLossy(t)
    await store.tasks.create(makeTask('t-1'))
    await losing(() => store.tasks.claim(taskId('t-1'), engine, 0, 10))
    t.same(await store.tasks.claim(taskId('t-1'), engine, 0, 10), { task: 't-1', epoch: 1, until: 10 })
    await losing(() => store.tasks.renew(engine, [taskId('t-1')], 0, 20))
    t.same([...(await store.tasks.renew(engine, [taskId('t-1')], 0, 20))], [['t-1', 1]])
    await losing(() => store.tasks.release(taskId('t-1'), engine))
    await store.tasks.release(taskId('t-1'), engine)
    t.match(await store.tasks.claim(taskId('t-1'), { name: 'engine-2', instance: '1' }, 0, 10), { epoch: 2 })
  })

  t.test('a node is let in once and one use of its token is counted; it is cordoned, seen and deleted', async (t) => {
    const { store, losing } = await openLossy(t)
    await losing(() => store.nodes.putJoinToken(token))
    await losing(() => store.nodes.admitNode(makeAdmission('node-1')))
    t.same(await store.nodes.admitNode(makeAdmission('node-1')), { labels: { role: 'control' } })
    t.match(await store.nodes.listJoinTokens(), [{ usesLeft: 2 }])
    await losing(() => store.nodes.setNode(nodeId('node-1'), { cordoned: true }))
    await losing(() => store.nodes.updateNodes([{ node: nodeId('node-1'), seenAt: 7, engine: 'engine-1' }]))
    t.match(await store.nodes.listNodes(), [{ id: 'node-1', cordoned: true, lastSeenAt: 7, engine: 'engine-1' }])
    await losing(() => store.nodes.deleteNode(nodeId('node-1')))
    t.equal(await store.nodes.deleteNode(nodeId('node-1')), false)
  })

  t.test('an engine is registered once; secrets and tokens are kept', async (t) => {
    const { store, losing } = await openLossy(t)
    const record = { ...engine, gateway: 'g', startedAt: 1, until: 10 }
    await losing(() => store.engines.registerEngine(record, 0, false))
    t.equal(await store.engines.registerEngine(record, 0, false), 'registered')
    await losing(() => store.secrets.putSecretsIfAbsent([{ scope: 's', name: 'a', sealed: Uint8Array.of(1) }]))
    await store.secrets.putSecretsIfAbsent([{ scope: 's', name: 'a', sealed: Uint8Array.of(2) }])
    t.same((await store.secrets.readSecrets('s')).map((secret) => [...secret.sealed]), [[1]])
  })
}

function testRefusals(t: Test, server: PrivatePostgres): void {
  t.test('the task that another session has locked waits and is refused alone; others go on', async (t) => {
    const url = await server.makeDatabase()
    const store = await openFor(t, url, { limits: { lockMs: 300 } })
    for (const id of ['t-1', 't-2', 't-3']) await store.tasks.create(makeTask(id))
    const other = await connectFor(t, url)
    await other.query("BEGIN; SELECT 1 FROM tasks WHERE id = 't-2' FOR UPDATE")
    const outcomes = await Promise.allSettled(['t-1', 't-2', 't-3'].map((id) => store.tasks.append([makeAppend(id, 1)])))
    t.match(outcomes, [{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'STORE_UNAVAILABLE', message: /a lock was not given in time/, retryAfterS: 1 } }, { status: 'fulfilled' }])
    await other.query('COMMIT')
    t.same(await store.tasks.append([makeAppend('t-2', 1)]), ['appended'])
  })

  t.test('while nothing can be written, what waits in memory is bounded: the rest is refused at once, and nothing waits for ever', async (t) => {
    const url = await server.makeDatabase()
    const store = await openFor(t, url, { limits: { statementMs: 1_500, lockMs: 5_000 } })
    const other = await connectFor(t, url)
    await other.query('BEGIN; LOCK TABLE log_ends')
    const data = Buffer.alloc(1 << 20)
    const startedAt = performance.now()
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, (_, index) => store.logs.appendLog([makeChunk(`t-${index}`, 0, data)])))
    const messages = outcomes.map((outcome) => (outcome.status === 'rejected' ? (outcome.reason as Error).message : 'written'))
    t.ok(messages.filter((message) => /wait to be written already/.test(message)).length > 40, 'some are refused at once')
    t.ok(messages.some((message) => /took too long/.test(message)), 'the others when their time is over')
    t.notOk(messages.includes('written'))
    t.ok(performance.now() - startedAt < 15_000, 'in bounded time')
    await other.query('COMMIT')
    t.same(await store.logs.appendLog([makeChunk('t-1', 0, 'abc\n')]), [{ position: 4, gap: false }])
  })

  t.test('sessions that an operator ends are replaced; what was under way is told, not doubled', async (t) => {
    const url = await server.makeDatabase()
    const logged: string[] = []
    // As a logger writes an error: with all that hangs on it.
    const keep = (fields: object, message: string): void => void logged.push(message, JSON.stringify(fields, (_, value: unknown) => (value instanceof Error ? { ...value, message: value.message } : value)))
    const store = await openFor(t, url, { log: { info: keep, warn: keep } })
    await store.tasks.create(makeTask('t-1'))
    let seq = 1
    let failures = 0
    let isOver = false
    const ender = (async () => {
      for (let turn = 0; turn < 20; turn++) {
        await server.query(endSessions, url)
        const reached = seq
        await eventually(t, 'writing goes on', () => seq > reached + 20)
      }
      isOver = true
    })()
    while (!isOver) {
      const answer = await store.tasks.append([makeAppend('t-1', seq, { events: [skipped(String(seq + 1))] })]).catch((error: { code: string }) => error.code)
      if (typeof answer !== 'string') seq += answer[0] === 'appended' ? 1 : 0
      else failures += t.equal(answer, 'STORE_UNAVAILABLE') ? 1 : 0
      if (typeof answer === 'string' || answer[0] === 'conflict') seq = await eventually(t, 'reading goes on', async () => (await store.tasks.readSummary(taskId('t-1')))?.seq)
    }
    await ender
    const events = await store.tasks.readEvents(taskId('t-1'), 0)
    t.ok(events.slice(1).every((event, index) => event.seq === index + 2 && event.event.type === 'actionSkipped' && event.event.reason === String(index + 2)), `${events.length} events, ${failures} failures`)
    t.equal(events.length, seq)
    await store.close()
    t.ok(logged.some((text) => text.includes('a session with the database ended')))
    t.notMatch(logged.join('\n'), /p@ss|p%40ss/, 'no password in the log')
  })

  t.test('a server that has become read-only is unavailable for writing, says so, and is read on', async (t) => {
    const url = await server.makeDatabase()
    const name = new URL(url).pathname.slice(1)
    const store = await openFor(t, url)
    await store.tasks.create(makeTask('t-1'))
    await server.query(`ALTER DATABASE ${name} SET default_transaction_read_only = on`)
    await server.query(endSessions, url)
    await eventually(t, 'the store is told', () => store.tasks.create(makeTask('t-2')).then(() => false, (error: Error) => /read-only/.test(error.message)))
    await t.rejects(store.tasks.claim(taskId('t-1'), { name: 'e', instance: '1' }, 0, 1), { code: 'STORE_UNAVAILABLE', message: /read-only/ })
    t.match(await store.tasks.readSummary(taskId('t-1')), { seq: 1 })
    await openFor(t, url)
    await server.query(`ALTER DATABASE ${name} RESET default_transaction_read_only`, server.url)
    await server.query(endSessions, url)
    await eventually(t, 'writing goes on', () => store.tasks.create(makeTask('t-2')))
  })

  t.test('a plain role that owns the database is enough, and a server without room for another session is unavailable', async (t) => {
    await server.query("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    const url = new URL(await server.makeDatabase('OWNER plain CONNECTION LIMIT 3'))
    url.username = 'plain'
    url.password = 'plain'
    const store = await openFor(t, url.href)
    await store.tasks.create(makeTask('t-1'))
    await store.ping()
    const others = [await connectFor(t, url.href).catch(() => undefined), await connectFor(t, url.href).catch(() => undefined)]
    const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => [store.tasks.create(makeTask(`t-x${index}`)), store.ping(), store.outbox.deleteOutbox([index]), store.engines.removeEngine({ name: String(index), instance: '1' })]).flat())
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as { code: string; message: string }] : []))
    t.ok(refused.length > 0)
    t.ok(refused.every((error) => error.code === 'STORE_UNAVAILABLE' && /too many connections/.test(error.message)), String(refused[0]?.message))
    for (const other of others) await other?.end()
    await eventually(t, 'it works when there is room', () => store.ping().then(() => true))
  })

  t.test('a full disk is answered with STORE_UNAVAILABLE, nothing half-written stays, and writing goes on when there is room', { timeout: 60_000 }, async (t) => {
    const owner = statSync(join(server.directory, 'data'))
    const mount = join(server.directory, 'small')
    mkdirSync(mount, { recursive: true })
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount], { encoding: 'utf8' })
    if (mounted.status !== 0) {
      if (process.env.CI === 'true') throw new Error(`cannot mount a tmpfs: ${mounted.stderr}`)
      return void t.pass('a full disk', { skip: `cannot mount a tmpfs here: ${mounted.stderr.trim()}` })
    }
    t.teardown(() => spawnSync('umount', ['-l', mount]))
    chownSync(mount, owner.uid, owner.gid)
    await server.query(`CREATE TABLESPACE small LOCATION '${mount}'`)
    const url = await server.makeDatabase('TABLESPACE small')
    const store = await openFor(t, url)
    let stored = 0
    // Bytes that do not compress, or the disk would not fill.
    const data = Buffer.from(Array.from({ length: 64 * 1024 }, (_, index) => (index * index * 2654435761) >>> 24))
    const failure = await (async () => {
      for (;;) {
        const answer = await store.logs.appendLog([makeChunk('t-1', stored, data)]).catch((error: unknown) => error)
        if (answer instanceof Error) return answer
        stored += data.length
      }
    })()
    t.match(failure, { code: 'STORE_UNAVAILABLE', message: /disk of the server is full/ })
    t.equal(await store.logs.logEnd(taskId('t-1')), stored, 'reading goes on, and only what was answered is there')
    t.equal(spawnSync('mount', ['-o', 'remount,size=64m', mount]).status, 0)
    t.same(await store.logs.appendLog([makeChunk('t-1', stored, data)]), [{ position: stored + data.length, gap: false }])
    await store.close()
    await server.query(`DROP DATABASE ${new URL(url).pathname.slice(1)}`)
    await server.query('DROP TABLESPACE small')
  })
}

function testOpening(t: Test, server: PrivatePostgres): void {
  t.test('twenty openers of an empty database all succeed', async (t) => {
    const url = await server.makeDatabase()
    const stores = await Promise.all(Array.from({ length: 12 }, () => openPostgresStore({ url })))
    await stores[3]?.tasks.create(makeTask('t-1'))
    t.match(await stores[11]?.tasks.read(taskId('t-1')), { plan: '{}' })
    await Promise.all(stores.map((store) => store.close()))
    t.same(await server.query('SELECT version FROM schema_migrations ORDER BY version', url), [{ version: 1 }, { version: 2 }, { version: 3 }])
  })

  t.test('a database of a newer version is not opened and not touched', async (t) => {
    const url = await server.makeDatabase()
    await (await openPostgresStore({ url })).close()
    await server.query("INSERT INTO schema_migrations (version, name) VALUES (9999, 'from the future')", url)
    await t.rejects(openPostgresStore({ url }), { code: 'STORE_SCHEMA', message: /version 9999/ })
    t.same(await server.query('SELECT max(version) AS version FROM schema_migrations', url), [{ version: 9999 }])
  })

  t.test('what cannot be opened says so, without the password', async (t) => {
    const secret = 'geheim%40'
    const refused = async (url: string, expected: object): Promise<void> => {
      const messages: string[] = []
      const log = { info: (fields: object, message: string) => void messages.push(message, JSON.stringify(fields)), warn: (fields: object, message: string) => void messages.push(message, JSON.stringify(fields)) }
      const error = await openPostgresStore({ url, log }).then(() => undefined, (failure: Error) => failure)
      t.match(error, expected)
      for (const text of [error?.message ?? '', String(error?.stack), JSON.stringify(error), JSON.stringify(error?.cause), ...messages]) t.notMatch(text, /geheim/)
    }
    const { port } = server
    await refused(`postgres://lichen:${secret}@127.0.0.1:${port}/lichen_1`, { code: 'STORE_UNAVAILABLE', message: /opening postgres:\/\/lichen@127\.0\.0\.1:\d+\/lichen_1: the server refuses the password/ })
    await refused(server.url.replace(/[^/]*$/, 'none'), { code: 'STORE_UNAVAILABLE', message: /no such database/ })
    await refused(`postgres://lichen:${secret}@127.0.0.1:1/lichen`, { code: 'STORE_UNAVAILABLE', message: /ECONNREFUSED/ })
    await refused(`postgres://lichen:${secret}@localhost:1/lichen`, { code: 'STORE_UNAVAILABLE', message: /ECONNREFUSED/ })
    await refused(`postgres://lichen:${secret}@no-such-host.invalid/lichen`, { code: 'STORE_UNAVAILABLE', message: /ENOTFOUND|EAI_AGAIN/ })
    await refused(`postgres://lichen:${secret}@127.0.0.1:${port}/lichen_1?sslmode=verify-full`, { code: 'STORE_UNAVAILABLE', message: /SSL/ })
    for (const url of [`postgres://lichen:${secret}@host`, `postgres://lichen:${secret}%zz@ho st/x`, `postgres:${secret}`]) await refused(url, { code: 'STORE_UNSUPPORTED', entry: { kind: 'rejected' } })
    await refused(await server.makeDatabase("TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"), { code: 'STORE_UNSUPPORTED', message: /encoding LATIN1/ })
  })

  t.test('a store is opened by its URL, and options of the URL reach the server', async (t) => {
    const url = await server.makeDatabase()
    await server.query('CREATE SCHEMA other', url)
    const store = await openStore(`${url.replace('postgres:', 'postgresql:')}?options=${encodeURIComponent('-c search_path=other')}&application_name=lichen`)
    await store.ping()
    await store.close()
    t.match(await server.query("SELECT count(*) AS tables FROM information_schema.tables WHERE table_schema = 'other' AND table_name = 'tasks'", url), [{ tables: '1' }])
  })

  t.test('sessions flush what they commit even where the server would not, and a server that never flushes is warned about', async (t) => {
    const careless = await startPostgres(t, { settings: { synchronous_commit: 'off', fsync: 'off' } })
    if (careless === undefined) return
    const warnings: string[] = []
    const store = await openFor(t, careless.url, { log: { info: () => undefined, warn: (_, message) => void warnings.push(message) } })
    t.match(warnings, [/fsync is off/])
    await careless.query(`CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$`)
    await careless.query('CREATE TABLE seen (setting text)')
    await careless.query('CREATE TRIGGER tell AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tell()')
    await store.tasks.create(makeTask('t-1'))
    t.same(await careless.query('SELECT setting FROM seen'), [{ setting: 'on' }])
  })

  t.test('no session of the store stays when it is closed', async (t) => {
    const url = await server.makeDatabase()
    const store = await openPostgresStore({ url })
    await Promise.all([store.tasks.create(makeTask('t-1')), store.ping(), store.outbox.deleteOutbox([1])])
    await store.close()
    await eventually(t, 'no session is left', async () => (await server.query<{ count: string }>(`SELECT count(*) FROM pg_stat_activity WHERE datname = '${new URL(url).pathname.slice(1)}' AND application_name = 'lichen'`))[0]?.count === '0')
  })
}

function testNotices(t: Test, server: PrivatePostgres): void {
  const listening = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lichen' AND datname = current_database() AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify%')"

  t.test('tasks that were written are told to other sessions, many in one notice, and what others tell wakes listeners', async (t) => {
    const url = await server.makeDatabase()
    const other = await connectFor(t, url)
    const heard = new Set<string>()
    let notices = 0
    other.on('notification', ({ payload }) => {
      notices += 1
      for (const task of (payload ?? '').split(' ')) heard.add(task)
    })
    await other.query('LISTEN lichen_tasks')
    const store = await openFor(t, url)
    await eventually(t, 'the store listens', async () => (await server.query(listening, url)).length === 1)
    const ids = Array.from({ length: 1_000 }, (_, index) => `task-${String(index).padStart(4, '0')}`)
    await Promise.all(ids.map((id) => store.tasks.create(makeTask(id))))
    await eventually(t, 'all were told', () => heard.size === 1_000)
    t.ok(notices < 200, `${notices} notices for 1,000 tasks`)
    let calls = 0
    t.teardown(store.watchTask(ids[7]!, () => (calls += 1)))
    await eventually(t, 'the first look', () => calls > 0)
    const before = calls
    // Nothing is written, so that no look at the tables could find anything.
    await other.query(`NOTIFY lichen_tasks, '${ids[3]} ${ids[7]}'`)
    await eventually(t, 'the listener was woken', () => calls > before)
  })

  t.test('while the connection for notices is gone, listeners are woken all the same, and it comes back', async (t) => {
    const url = await server.makeDatabase()
    const [store, other] = [await openFor(t, url), await openFor(t, url)]
    await store.tasks.create(makeTask('t-1'))
    let seen = 0
    t.teardown(store.watchTask('t-1', () => void store.tasks.readEvents(taskId('t-1'), 0).then((events) => (seen = events.length), () => undefined)))
    await eventually(t, 'both listen', async () => (await server.query(listening, url)).length === 2)
    for (const { pid } of await server.query<{ pid: number }>(listening, url)) await server.query(`SELECT pg_terminate_backend(${pid})`)
    await other.tasks.append([makeAppend('t-1', 1)])
    await eventually(t, 'the event was seen', () => seen === 2)
    await other.logs.appendLog([makeChunk('t-1', 0, 'abc\n')])
    await eventually(t, 'both listen again', async () => (await server.query(listening, url)).length === 2)
  })
}

const server = await startPostgres(t)
if (server !== undefined) testPostgres(t, server)
