// Repositories with real apt and real signatures.
import { createReadStream } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AttemptResult, Command } from '@lichen/core'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { buildRepository, makeSigningKey, signRepository } from './apt-repository.js'
import { makeCommand, type TestGateway } from './gateway.js'
import { startInThrowawayRoot, whyNoThrowawayRoot } from './throwaway-root.js'

const show = (shell: string): Command => makeCommand('run', { shell, uncheckable: true, outputs: { text: { from: 'stdout' } } })
const files = show('ls /etc/apt/sources.list.d /etc/apt/keyrings 2>/dev/null | grep test || true')

async function answer(t: Test, gateway: TestGateway, commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult & { log: string }> {
  const key = gateway.order({ commands, mode, timeoutMs: 100_000 })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 100_000 })
  return { ...result, log: gateway.logOf(key) }
}

async function serve(t: Test, directory: string): Promise<string> {
  const server = createServer((request, response) => {
    createReadStream(join(directory, request.url!.replace('/repository', ''))).on('error', () => response.writeHead(404).end()).pipe(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/repository`
}

t.test('a repository is added, changed and removed, and nothing of one that apt refuses stays', { skip: whyNoThrowawayRoot(), timeout: 300_000 }, async (t) => {
  const directory = makeDirectory(t)
  const [key, other] = ['one', 'other'].map((name) => makeSigningKey(join(makeDirectory(t), name)))
  buildRepository(directory, [{ name: 'lichen-test', version: '1.0' }])
  signRepository(directory, key!)
  const url = await serve(t, directory)
  const gateway = await startGateway(t)
  // Whatever this machine's own apt looks at.
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': '', '/etc/apt/apt.conf.d/zz-test': 'Acquire::Check-Valid-Until "true";\nAcquire::Check-Date "true";\n' })
  const add = (spec: object = {}): Command => makeCommand('repository', { repository: 'lichen-test', url, suite: './', key: key!.publicKey, ...spec }, 60_000)

  const refused = await answer(t, gateway, [add({ key: other!.publicKey })])
  t.match(refused, { outcome: 'failed', failure: { code: 'COMMAND_REPOSITORY_UNTRUSTED', message: /NO_PUBKEY/ } }, refused.log)
  t.match(await answer(t, gateway, [add({ key: 'no key at all' })]), { failure: { code: 'COMMAND_REPOSITORY_UNTRUSTED' } })
  t.match(await answer(t, gateway, [add({ url: `${url}/nowhere` })]), { failure: { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /does not have a Release file/ } })
  t.match(await answer(t, gateway, [add({ url: 'http://127.0.0.1:9/' })]), { failure: { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /Connection refused/ } })
  t.match(await answer(t, gateway, [add({ url: undefined })]), { failure: { code: 'COMMAND_BAD_SPEC' } })
  t.match(await answer(t, gateway, [files]), { outputs: { text: '' } }, 'nothing was left')

  t.match(await answer(t, gateway, [add()], 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: `+ ${url} ./` }] })
  const added = await answer(t, gateway, [add(), makeCommand('package', { names: ['lichen-test'] }, 60_000), show('dpkg-query -W lichen-test')])
  t.match(added, { outcome: 'succeeded', commands: [{ changed: true }, { changed: true }, {}], outputs: { text: 'lichen-test\t1.0' } }, added.log)
  t.match(await answer(t, gateway, [add()]), { outcome: 'succeeded', changed: false })
  t.match(await answer(t, gateway, [show('rm -r /var/lib/apt/lists/*')]), { outcome: 'succeeded' })
  t.match(await answer(t, gateway, [add()]), { outcome: 'succeeded', commands: [{ changed: true, diff: `${url} ./: its lists are not fetched` }] })

  // What worked is there again after a change that does not.
  t.match(await answer(t, gateway, [add({ key: other!.publicKey })]), { failure: { code: 'COMMAND_REPOSITORY_UNTRUSTED' } })
  t.match(await answer(t, gateway, [add()], 'check'), { outcome: 'succeeded', changed: false })
  for (const [why, fields] of Object.entries({ expired: { 'Valid-Until': 'Thu, 01 Jan 2015 00:00:00 UTC' }, 'not valid yet': { Date: 'Thu, 01 Jan 2099 00:00:00 UTC' } })) {
    signRepository(directory, key!, fields)
    const dated = await answer(t, gateway, [show('rm -r /var/lib/apt/lists/*'), add()])
    t.match(dated, { failure: { code: 'COMMAND_REPOSITORY_UNTRUSTED', message: new RegExp(why) } }, dated.log)
  }

  t.match(await answer(t, gateway, [makeCommand('repository', { repository: 'lichen-test', state: 'absent' }), files]), { outcome: 'succeeded', commands: [{ changed: true, diff: '- repository lichen-test' }, {}], outputs: { text: '' } })
  t.match(await answer(t, gateway, [makeCommand('repository', { repository: 'lichen-test', state: 'absent' })]), { outcome: 'succeeded', changed: false })
})

t.test('a confined agent adds none', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway, { confine: makeDirectory(t) })
  t.match(await answer(t, gateway, [makeCommand('repository', { repository: 'x', state: 'absent' })]), { failure: { code: 'COMMAND_CONFINED' } })
})
