import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { parseJoinToken } from '@lichen/core'
import { eventually } from '../eventually.js'

const main = resolve(import.meta.dirname, '../../packages/api/dist/main.js')

function startProgram(t: Test, env: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [main], { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
  return { child, stderr: () => stderr, ended: once(child, 'close') as Promise<[number | null, string | null]> }
}

t.test('settings that are missing or malformed are named all at once, and secrets are not repeated', async (t) => {
  const program = startProgram(t, { LICHEN_PORT: 'http', LICHEN_BROKER_URL: 'http://user:hunter2@host', LICHEN_LOG_LEVEL: 'loud' })
  t.same(await program.ended, [2, null])
  for (const name of ['LICHEN_PORT', 'LICHEN_BROKER_URL', 'LICHEN_LOG_LEVEL', 'LICHEN_STORE_URL', 'LICHEN_CATALOG', 'LICHEN_CA_DIGEST', 'LICHEN_GATEWAY_ADVERTISE']) t.match(program.stderr(), `${name}: `)
  t.notMatch(program.stderr(), 'hunter2')
})

t.test('the program serves by itself while RabbitMQ is away, and stops politely', async (t) => {
  const token = 'a-token-of-the-operators-choice'
  const program = startProgram(t, {
    LICHEN_PORT: '0', LICHEN_STORE_URL: `sqlite:${join(t.testdir(), 'lichen.db')}`, LICHEN_BROKER_URL: 'amqp://guest:hunter2@127.0.0.1:1', LICHEN_CATALOG: 'catalog',
    LICHEN_CA_DIGEST: 'd'.repeat(64), LICHEN_GATEWAY_ADVERTISE: 'gateway.example:8471', LICHEN_ADMIN_TOKEN: token, LICHEN_PROT: '1',
  })
  const port = await eventually(t, 'the API is up', () => Number(/"port":(\d+),"msg":"the API is listening"/.exec(program.stderr())?.[1]), { timeoutMs: 20_000 })
  const origin = `http://127.0.0.1:${port}`
  t.match(await (await fetch(`${origin}/readyz`)).json(), { ready: true, broker: 'disconnected' })
  const made = (await (await fetch(`${origin}/v1/join-tokens`, { method: 'POST', headers: { authorization: `Bearer ${token}` } })).json()) as { token: string; gateway: string }
  t.equal(parseJoinToken(made.token).caDigest, 'd'.repeat(64))
  t.equal(made.gateway, 'gateway.example:8471')
  t.match(program.stderr(), /"LICHEN_STORE_URL":"\(secret\)"/)
  t.match(program.stderr(), /"name":"LICHEN_PROT"/)
  t.notMatch(program.stderr(), new RegExp(`hunter2|${token}`))
  program.child.kill('SIGTERM')
  t.same(await program.ended, [0, null])
})

t.test('docs/api.md lists every setting of the program', async (t) => {
  const listed = [...(await readFile('docs/api.md', 'utf8')).matchAll(/^\| `(LICHEN_\w+)` \|/gm)].map((match) => match[1]!)
  const program = startProgram(t, Object.fromEntries(listed.map((name) => [name, '\u0001'])))
  await program.ended
  // Every listed setting is known: one that is not would be warned about, and each of these refuses the value or takes any text.
  const refused = new Set([...program.stderr().matchAll(/^ {2}(LICHEN_\w+): /gm)].map((match) => match[1]))
  t.same(listed.filter((name) => !refused.has(name)).sort(), ['LICHEN_CATALOG', 'LICHEN_HOST'])
  t.same([...refused].filter((name) => !listed.includes(name!)), [])
})
