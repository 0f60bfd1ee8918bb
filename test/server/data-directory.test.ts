import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { openDataDirectory, readMasterKey } from '@lichen/server'

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

t.test('a directory is made for its owner alone, and a second server with the same role is refused with the address of the first', async (t) => {
  const path = join(t.testdir({}), 'new/data')
  const first = await openDataDirectory(path, ['api', 'engine'])
  t.equal(modeOf(path), '700')
  await first.writeNote({ pid: 4711, apiUrl: 'http://127.0.0.1:1', gatewayAddress: 'x:1' })
  await t.rejects(openDataDirectory(path, ['api']), { code: 'SERVER_LOCKED', message: /process 4711, http:\/\/127\.0\.0\.1:1/ })
  await first.close()
  t.notOk(existsSync(join(path, 'server.json')))
  const second = await openDataDirectory(path, ['api', 'engine'])
  await second.close()
})

t.test('different roles share a directory; a refused server gives back what it had taken', async (t) => {
  const path = t.testdir({})
  const engine = await openDataDirectory(path, ['engine'])
  await t.rejects(openDataDirectory(path, ['api', 'engine']), { code: 'SERVER_LOCKED' })
  const api = await openDataDirectory(path, ['api'])
  await Promise.all([api.close(), engine.close()])
})

t.test('a server that was killed leaves no lock behind', async (t) => {
  const path = t.testdir({})
  const script = `import { openDataDirectory } from '@lichen/server'; await openDataDirectory(${JSON.stringify(path)}, ['api']); console.log('held'); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: resolve(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  await t.rejects(openDataDirectory(path, ['api']), { code: 'SERVER_LOCKED' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const next = await openDataDirectory(path, ['api'])
  await next.close()
})

t.test('the master key is made once, readable by its owner alone, and the same for two that ask at once', async (t) => {
  const dataDirectory = t.testdir({})
  const ask = () => readMasterKey({ dataDirectory, given: undefined, isStoreUsed: false })
  const [one, two] = await Promise.all([ask(), ask()])
  t.equal(one.length, 32)
  t.same(one, two)
  t.same(await ask(), one)
  t.equal(modeOf(join(dataDirectory, 'master.key')), '600')
  t.equal(Buffer.from(one).toString('hex'), readFileSync(join(dataDirectory, 'master.key'), 'utf8').trim())
})

t.test('no new master key is made beside a store that was sealed with another', async (t) => {
  const dataDirectory = t.testdir({})
  await t.rejects(readMasterKey({ dataDirectory, given: undefined, isStoreUsed: true }), { code: 'SERVER_MASTER_KEY' })
  t.notOk(existsSync(join(dataDirectory, 'master.key')))
})

t.test('a master key that is given is taken, and a malformed one is refused without repeating it', async (t) => {
  const dataDirectory = t.testdir({})
  t.same(await readMasterKey({ dataDirectory, given: '0f'.repeat(32), isStoreUsed: true }), new Uint8Array(32).fill(15))
  for (const given of ['geheim', '', 'zz'.repeat(32)]) await t.rejects(readMasterKey({ dataDirectory, given, isStoreUsed: false }), { code: 'SERVER_MASTER_KEY', message: /^(?!.*geheim)/ })
  writeFileSync(join(dataDirectory, 'master.key'), 'cut off')
  await t.rejects(readMasterKey({ dataDirectory, given: undefined, isStoreUsed: false }), { code: 'SERVER_MASTER_KEY' })
  rmSync(join(dataDirectory, 'master.key'))
})
