import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway } from './agent.js'
import { makeCommand } from './gateway.js'
import { startInThrowawayRoot, whyNoThrowawayRoot } from './throwaway-root.js'

t.test('users are made, changed and removed', { skip: whyNoThrowawayRoot(), timeout: 120_000 }, async (t) => {
  const gateway = await startGateway(t)
  await startInThrowawayRoot(t, gateway, {})
  const answer = async (...commands: ReturnType<typeof makeCommand>[]) => {
    const key = gateway.order({ commands })
    return (await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 30_000 })).result
  }
  const entry = makeCommand('run', { shell: 'getent passwd lichentest; id -Gn lichentest', uncheckable: true, outputs: { text: { from: 'stdout' } } })
  const made = makeCommand('user', { user: 'lichentest', system: true, home: '/var/lib/lichentest', groups: ['adm'] })
  const first = await answer(made, made, entry)
  t.match(first, { outcome: 'succeeded', commands: [{ changed: true, diff: '+ user lichentest' }, { changed: false }] })
  t.match(first.outputs['text'], /^lichentest:x:\d{3}:\d+::\/var\/lib\/lichentest:\/usr\/sbin\/nologin\nlichentest adm$/)
  const changed = makeCommand('user', { user: 'lichentest', shell: '/bin/sh', groups: ['adm', 'video'] })
  const second = await answer(changed, changed, entry)
  t.match(second, { outcome: 'succeeded', commands: [{ changed: true, diff: 'user lichentest: shell /usr/sbin/nologin → /bin/sh, groups + video' }, { changed: false }] })
  t.match(second.outputs['text'], /:\/bin\/sh\nlichentest adm video$/)
  t.match(await answer(makeCommand('user', { user: 'lichentest', groups: ['no-such-group'] })), { outcome: 'failed', failure: { code: 'COMMAND_EXIT_CODE', message: /no-such-group/ } })
  const gone = makeCommand('user', { user: 'lichentest', state: 'absent' })
  t.match(await answer(gone, gone), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
})
