/** Decisions about units, against a small systemd that the tests play: a `systemctl` and a `journalctl` on the agent's PATH. The real one is in the end-to-end tests. */
import { chmodSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AttemptResult, Command } from '@lichen/core'
import { eventually } from '../eventually.js'
import { parseUnit } from '../../packages/agent/dist/primitives/unit-state.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { makeCommand, type TestGateway } from './gateway.js'

/** A unit is a file with its properties; `start` and `restart` do what `onStart` (a shell text) says. Every call is written to `calls`. */
const systemctl = (home: string): string => `#!/bin/bash
home=${home}; action=$1; unit=\${!#}
[ "$action" = show ] || echo "$*" >> $home/calls
[ -e $home/$unit ] || { [ "$action" = show ] && echo LoadState=not-found && exit 0; echo "Unit $unit not found." >&2; exit 5; }
set_to() { sed -i "s|^$1=.*|$1=$2|" $home/$unit; }
stamp() { date -u '+%a %F %T.%6N UTC'; }
case $action in
  show) cat $home/$unit ;;
  reload) set_to StateChangeTimestamp "$(stamp)"; [ ! -e $home/$unit.onReload ] || . $home/$unit.onReload ;;
  start|restart) set_to ActiveState active; set_to ExecMainStartTimestamp "$(stamp)"; set_to StateChangeTimestamp "$(stamp)"; [ ! -e $home/$unit.onStart ] || . $home/$unit.onStart ;;
  stop) set_to ActiveState inactive ;;
  enable) set_to UnitFileState enabled ;;
  disable) set_to UnitFileState disabled ;;
esac
`
const unit = (fields: Record<string, string> = {}): string =>
  Object.entries({ LoadState: 'loaded', ActiveState: 'inactive', SubState: 'dead', Result: 'success', UnitFileState: 'disabled', Type: 'notify', NeedDaemonReload: 'no', NRestarts: '0', ExecMainStartTimestamp: '', InactiveExitTimestamp: '', StateChangeTimestamp: '', ReloadResult: 'success', ...fields })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')

async function startWithUnits(t: Test): Promise<{ gateway: TestGateway; home: string; answer: (commands: Command[], mode?: 'do' | 'check') => Promise<AttemptResult>; calls: () => string[] }> {
  const home = makeDirectory(t)
  for (const [name, content] of Object.entries({ systemctl: systemctl(home), journalctl: '#!/bin/sh\necho "2026-01-01T00:00:00 node app[7]: cannot open its configuration"\n' })) {
    writeFileSync(join(home, name), content)
    chmodSync(join(home, name), 0o755)
  }
  writeFileSync(join(home, 'calls'), '')
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway, { path: `${home}:${process.env['PATH']}` })
  const answer = async (commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult> => {
    const key = gateway.order({ commands, mode })
    return (await eventually(t, 'the result', () => gateway.resultOf(key))).result
  }
  return { gateway, home, answer, calls: () => readFileSync(join(home, 'calls'), 'utf8').split('\n').filter((line) => line !== '') }
}

t.test('a unit is started, enabled, stopped and disabled, and left alone when it is as wanted', async (t) => {
  const { home, answer, calls } = await startWithUnits(t)
  writeFileSync(join(home, 'app.service'), unit())
  const up = makeCommand('service', { unit: 'app.service', enabled: true })
  t.match(await answer([up], 'check'), { changed: true, commands: [{ diff: 'app.service: inactive → running\napp.service: disabled → enabled' }] })
  t.same(calls(), [])
  t.match(await answer([up, up]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
  t.same(calls(), ['enable app.service', 'start app.service'])
  const down = makeCommand('service', { unit: 'app.service', state: 'stopped', enabled: false })
  t.match(await answer([down, down]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
  t.same(calls().slice(2), ['disable app.service', 'stop app.service'])
})

t.test('a unit is restarted once after a file it reads has changed, also when the change came before the agent knew of it', async (t) => {
  const { home, answer, calls } = await startWithUnits(t)
  const config = join(home, 'app.conf')
  writeFileSync(join(home, 'app.service'), unit())
  writeFileSync(config, 'one')
  const command = makeCommand('service', { unit: 'app.service', restartOn: [config, join(home, 'not-there')] })
  t.match(await answer([command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
  t.same(calls(), ['start app.service'])
  writeFileSync(config, 'two')
  // Whoever sets the time back does not hide the change.
  utimesSync(config, new Date(0), new Date(0))
  t.match(await answer([command], 'check'), { changed: true, commands: [{ diff: `app.service: restart: ${config} changed after it was started` }] })
  t.match(await answer([command, command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }, { changed: false }] })
  t.same(calls(), ['start app.service', 'restart app.service'])
  // Written by the command before it: the restart is seen as later than the change, however close they are.
  const file = makeCommand('file', { path: config, content: 'three' })
  t.match(await answer([file, command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: true }, { changed: false }] })
})

t.test('a unit is reloaded, not restarted, after a file changed that it reads again; one that refuses is asked again', async (t) => {
  const { home, answer, calls } = await startWithUnits(t)
  const [restarting, reloading] = [join(home, 'arguments'), join(home, 'app.conf')]
  writeFileSync(join(home, 'app.service'), unit())
  for (const path of [restarting, reloading]) writeFileSync(path, 'one')
  const command = makeCommand('service', { unit: 'app.service', restartOn: [restarting], reloadOn: [reloading] })
  t.match(await answer([command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
  writeFileSync(reloading, 'two')
  t.match(await answer([command], 'check'), { changed: true, commands: [{ diff: `app.service: reload: ${reloading} changed after it was read` }] })
  t.match(await answer([command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
  t.same(calls(), ['start app.service', 'reload app.service'])
  for (const path of [restarting, reloading]) writeFileSync(path, 'three')
  t.match(await answer([command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] }, 'a restart reads everything')
  t.same(calls().slice(2), ['restart app.service'])
  writeFileSync(reloading, 'broken')
  writeFileSync(join(home, 'app.service.onReload'), 'set_to ReloadResult exit-code; exit 1')
  t.match(await answer([command]), { outcome: 'failed', failure: { code: 'COMMAND_SERVICE_FAILED', message: /`systemctl reload app.service` ended with exit code 1/ } })
  t.match(await answer([command], 'check'), { changed: true }, 'it has the old one still')
})

t.test('a unit that does not stay up is a failure with the unit’s last lines', async (t) => {
  const { home, answer } = await startWithUnits(t)
  writeFileSync(join(home, 'dies.service'), unit({ Type: 'simple' }))
  writeFileSync(join(home, 'dies.service.onStart'), 'home=$home; (sleep 0.2; sed -i "s|^ActiveState=.*|ActiveState=failed|; s|^Result=.*|Result=exit-code|" $home/$unit) > /dev/null 2>&1 &')
  t.match(await answer([makeCommand('service', { unit: 'dies.service' })]), { outcome: 'failed', failure: { code: 'COMMAND_SERVICE_FAILED', message: /the unit is failed \(dead, exit-code\); its last lines in the journal:\n.*cannot open its configuration/ } })
  writeFileSync(join(home, 'refuses.service'), unit())
  writeFileSync(join(home, 'refuses.service.onStart'), 'echo "Job for $unit failed." >&2; exit 1')
  t.match(await answer([makeCommand('service', { unit: 'refuses.service' })]), { outcome: 'failed', failure: { code: 'COMMAND_SERVICE_FAILED', message: /`systemctl start refuses.service` ended with exit code 1; .*\n.*cannot open/ } })
  writeFileSync(join(home, 'loops.service'), unit({ Type: 'simple' }))
  writeFileSync(join(home, 'loops.service.onStart'), '(sleep 0.1; sed -i "s|^NRestarts=.*|NRestarts=1|" $home/$unit) > /dev/null 2>&1 &')
  t.match(await answer([makeCommand('service', { unit: 'loops.service' })]), { outcome: 'failed' }, 'restarted by systemd in the meantime: it did not stay up')
})

t.test('a unit that does not exist is said to be unknown; in check mode it may come with an earlier command', async (t) => {
  const { answer } = await startWithUnits(t)
  const command = makeCommand('service', { unit: 'none.service' })
  t.match(await answer([command]), { outcome: 'failed', failure: { code: 'COMMAND_UNIT_UNKNOWN', message: /none\.service: systemd says not-found/ } })
  t.match(await answer([command], 'check'), { outcome: 'succeeded', changed: true })
  t.match(await answer([makeCommand('service', { unit: 'none.service', state: 'stopped' })]), { outcome: 'succeeded', changed: false })
})

t.test('a oneshot unit that did its work is as good as running', async (t) => {
  const { home, answer } = await startWithUnits(t)
  writeFileSync(join(home, 'once.service'), unit({ Type: 'oneshot' }))
  writeFileSync(join(home, 'once.service.onStart'), 'set_to ActiveState inactive')
  const command = makeCommand('service', { unit: 'once.service' })
  t.match(await answer([command, command]), { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] })
})

t.test('the properties of systemctl are understood to the microsecond', async (t) => {
  const state = parseUnit(unit({ ActiveState: 'active', ExecMainStartTimestamp: 'Fri 2024-03-01 10:11:12.000345 UTC', InactiveExitTimestamp: 'Fri 2024-03-01 10:11:11.5 UTC', NeedDaemonReload: 'yes', NRestarts: '3' }))
  t.match(state, { isLoaded: true, activeState: 'active', needsReload: true, restarts: 3, startedUs: Date.UTC(2024, 2, 1, 10, 11, 12) * 1000 + 345 })
  t.equal(parseUnit(unit({ InactiveExitTimestamp: 'Fri 2024-03-01 10:11:11.5 UTC' })).startedUs, Date.UTC(2024, 2, 1, 10, 11, 11) * 1000 + 500_000, 'a unit without a main process')
  t.equal(parseUnit(unit()).startedUs, 0)
})
