import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import sqlite3 from 'sqlite3'
import t, { type Test } from 'tap'
import { actionId, nodeId, taskId } from '@lichen/core'
import { openSqliteStore, openStore, type NewTask, type Store } from '@lichen/store'
import { eventually } from '../eventually.js'
import { testStore } from './contract.js'

function makeDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-store-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function openFor(t: Test, path: string, options: { busyTimeoutMs?: number } = {}): Promise<Store> {
  const store = await openSqliteStore({ path, ...options })
  t.teardown(() => store.close())
  return store
}

const makeTask = (id: string, plan = '{}'): NewTask => ({
  id: taskId(id), kind: 'apply', project: 'p', deployment: 'd', plan, at: 1, requestDigest: 'r',
  event: { type: 'taskAccepted', kind: 'apply', project: 'p', deployment: 'd', planDigest: 'x', by: 'test' },
})

/** Runs statements on a database file with the bare library, as another program would. */
function runScript(path: string, script: string): Promise<void> {
  return new Promise((done, reject) => {
    const database = new sqlite3.Database(path, (error) => {
      if (error) return reject(error)
      database.exec(script, (failure) => database.close(() => (failure ? reject(failure) : done())))
    })
  })
}

t.test('the SQLite store keeps the contract', async (t) => {
  testStore(t, async (t) => {
    const path = join(makeDirectory(t), 'lichen.db')
    return { open: () => openSqliteStore({ path }) }
  })
})

t.test('what a process committed is there after it was killed with SIGKILL, and it can go on', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const child = spawn(process.execPath, ['--import=tsx', resolve(import.meta.dirname, 'sqlite-writer.ts'), path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
  await eventually(t, 'the child has committed a good deal', () => lines.length > 300, { timeoutMs: 30_000 })
  child.kill('SIGKILL')
  await once(child, 'close')
  const store = await openFor(t, path)
  const committed = Math.max(...lines.map(Number))
  const events = await store.tasks.readEvents(taskId('t-1'), 0)
  t.ok(events.length >= committed, `${committed} events were reported committed, ${events.length} are there`)
  t.ok(events.every((event, index) => event.seq === index + 1), 'without a hole')
  const summary = (await store.tasks.read(taskId('t-1')))?.summary
  t.equal(summary?.seq, events.length, 'row and events agree')
  t.equal(await store.logs.logEnd(taskId('t-1')), Buffer.concat((await store.logs.readLog(taskId('t-1'), 0, 1 << 24)).map((chunk) => chunk.data)).byteLength)
  t.same(await store.tasks.append([{ task: taskId('t-1'), expectedSeq: events.length, epoch: null, events: [], at: 1 }]), ['appended'])
})

t.test('a database that another process has locked for long is unavailable, says why, and works when the lock is gone', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const store = await openFor(t, path, { busyTimeoutMs: 100 })
  await store.tasks.create(makeTask('t-1'))
  const locker = new sqlite3.Database(path)
  await new Promise((done) => locker.exec('BEGIN IMMEDIATE', done))
  await t.rejects(store.tasks.create(makeTask('t-2')), { code: 'STORE_UNAVAILABLE', message: /another process holds the write lock/, retryAfterS: 1 })
  t.match(await store.tasks.read(taskId('t-1')), { plan: '{}' }, 'reading goes on')
  await t.resolves(store.ping())
  await new Promise((done) => locker.exec('COMMIT', done))
  await new Promise((done) => locker.close(done))
  t.match(await store.tasks.create(makeTask('t-2')), { isNew: true })
})

t.test('while nothing can be written, what waits in memory is bounded: the rest is refused at once', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const store = await openFor(t, path, { busyTimeoutMs: 500 })
  const locker = new sqlite3.Database(path)
  await new Promise((done) => locker.exec('BEGIN IMMEDIATE', done))
  const data = Buffer.alloc(1 << 20)
  const refusals: string[] = []
  const writes = Array.from({ length: 200 }, (_, index) =>
    store.logs.appendLog([{ task: taskId('t-1'), action: actionId(`a-${index}`), attempt: 1, node: nodeId('n'), position: 0, command: 0, stream: 'stdout', at: 1, data }]).catch((error: Error) => refusals.push(error.message)),
  )
  await eventually(t, 'some are refused', () => refusals.length > 0)
  t.ok(refusals.length > 60 && refusals.length < 80, `${refusals.length} of 200 MiB are refused`)
  t.match(refusals[0], /wait to be written already/)
  await new Promise((done) => locker.exec('COMMIT', done))
  await new Promise((done) => locker.close(done))
  await Promise.all(writes)
  t.match(await store.tasks.create(makeTask('t-1')), { isNew: true })
})

t.test('a short lock of another process is waited for', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const store = await openFor(t, path)
  const locker = new sqlite3.Database(path)
  await new Promise((done) => locker.exec('BEGIN IMMEDIATE', done))
  const created = store.tasks.create(makeTask('t-1'))
  await store.ping()
  await new Promise((done) => locker.exec('COMMIT', done))
  t.match(await created, { isNew: true })
  await new Promise((done) => locker.close(done))
})

t.test('a full disk is answered with STORE_UNAVAILABLE, nothing half-written stays, and writing goes on when there is room', async (t) => {
  if (process.getuid?.() !== 0) {
    if (process.env.CI === 'true') throw new Error('needs root to mount a small tmpfs')
    return void t.pass('a full disk', { skip: 'needs root to mount a small tmpfs' })
  }
  const mount = join(makeDirectory(t), 'small')
  mkdirSync(mount)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount], { encoding: 'utf8' })
  if (mounted.status !== 0) {
    if (process.env.CI === 'true') throw new Error(`cannot mount a tmpfs: ${mounted.stderr}`)
    return void t.pass('a full disk', { skip: `cannot mount a tmpfs here: ${mounted.stderr.trim()}` })
  }
  t.teardown(() => spawnSync('umount', ['-l', mount]))
  const ballast = join(mount, 'ballast')
  writeFileSync(ballast, Buffer.alloc(1 << 20))
  const store = await openSqliteStore({ path: join(mount, 'lichen.db') })
  t.teardown(() => store.close())
  const data = Buffer.alloc(64 * 1024, 'x')
  let stored = 0
  const failure = await (async () => {
    for (;;) {
      const answer = await store.logs.appendLog([{ task: taskId('t-1'), action: actionId('a'), attempt: 1, node: nodeId('n'), position: stored, command: 0, stream: 'stdout', at: 1, data }]).catch((error: unknown) => error)
      if (answer instanceof Error) return answer
      stored += data.length
    }
  })()
  t.match(failure, { code: 'STORE_UNAVAILABLE', message: /disk is full/ })
  await t.rejects(store.tasks.create(makeTask('t-big', 'p'.repeat(1 << 21))), { code: 'STORE_UNAVAILABLE' })
  t.equal(await store.logs.logEnd(taskId('t-1')), stored, 'reading goes on, and only what was answered is there')
  t.equal(await store.tasks.read(taskId('t-big')), undefined)
  rmSync(ballast)
  t.match(await store.tasks.create(makeTask('t-2')), { isNew: true })
  t.same(await store.logs.appendLog([{ task: taskId('t-1'), action: actionId('a'), attempt: 1, node: nodeId('n'), position: stored, command: 0, stream: 'stdout', at: 1, data }]), [{ position: stored + data.length, gap: false }])
})

t.test('a database of a newer version is not opened and not touched', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  await (await openSqliteStore({ path })).close()
  await runScript(path, "INSERT INTO schema_migrations VALUES (9999, 'from the future', 0)")
  const before = readFileSync(path)
  await t.rejects(openSqliteStore({ path }), { code: 'STORE_SCHEMA', message: /version 9999/ })
  t.same(readFileSync(path), before)
})

t.test('a database of the first version is brought up to date, and a lease of that time is taken with a higher epoch', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const before = await openSqliteStore({ path })
  const engine = { name: 'engine-1', instance: '1' }
  await before.tasks.create(makeTask('t-1'))
  await before.tasks.claim(taskId('t-1'), engine, 0, 1_000)
  await before.close()
  await runScript(path, `DROP TRIGGER node_deleted; DROP TABLE node_signs; DROP TRIGGER node_joined; DROP TRIGGER node_changed; DROP TABLE node_list; ALTER TABLE nodes DROP COLUMN revision; ALTER TABLE tasks DROP COLUMN lease_instance; ALTER TABLE nodes DROP COLUMN engine; DROP TABLE engines; DROP TABLE applied; DROP TABLE turns; DROP INDEX tasks_open; DELETE FROM schema_migrations WHERE version > 1`)
  const store = await openFor(t, path)
  t.same([...(await store.tasks.renew(engine, [taskId('t-1')], 0, 1_000))], [])
  t.match(await store.tasks.claim(taskId('t-1'), engine, 0, 1_000), { epoch: 2 })
  t.same(await store.engines.listEngines(0), [])
  t.same(await store.tasks.readApplied('p', 'd'), [])
})

t.test('twenty openers of a file that does not exist yet all succeed', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const stores = await Promise.all(Array.from({ length: 20 }, () => openSqliteStore({ path })))
  await stores[3]?.tasks.create(makeTask('t-1'))
  t.match(await stores[17]?.tasks.read(taskId('t-1')), { plan: '{}' })
  await Promise.all(stores.map((store) => store.close()))
})

t.test('what cannot be opened says so', async (t) => {
  const directory = makeDirectory(t)
  await t.rejects(openSqliteStore({ path: join(directory, 'none', 'lichen.db') }), { code: 'STORE_UNAVAILABLE', message: /opening .*none.*ENOENT/ })
  await t.rejects(openSqliteStore({ path: directory }), { code: 'STORE_UNAVAILABLE' })
  const garbage = join(directory, 'garbage')
  writeFileSync(garbage, 'this is no database, and long enough not to be taken for an empty one. '.repeat(20))
  await t.rejects(openSqliteStore({ path: garbage }), { code: 'STORE_UNAVAILABLE', message: /not a SQLite database/ })
})

t.test('the database is for the eyes of its owner alone', async (t) => {
  const path = join(makeDirectory(t), 'lichen.db')
  const store = await openFor(t, path)
  await store.tasks.create(makeTask('t-1'))
  for (const file of [path, `${path}-wal`, `${path}-shm`]) t.equal(statSync(file).mode & 0o777, 0o600, file)
})

t.test('a store is opened by URL or path; kinds that do not exist are refused in words', async (t) => {
  const directory = makeDirectory(t)
  for (const url of [join(directory, 'a.db'), `sqlite:${join(directory, 'b.db')}`, `sqlite://${join(directory, 'c.db')}`]) {
    const store = await openStore(url)
    await store.ping()
    await store.close()
  }
  for (const name of ['a.db', 'b.db', 'c.db']) t.ok(statSync(join(directory, name)).isFile(), name)
  await t.rejects(openStore('mysql://host/lichen'), { code: 'STORE_UNSUPPORTED' })
  await t.rejects(openStore('sqlite:'), { code: 'STORE_UNSUPPORTED' })
})
