import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import t, { type Test } from 'tap'
import type { AttemptResult, Command } from '@lichen/core'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { makeCommand, type TestGateway } from './gateway.js'

async function answer(t: Test, gateway: TestGateway, commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult> {
  const key = gateway.order({ commands, mode })
  return (await eventually(t, 'the result', () => gateway.resultOf(key))).result
}

t.test('a file gets content, mode and owner, and is left alone when it has them', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const path = join(directory, 'a.conf')
  writeFileSync(path, 'old\nsame\n')
  chmodSync(path, 0o604)
  const command = makeCommand('file', { path, content: 'new\nsame\n' })
  const preview = await answer(t, gateway, [command], 'check')
  t.match(preview.commands[0]?.diff, `--- ${path}\n+++ ${path}\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n`)
  t.equal(readFileSync(path, 'utf8'), 'old\nsame\n')
  t.match(await answer(t, gateway, [command]), { changed: true })
  t.equal(statSync(path).mode & 0o777, 0o604, 'a mode that is not given is kept')
  t.match(await answer(t, gateway, [command]), { changed: false, commands: [{ changed: false }] })
  const owned = makeCommand('file', { path, content: 'new\nsame\n', mode: '0640', ...(process.getuid?.() === 0 && { owner: 'daemon', group: 'adm' }) })
  t.match(await answer(t, gateway, [owned], 'check'), { changed: true, commands: [{ diff: /mode 0604 → 0640/ }] })
  t.match(await answer(t, gateway, [owned, owned]), { commands: [{ changed: true }, { changed: false }] })
  if (process.getuid?.() === 0) t.equal(statSync(path).uid, 1)
  t.same(readdirSync(directory).filter((name) => name.includes('lichen-new')), [], 'nothing temporary is left')
})

t.test('contents that are not shown: secret, binary, very large', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const path = join(directory, 'x')
  const secret = await answer(t, gateway, [makeCommand('file', { path, content: 'pw=geheim', secret: true })])
  t.match(secret.commands[0]?.diff, /not shown/)
  t.notMatch(JSON.stringify(secret), /geheim/)
  writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00]))
  t.match((await answer(t, gateway, [makeCommand('file', { path, content: 'text' })])).commands[0]?.diff, /binary content differs \(3 → 4 bytes\)/)
  const large = 'line\n'.repeat(100_000)
  t.match((await answer(t, gateway, [makeCommand('file', { path, content: large })])).commands[0]?.diff, /content differs \(4 → 500000 bytes\)/)
  const long = Array.from({ length: 20_000 }, (_, index) => `value ${index}`).join('\n')
  const diff = (await answer(t, gateway, [makeCommand('file', { path: `${path}2`, content: long })])).commands[0]?.diff ?? ''
  t.ok(Buffer.byteLength(diff) <= 64 * 1024)
  t.match(diff, /… \d+ bytes in all, the rest is cut …$/)
})

t.test('a file with secrets is compared option by option: what drifted is shown, and no secret, be it known or not', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const path = join(directory, 'nova.conf')
  const secrets = ['PasswordOfNow123']
  const content = '[DEFAULT]\nworkers = 2\nconnection = mysql://nova:PasswordOfNow123@10.0.0.1/nova\n'
  const ask = async (mode: 'do' | 'check'): Promise<AttemptResult> => {
    const key = gateway.order({ commands: [makeCommand('file', { path, content, secret: true })], mode, secrets })
    return (await eventually(t, 'the result', () => gateway.resultOf(key))).result
  }
  const made = await ask('do')
  t.equal(made.commands[0]?.diff, `${path}: content differs (new, ${Buffer.byteLength(content)} bytes; not shown)`)
  writeFileSync(path, content.replace('workers = 2', 'workers = 7\nextra = PasswordOfThen456').replace(secrets[0]!, 'PasswordOfThen456'))
  const preview = await ask('check')
  const diff = '@@ -1,4 +1,3 @@\n [DEFAULT]\n-workers = 7\n-extra = (not shown)\n-connection = (not shown)\n+workers = 2\n+connection = mysql://nova:***@10.0.0.1/nova\n'
  t.equal(preview.commands[0]?.diff, `--- ${path}\n+++ ${path}\n${diff}`)
  const repair = await ask('do')
  t.match(repair, { outcome: 'succeeded', changed: true, commands: [{ diff: preview.commands[0]!.diff! }] })
  t.match(await ask('check'), { changed: false })
  writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00]))
  t.match((await ask('check')).commands[0]?.diff, /content differs \(3 → \d+ bytes; not shown\)$/)
  writeFileSync(path, 'workers = 2\n'.repeat(30_000))
  t.match((await ask('check')).commands[0]?.diff, /content differs \(360000 → \d+ bytes; not shown\)$/)
  t.notMatch(JSON.stringify([made, preview, repair]), /PasswordOf/)
})

t.test('what stands in the way of a file is said, links are replaced, absence is kept', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const at = (name: string): string => join(directory, name)
  mkdirSync(at('dir'))
  writeFileSync(at('target'), 'target')
  symlinkSync(at('target'), at('link'))
  t.match(await answer(t, gateway, [makeCommand('file', { path: at('dir'), content: '' })]), { outcome: 'failed', failure: { code: 'COMMAND_CONFLICT' } })
  t.match(await answer(t, gateway, [makeCommand('file', { path: at('nowhere/x'), content: '' })]), { outcome: 'failed', failure: { code: 'COMMAND_FAILED', message: /ENOENT/ } })
  t.match(await answer(t, gateway, [makeCommand('file', { path: at('x'), content: '', owner: 'no-such-user' })]), { outcome: 'failed', failure: { code: 'COMMAND_USER_UNKNOWN', message: /no-such-user/ } })
  t.match(await answer(t, gateway, [makeCommand('file', { path: at('link'), content: 'own' })]), { outcome: 'succeeded' })
  t.notOk(lstatSync(at('link')).isSymbolicLink())
  t.equal(readFileSync(at('target'), 'utf8'), 'target')
  const absent = makeCommand('file', { path: at('link'), state: 'absent' })
  t.match(await answer(t, gateway, [absent, absent]), { commands: [{ changed: true, diff: `- ${at('link')}` }, { changed: false }] })
  t.match(await answer(t, gateway, [makeCommand('file', { path: at('y') })]), { failure: { code: 'COMMAND_BAD_SPEC' } })
})

t.test('directories are made, changed and removed', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const path = join(directory, 'a/b/c')
  const command = makeCommand('directory', { path, mode: '2750' })
  t.match(await answer(t, gateway, [command, command]), { commands: [{ changed: true, diff: `+ ${path}/` }, { changed: false }] })
  t.equal(statSync(path).mode & 0o7777, 0o2750)
  writeFileSync(join(path, 'file'), '')
  t.match(await answer(t, gateway, [makeCommand('directory', { path, state: 'absent' })]), { outcome: 'failed', failure: { code: 'COMMAND_CONFLICT', message: /not empty/ } })
  t.match(await answer(t, gateway, [makeCommand('directory', { path, state: 'absent', recursive: true })]), { outcome: 'succeeded', changed: true })
  t.notOk(existsSync(path))
  t.match(await answer(t, gateway, [makeCommand('directory', { path: '/', state: 'absent', recursive: true })]), { failure: { code: 'COMMAND_BAD_SPEC' } })
  t.match(await answer(t, gateway, [makeCommand('directory', { path: '/..', state: 'absent', recursive: true })]), { failure: { code: 'COMMAND_BAD_SPEC' } })
})

t.test('a confined agent has no effect outside of its directory', async (t) => {
  const gateway = await startGateway(t)
  const confine = makeDirectory(t)
  const outside = makeDirectory(t)
  await startTestAgent(t, gateway, { confine })
  symlinkSync(outside, join(confine, 'way-out'))
  const refused: Command[] = [
    makeCommand('file', { path: join(outside, 'x'), content: '' }),
    makeCommand('file', { path: join(confine, '../x'), content: '' }),
    makeCommand('file', { path: join(confine, 'way-out/x'), content: '' }),
    makeCommand('file', { path: `${confine}-beside/x`, content: '' }),
    makeCommand('directory', { path: join(confine, 'way-out/deep/er') }),
    makeCommand('archive', { url: 'file:///x', sha256: '0'.repeat(64), destination: outside }),
    makeCommand('package', { names: ['coreutils'] }),
    makeCommand('user', { user: 'somebody' }),
    makeCommand('service', { unit: 'cron' }),
    makeCommand('run', { argv: ['true'], user: 'daemon', uncheckable: true }),
  ]
  for (const command of refused) t.match(await answer(t, gateway, [command]), { outcome: 'failed', failure: { code: 'COMMAND_CONFINED' } }, `${command.kind} ${JSON.stringify(command.spec)}`)
  t.same(readdirSync(outside), [])
  const allowed = await answer(t, gateway, [
    makeCommand('file', { path: join(confine, 'x'), content: 'in' }),
    makeCommand('run', { shell: 'pwd; echo $HOME', cwd: '/', uncheckable: true, outputs: { where: { from: 'stdout' } } }),
  ])
  t.match(allowed, { outcome: 'succeeded', outputs: { where: `${confine}\n${confine}` } })
})

t.test('an archive is fetched, compared with its digest and unpacked once', async (t) => {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const at = (name: string): string => join(directory, name)
  mkdirSync(at('src/top'), { recursive: true })
  writeFileSync(at('src/top/file'), 'content')
  spawnSync('tar', ['-czf', at('a.tar.gz'), '-C', at('src'), 'top'])
  const sha256 = spawnSync('sha256sum', [at('a.tar.gz')], { encoding: 'utf8' }).stdout.split(' ')[0]!
  const { createServer } = await import('node:http')
  let requests = 0
  const server = createServer((request, response) => {
    requests++
    if (request.url === '/moved') response.writeHead(302, { location: '/a.tar.gz' }).end()
    else if (request.url === '/a.tar.gz') response.end(readFileSync(at('a.tar.gz')))
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const url = (path: string): string => `http://127.0.0.1:${(server.address() as { port: number }).port}${path}`
  const command = makeCommand('archive', { url: url('/moved'), sha256, destination: at('out'), stripComponents: 1 })
  t.match(await answer(t, gateway, [command]), { outcome: 'succeeded', changed: true })
  t.equal(readFileSync(at('out/file'), 'utf8'), 'content')
  t.equal(requests, 2)
  t.match(await answer(t, gateway, [command]), { changed: false })
  t.equal(requests, 2, 'what is there is not fetched again')
  t.match(await answer(t, gateway, [makeCommand('archive', { url: url('/a.tar.gz'), sha256: '1'.repeat(64), destination: at('other') })]), { outcome: 'failed', failure: { code: 'COMMAND_DIGEST_MISMATCH' } })
  t.notOk(existsSync(at('other')))
  t.match(await answer(t, gateway, [makeCommand('archive', { url: url('/none'), sha256, destination: at('other') })]), { failure: { code: 'COMMAND_FETCH_FAILED', message: /404/ } })
  t.match(await answer(t, gateway, [makeCommand('archive', { url: `file://${at('a.tar.gz')}`, sha256, destination: at('local') })]), { outcome: 'succeeded' })
  writeFileSync(at('no.tar'), 'this is no archive')
  const wrong = spawnSync('sha256sum', [at('no.tar')], { encoding: 'utf8' }).stdout.split(' ')[0]!
  t.match(await answer(t, gateway, [makeCommand('archive', { url: `file://${at('no.tar')}`, sha256: wrong, destination: at('bad') })]), { failure: { code: 'COMMAND_UNPACK_FAILED', message: /tar:/ } })
  t.same(readdirSync(at('downloads')), [])
})
