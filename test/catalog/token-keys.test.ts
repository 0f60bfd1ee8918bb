/** What keeps Keystone's keys of tokens: the script itself, in a directory of the test. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'

const source = readFileSync(resolve(import.meta.dirname, '../../catalog/keystone/templates/token-keys.py'), 'utf8')

/** The script for another directory, which belongs to whoever runs the test. */
function openKeys(t: Test): { run: (verb: string, key: string) => void; is: (verb: string, key: string) => boolean; keys: () => Record<string, string>; put: (number: number, key: string) => void } {
  const directory = t.testdir()
  const script = join(directory, 'token-keys')
  const repository = join(directory, 'fernet-keys')
  writeFileSync(script, source.replace('"/etc/keystone/fernet-keys"', JSON.stringify(repository)).replace('getpwnam("keystone")', `getpwnam("${userInfo().username}")`))
  const environment = (key: string) => ({ env: { ...process.env, TOKEN_KEY: key } })
  return {
    run: (verb, key) => void execFileSync('python3', [script, verb], environment(key)),
    is: (verb, key) => spawnSync('python3', [script, verb], environment(key)).status === 0,
    keys: () => (existsSync(repository) ? Object.fromEntries(readdirSync(repository).sort().map((name) => [name, readFileSync(join(repository, name), 'utf8')])) : {}),
    put(number, key) {
      mkdirSync(repository, { recursive: true })
      rmSync(join(repository, String(number)), { force: true })
      writeFileSync(join(repository, String(number)), key)
    },
  }
}

t.test('the first key is staged, and used when all have it', (t) => {
  const { run, is, keys } = openKeys(t)
  t.notOk(is('is-staged', 'K1='))
  run('stage', 'K1=')
  t.same(keys(), { 0: 'K1=' })
  t.ok(is('is-staged', 'K1='))
  t.notOk(is('is-used', 'K1='), 'what is staged makes no tokens')
  run('use', 'K1=')
  t.same(keys(), { 1: 'K1=' })
  t.ok(is('is-used', 'K1=') && is('is-staged', 'K1='))
  run('stage', 'K1=')
  run('use', 'K1=')
  t.same(keys(), { 1: 'K1=' }, 'again, nothing changes')
  t.end()
})

t.test('another key makes tokens after it was staged, and two former ones are known on', (t) => {
  const { run, keys } = openKeys(t)
  for (const key of ['K1=', 'K2=', 'K3=', 'K4=']) {
    run('stage', key)
    run('use', key)
  }
  t.same(keys(), { 2: 'K2=', 3: 'K3=', 4: 'K4=' })
  run('stage', 'K5=')
  t.same(keys(), { 0: 'K5=', 2: 'K2=', 3: 'K3=', 4: 'K4=' }, 'until then the one before it does')
  t.end()
})

t.test('a key that was staged for a rotation which did not come to its end is known on, and the one that makes tokens does so', (t) => {
  const { run, keys } = openKeys(t)
  run('stage', 'K1=')
  run('use', 'K1=')
  run('stage', 'K2=')
  run('stage', 'K3=')
  t.same(keys(), { 0: 'K3=', 1: 'K2=', 2: 'K1=' })
  run('use', 'K3=')
  t.same(keys(), { 1: 'K2=', 2: 'K1=', 3: 'K3=' })
  t.end()
})

t.test('keys that the package made go on being known, and an empty one of a crash is no key', (t) => {
  const { run, keys, put } = openKeys(t)
  put(0, 'P0=')
  put(1, 'P1=')
  put(2, '')
  run('stage', 'K1=')
  run('use', 'K1=')
  t.match(keys(), { 2: 'P1=', 3: 'K1=' })
  t.end()
})
