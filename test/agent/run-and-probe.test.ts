import { existsSync, writeFileSync } from 'node:fs'
import { createServer as createTcpServer } from 'node:net'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AttemptResult, Command } from '@lichen/core'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand, type TestGateway } from './gateway.js'

async function answer(t: Test, gateway: TestGateway, commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult & { log: string }> {
  const key = gateway.order({ commands, mode })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  return { ...result, log: gateway.logOf(key) }
}

t.test('a program runs unless its check says that the effect is there', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const at = (name: string): string => join(directory, name)
  for (const [name, spec] of Object.entries({
    creates: { argv: ['touch', at('creates')], creates: at('creates') },
    unless: { argv: ['touch', at('unless')], unless: ['test', '-e', at('unless')] },
    unlessShell: { shell: `touch ${at('shell')}`, unless: `test -e ${at('shell')} && true` },
    verify: { argv: ['touch', at('verify')], verify: `test -e ${at('verify')}` },
  })) {
    const command = makeCommand('run', spec)
    t.match(await answer(t, gateway, [command], 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: /^run `/ }] }, name)
    t.match(await answer(t, gateway, [command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] }, name)
    t.match(await answer(t, gateway, [command], 'check'), { changed: false }, name)
  }
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], verify: ['test', '-e', at('never')] })]), { outcome: 'failed', changed: true, failure: { code: 'COMMAND_NOT_VERIFIED', message: /exit code 1/ } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], creates: at('never') })]), { outcome: 'failed', failure: { code: 'COMMAND_NOT_VERIFIED', message: /is not there/ } })
})

t.test('a program gets what its spec says, and nothing of the agent’s own', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const out = { all: { from: 'stdout' as const } }
  process.env['LICHEN_OF_THE_AGENT'] = 'its own'
  t.teardown(() => delete process.env['LICHEN_OF_THE_AGENT'])
  // Only these are asked for: tap puts variables of its own into every process.
  const names = ['HOME', 'LANG', 'LICHEN_NODE', 'LICHEN_OF_THE_AGENT', 'PATH', 'WORD']
  const environment = await answer(t, gateway, [makeCommand('run', { shell: names.map((name) => `echo "${name}=\${${name}-}"`).join('\n'), env: { WORD: 'a b' }, uncheckable: true, outputs: out })])
  t.match(environment.outputs['all'], /^HOME=\/root\nLANG=C\.UTF-8\nLICHEN_NODE=node-1\nLICHEN_OF_THE_AGENT=\nPATH=\/usr\/local\/sbin:.*\nWORD=a b$/)
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['sh', '-c', 'cat; pwd'], stdin: 'given', cwd: directory, uncheckable: true, outputs: out })]), { outputs: { all: `given${directory}` } })
  t.match(await answer(t, gateway, [makeCommand('run', { shell: 'false | true', uncheckable: true })]), { outcome: 'failed' }, 'a shell stops at the first failure, in pipes too')
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['sh', '-c', 'exit 3'], okExitCodes: [0, 3], uncheckable: true })]), { outcome: 'succeeded', commands: [{ exitCode: 3 }] })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['no-such-program'], uncheckable: true })]), { failure: { code: 'COMMAND_NOT_STARTED', message: /no program no-such-program/ } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], cwd: '/no/such', uncheckable: true })]), { failure: { code: 'COMMAND_NOT_STARTED' } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['echo', 'a\u0000b'], uncheckable: true })]), { outcome: 'failed', failure: { code: 'COMMAND_NOT_STARTED' } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['sh', '-c', 'kill -9 $$'], uncheckable: true })]), { outcome: 'failed', failure: { message: /ended by SIGKILL/ } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], stdin: 'x'.repeat(1_000_000), uncheckable: true })]), { outcome: 'succeeded' }, 'a program need not read its input')
})

t.test('a program runs as another user with the groups of that user', { skip: process.getuid?.() === 0 ? false : 'changing the user needs root' }, async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const result = await answer(t, gateway, [makeCommand('run', { shell: 'id -un; id -Gn; echo $HOME $USER', user: 'daemon', uncheckable: true, outputs: { all: { from: 'stdout' } } })])
  t.match(result, { outcome: 'succeeded', outputs: { all: 'daemon\ndaemon\n/usr/sbin daemon' } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], user: 'no-such-user', uncheckable: true })]), { failure: { code: 'COMMAND_USER_UNKNOWN' } })
})

t.test('outputs come from stdout or a file, and have a limit', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const path = join(directory, 'out')
  t.match(
    await answer(t, gateway, [makeCommand('run', { shell: `echo " a "; printf ' raw ' > ${path}`, creates: path, outputs: { one: { from: 'stdout' }, two: { from: 'file', path } } })]),
    { outputs: { one: 'a', two: ' raw ' } },
  )
  const there = await answer(t, gateway, [makeCommand('run', { argv: ['false'], unless: ['echo', 'from the check'], outputs: { one: { from: 'stdout' } } })])
  t.match(there, { changed: false, outputs: { one: 'from the check' } })
  t.match(await answer(t, gateway, [makeCommand('run', { shell: 'head -c 70000 /dev/zero', uncheckable: true, outputs: { one: { from: 'stdout' } } })]), { outcome: 'failed', failure: { code: 'COMMAND_OUTPUT', message: /65536 bytes/ } })
  t.match(await answer(t, gateway, [makeCommand('run', { argv: ['true'], uncheckable: true, outputs: { one: { from: 'file', path: '/no/such' } } })]), { outcome: 'failed', failure: { message: /ENOENT/ } })
})

t.test('a probe waits until it is answered as asked', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const http = createServer((request, response) => response.writeHead(request.url === '/teapot' ? 418 : 200).end('all is well'))
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const free = createTcpServer()
  await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve))
  const port = (free.address() as { port: number }).port
  await new Promise((resolve) => free.close(resolve))
  t.teardown(() => http.close())
  const url = (path: string): string => `http://127.0.0.1:${(http.address() as { port: number }).port}${path}`
  const quick = { intervalMs: 50, deadlineMs: 150 }
  t.match(await answer(t, gateway, [makeCommand('probe', { http: { url: url('/') }, ...quick }), makeCommand('probe', { http: { url: url('/teapot'), codes: [418], bodyIncludes: 'is well' }, ...quick }), makeCommand('probe', { command: ['true'], ...quick })]), { outcome: 'succeeded', changed: false })
  t.match(await answer(t, gateway, [makeCommand('probe', { http: { url: url('/teapot') }, ...quick })]), { outcome: 'failed', failure: { code: 'COMMAND_PROBE_DEADLINE', message: /answered 418/ } })
  t.match(await answer(t, gateway, [makeCommand('probe', { http: { url: url('/'), bodyIncludes: 'sick' }, ...quick })]), { failure: { message: /does not contain "sick"/ } })
  t.match(await answer(t, gateway, [makeCommand('probe', { tcp: { host: '127.0.0.1', port }, ...quick })]), { failure: { message: /ECONNREFUSED/ } })
  t.match(await answer(t, gateway, [makeCommand('probe', { command: ['sh', '-c', 'echo not yet; exit 4'], ...quick })]), { failure: { message: /exit code 4: not yet/ } })
  t.match(await answer(t, gateway, [makeCommand('probe', { command: ['sh', '-c', 'echo no room; echo no light; exit 1'], deadlineMs: 0 })]), { failure: { code: 'COMMAND_CONDITION', message: /^no room\nno light\n\(asked once: `sh -c .*`\)$/ } }, 'a condition')
  const says = { command: ['sh', '-c', 'echo valid for 9 days'], deadlineMs: 0 }
  for (const mode of ['do', 'check'] as const) {
    t.match(await answer(t, gateway, [makeCommand('probe', { ...says, prints: true })], mode), { outcome: 'succeeded', changed: false, log: /valid for 9 days/ }, 'what it says is in the log')
    t.notMatch(await answer(t, gateway, [makeCommand('probe', says)], mode), { log: /valid for 9 days/ }, 'or is not')
  }
  t.match(await answer(t, gateway, [makeCommand('probe', { tcp: { host: '127.0.0.1', port } })], 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: /ECONNREFUSED/ }] }, 'in check mode: one try, and a difference')
  t.match(await answer(t, gateway, [makeCommand('probe', {})]), { failure: { code: 'COMMAND_BAD_SPEC' } })
  const path = join(directory, 'late')
  const waiting = gateway.order({ commands: [makeCommand('probe', { command: ['test', '-e', path], intervalMs: 50 })] })
  await eventually(t, 'it waits', () => gateway.logOf(waiting).includes('waiting for'))
  writeFileSync(path, '')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(waiting)), { result: { outcome: 'succeeded' } })
  t.ok(existsSync(path))
})
