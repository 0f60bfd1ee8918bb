import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import t, { type Test } from 'tap'
import type { AttemptResult, Command } from '@lichen/core'
import { eventually } from '../eventually.js'
import { parseInstalled, parsePolicy, splitName } from '../../packages/agent/dist/primitives/package-database.js'
import { buildPolicy, installPolicy, removePolicy } from '../../packages/agent/dist/primitives/service-policy.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { buildRepository } from './apt-repository.js'
import { makeCommand, type TestGateway } from './gateway.js'
import { startInThrowawayRoot, whyNoThrowawayRoot } from './throwaway-root.js'

const why = whyNoThrowawayRoot()
const shellOutput = (shell: string): Command => makeCommand('run', { shell, uncheckable: true, outputs: { text: { from: 'stdout' } } })

async function answer(t: Test, gateway: TestGateway, commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult & { log: string }> {
  const key = gateway.order({ commands, mode, timeoutMs: 100_000 })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 100_000 })
  return { ...result, log: gateway.logOf(key) }
}

const traceStart = '#!/bin/sh\n[ "$1" = configure ] || exit 0\nc=0; /usr/sbin/policy-rc.d lichen-test.service start || c=$?; echo "start $c" > /var/lichen-test.trace\nc=0; /usr/sbin/policy-rc.d dbus.service start || c=$?; echo "dbus $c" >> /var/lichen-test.trace\n'

t.test('packages are installed, changed and removed with real apt', { skip: why, timeout: 300_000 }, async (t) => {
  const repository = makeDirectory(t)
  buildRepository(repository, [
    { name: 'lichen-test', version: '1.0', scripts: { postinst: traceStart } },
    { name: 'lichen-test', version: '2.0', scripts: { postinst: traceStart }, fields: 'Recommends: lichen-test-extra\n' },
    { name: 'lichen-test-extra', version: '1.0', files: { 'etc/lichen-test-extra.conf': 'x\n' }, fields: 'Provides: lichen-test-virtual\n', scripts: { config: '#!/bin/sh\n' } },
    { name: 'lichen-test-other', version: '1.0' },
    { name: 'lichen-test-other', version: '1.1' },
    { name: 'lichen-test-broken', version: '1.0', scripts: { postinst: '#!/bin/sh\necho the cause of it >&2\nexit 7\n' } },
  ])
  const gateway = await startGateway(t)
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': `deb [trusted=yes] file:${repository} ./\n`, '/usr/sbin/policy-rc.d!': '#!/bin/sh\nexit 55\n' })

  const preview = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test=1.0', 'coreutils'] })], 'check')
  t.match(preview, { outcome: 'succeeded', changed: true, commands: [{ diff: '+ lichen-test=1.0' }] })

  const first = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test=1.0', 'coreutils'] }, 90_000), shellOutput('cat /var/lichen-test.trace; cat /usr/sbin/policy-rc.d; dpkg-query -W lichen-test')])
  t.match(first, { outcome: 'succeeded', changed: true, commands: [{ changed: true, diff: '+ lichen-test=1.0' }] }, first.log)
  t.equal(first.outputs['text'], 'start 101\ndbus 0\n#!/bin/sh\nexit 55\nlichen-test\t1.0', 'services are held back during the installation alone')

  const again = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test'] })])
  t.match(again, { outcome: 'succeeded', changed: false }, 'present in an older version is present: nothing is upgraded')

  const onlyMissing = makeCommand('package', { names: ['lichen-test=2.0', 'lichen-test-other=1.0'], onlyMissing: true }, 90_000)
  t.match(await answer(t, gateway, [onlyMissing], 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: '+ lichen-test-other=1.0' }] }, 'an installed package is as it is to be in any version')
  const added = await answer(t, gateway, [onlyMissing, onlyMissing, shellOutput('dpkg-query -W lichen-test lichen-test-other')])
  t.match(added, { outcome: 'succeeded', commands: [{ changed: true, diff: '+ lichen-test-other=1.0' }, { changed: false }], outputs: { text: 'lichen-test\t1.0\nlichen-test-other\t1.0' } }, added.log)
  const nowhere = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test=2.0', 'lichen-test-broken=9'], onlyMissing: true }, 90_000)])
  t.match(nowhere, { outcome: 'failed', failure: { code: 'COMMAND_PACKAGE_UNKNOWN', message: 'no such package in the apt sources of this node: lichen-test-broken=9' } }, 'a missing one has to be there in the version asked for')

  const upgraded = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test=2.0'], held: true, startServices: true }, 90_000), shellOutput('cat /var/lichen-test.trace; apt-mark showhold; dpkg -l lichen-test-extra 2>/dev/null | grep -c ^ii || true')])
  t.match(upgraded, { outcome: 'succeeded', commands: [{ diff: 'lichen-test 1.0 → 2.0\nhold lichen-test' }], outputs: { text: 'start 55\ndbus 55\nlichen-test\n0' } }, upgraded.log)

  const extra = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test-virtual'] }, 90_000), makeCommand('package', { names: ['lichen-test-virtual'] })])
  t.match(extra, { outcome: 'succeeded', commands: [{ changed: true }, { changed: false }] }, 'a virtual package is there when something provides it')

  const unknown = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test', 'no-such-package', 'lichen-test=9', 'lichen.test', 'coreutils-'] }, 90_000)])
  t.match(unknown, { outcome: 'failed', failure: { code: 'COMMAND_PACKAGE_UNKNOWN', message: 'no such package in the apt sources of this node: no-such-package, lichen-test=9, lichen.test, coreutils-' } })

  const broken = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test-broken'] }, 90_000)])
  t.match(broken, { outcome: 'failed', failure: { code: 'COMMAND_PACKAGE_FAILED', message: /exit code 100; its last lines:[^]*the cause of it/ } })
  const repaired = await answer(t, gateway, [
    makeCommand('file', { path: '/var/lib/dpkg/info/lichen-test-broken.postinst', content: '#!/bin/sh\nexit 0\n', mode: '0755' }),
    makeCommand('package', { names: ['lichen-test-broken'] }, 90_000),
  ])
  t.match(repaired, { outcome: 'succeeded' }, repaired.log)
  t.match(repaired.log, /dpkg was interrupted before/)

  const removed = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test', 'lichen-test-other', 'lichen-test-broken'], state: 'absent' }, 90_000), makeCommand('package', { names: ['lichen-test-extra'], state: 'purged' }, 90_000), shellOutput('dpkg -l "lichen-test*" | grep -c ^ii || true')])
  t.match(removed, { outcome: 'succeeded', outputs: { text: '0' } }, removed.log)

  const waiting = await answer(t, gateway, [
    makeCommand('run', { shell: 'flock /var/lib/dpkg/lock-frontend true; setsid python3 -c "import fcntl,time; f=open(\'/var/lib/dpkg/lock-frontend\',\'w\'); fcntl.lockf(f,fcntl.LOCK_EX); open(\'/run/locked\',\'w\'); time.sleep(3)" >/dev/null 2>&1 & while [ ! -e /run/locked ]; do sleep 0.05; done', uncheckable: true }),
    makeCommand('package', { names: ['lichen-test'] }, 90_000),
  ])
  t.match(waiting, { outcome: 'succeeded', commands: [{}, { changed: true }] }, waiting.log)
})

t.test('a repository that does not answer is told as that, not as a package that does not exist', { skip: why, timeout: 300_000 }, async (t) => {
  const repository = makeDirectory(t)
  buildRepository(repository, [{ name: 'lichen-test', version: '1.0' }])
  const gateway = await startGateway(t)
  // Nothing listens on this port: it is refused at once, and no proxy is asked.
  const silent = 'deb [trusted=yes] http://127.0.0.1:9/debian ./\n'
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': silent, '/etc/apt/apt.conf.d/00-none': 'Acquire::http::Proxy "DIRECT";\nAcquire::Retries "0";\n' })
  const install = (name: string) => answer(t, gateway, [makeCommand('package', { names: [name] }, 90_000)])

  const noLists = await install('lichen-test')
  t.match(noLists, { outcome: 'failed', failure: { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /^not in the lists that this node has: lichen-test; the apt sources of this node: apt cannot read it:\n[^]*http:\/\/127\.0\.0\.1:9\/debian/ } }, noLists.log)

  const write = (text: string) => answer(t, gateway, [makeCommand('file', { path: '/etc/apt/sources.list', content: text })])
  await write(`${silent}deb [trusted=yes] file:${repository} ./\n`)
  t.match(await install('lichen-test'), { outcome: 'succeeded', changed: true }, 'one that is dead keeps nobody from what another has')
  t.match(await install('no-such-package'), { outcome: 'failed', failure: { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /no-such-package[^]*127\.0\.0\.1:9/ } }, 'but it may be the one that has the package')
})

t.test('a package whose file cannot be fetched names the place', { skip: why, timeout: 300_000 }, async (t) => {
  const repository = makeDirectory(t)
  buildRepository(repository, [{ name: 'lichen-test', version: '1.0' }])
  rmSync(join(repository, 'lichen-test_1.0_all.deb'))
  const gateway = await startGateway(t)
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': `deb [trusted=yes] file:${repository} ./\n` })
  const failed = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test'] }, 90_000)])
  t.match(failed, { outcome: 'failed', failure: { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /could not be fetched:\n[^]*lichen-test_1\.0_all\.deb/ } }, failed.log)
})

t.test('a disk that is full while lists are fetched is told as that, and with room the package comes', { skip: why, timeout: 300_000 }, async (t) => {
  const repository = makeDirectory(t)
  // The index is larger than the disk, and apt copies it: that of file: it would link to.
  buildRepository(repository, [{ name: 'lichen-test', version: '1.0', fields: `Lichen-Test: ${'x'.repeat(200_000)}\n` }])
  const gateway = await startGateway(t)
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': `deb [trusted=yes] copy:${repository} ./\n` })
  const mount = (options: string) => answer(t, gateway, [makeCommand('run', { shell: `mkdir -p /var/lib/apt/lists && mount -t tmpfs -o ${options} none /var/lib/apt/lists`, uncheckable: true })])
  const install = () => answer(t, gateway, [makeCommand('package', { names: ['lichen-test'] }, 90_000)])

  t.match(await mount('size=64k'), { outcome: 'succeeded' })
  const full = await install()
  t.match(full, { outcome: 'failed', failure: { code: 'COMMAND_DISK_FULL', message: /^not in the lists that this node has: lichen-test; apt-get update: the disk is full\n[^]*No space left on device/ } }, full.log)
  t.match(await mount('remount,size=1m'), { outcome: 'succeeded' })
  t.match(await install(), { outcome: 'succeeded', changed: true })
})

t.test('a dpkg that was killed while it unpacked is repaired: what it was at comes again, with what others need, and nothing is removed for that', { skip: why, timeout: 300_000 }, async (t) => {
  const repository = makeDirectory(t)
  // Whichever of the two that need each other is unpacked last does not come to its end, once.
  const killsDpkg = '#!/bin/sh\n[ ! -e /var/lichen-test.killed ] || exit 0\n[ -e /var/lichen-test.begun ] || { touch /var/lichen-test.begun; exit 0; }\ntouch /var/lichen-test.killed\nkill -KILL $PPID\n'
  buildRepository(repository, [
    { name: 'lichen-test-one', version: '1.0', fields: 'Depends: lichen-test-two\n', scripts: { preinst: killsDpkg } },
    { name: 'lichen-test-two', version: '1.0', fields: 'Depends: lichen-test-one\n', scripts: { preinst: killsDpkg } },
    { name: 'lichen-test-early', version: '1.0', fields: 'Depends: lichen-test-late\n' },
    { name: 'lichen-test-late', version: '1.0' },
    { name: 'lichen-test-orphan', version: '1.0', fields: 'Depends: no-such-package\n' },
    { name: 'lichen-test-other', version: '1.0' },
  ])
  const gateway = await startGateway(t)
  await startInThrowawayRoot(t, gateway, { '/etc/apt/sources.list': `deb [trusted=yes] file:${repository} ./\n` })
  const install = (name: string) => answer(t, gateway, [makeCommand('package', { names: [name] }, 90_000)])
  const states = async () => (await answer(t, gateway, [shellOutput(`[ -z "$(dpkg --audit)" ] || echo not well; dpkg-query -W -f '\${Package} \${db:Status-Status} \${db:Status-Eflag}\\n' 'lichen-test-*' | grep -v not-installed | sort`)])).outputs['text']
  const unpackAlone = (name: string) => answer(t, gateway, [makeCommand('run', { shell: `dpkg --unpack ${repository}/${name}_1.0_all.deb`, uncheckable: true })])

  t.match(await install('lichen-test-one'), { outcome: 'failed', failure: { code: 'COMMAND_PACKAGE_FAILED', message: /dpkg exited unexpectedly/ } })
  t.match(await states(), /^not well\nlichen-test-(one half-installed reinstreq\nlichen-test-two unpacked ok|one unpacked ok\nlichen-test-two half-installed reinstreq)$/)
  const again = await install('lichen-test-one')
  t.match(again, { outcome: 'succeeded', changed: true }, again.log)
  t.match(again.log, /dpkg was interrupted before: dpkg --configure -a\n[^]*what it was unpacking comes again, with what others need: apt-get install --fix-broken\n/)
  t.equal(await states(), 'lichen-test-one installed ok\nlichen-test-two installed ok')

  t.match(await unpackAlone('lichen-test-early'), { outcome: 'succeeded' })
  const other = await install('lichen-test-other')
  t.match(other, { outcome: 'succeeded', changed: true }, other.log)
  t.match(await states(), /^lichen-test-early installed ok\nlichen-test-late installed ok\n/, 'one that it had not come to')

  t.match(await unpackAlone('lichen-test-orphan'), { outcome: 'succeeded' })
  const removed = await answer(t, gateway, [makeCommand('package', { names: ['lichen-test-other'], state: 'absent' }, 90_000)])
  t.match(removed, { outcome: 'failed', failure: { code: 'COMMAND_PACKAGE_FAILED', message: /lichen-test-orphan/ } }, 'one that needs what there is not')
  t.match(await states(), /^not well\n[^]*\nlichen-test-orphan unpacked ok\n/, 'is left to people')
})

t.test('a policy that a crash left behind is removed, and the one from before comes back', async (t) => {
  const directory = makeDirectory(t)
  const place = { path: join(directory, 'policy-rc.d'), saved: join(directory, 'policy-rc.d.before') }
  removePolicy(place)
  writeFileSync(place.path, 'of another\n')
  installPolicy([], place)
  // The crash. The next command begins by putting its own policy there.
  installPolicy(['mariadb.service'], place)
  t.match(readFileSync(place.path, 'utf8'), 'lichen-agent')
  removePolicy(place)
  t.equal(readFileSync(place.path, 'utf8'), 'of another\n')
  removePolicy(place)
  t.equal(readFileSync(place.path, 'utf8'), 'of another\n')
  t.notOk(existsSync(place.saved))
})

t.test('the policy lets active units, dbus and polkit be, and holds back the rest', async (t) => {
  const script = buildPolicy(['mariadb.service', 'getty@tty1.service', 'evil\'$(x).service'])
  const ask = (...args: string[]): number | null => spawnSync('sh', ['-c', script, 'policy-rc.d', ...args]).status
  for (const name of ['mariadb', 'mariadb.service', 'getty@tty1.service', 'dbus', 'dbus.socket', 'polkit.service']) t.equal(ask(name, 'restart'), 0, name)
  for (const name of ['keystone', 'mariadb2', 'evil']) t.equal(ask('--quiet', name, 'start'), 101, name)
})

t.test('what dpkg and apt print is understood', async (t) => {
  const installed = parseInstalled('a\t1\tinstall\tinstalled\t\na\t\tunknown\tnot-installed\t\nb\t2\tdeinstall\tconfig-files\t\nc\t3\thold\tinstalled\td (= 1), e\nf\t4\tinstall\thalf-configured\t\n')
  t.match(Object.fromEntries(installed), { a: { isInstalled: true, version: '1' }, b: { isInstalled: false, isKnown: true }, c: { isInstalled: true, isHeld: true }, f: { isInstalled: false } })
  const available = parsePolicy('N: Unable to locate package nosuch\ncoreutils:\n  Installed: 9.1-1\n  Candidate: 9.1-1\n  Version table:\n *** 9.1-1 500\n        500 http://x bookworm/main amd64 Packages\n     9.0-1 100\n        100 /var/lib/dpkg/status\nmta:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n')
  t.same(Object.fromEntries(available), { coreutils: { candidate: '9.1-1', versions: ['9.1-1', '9.0-1'] }, mta: { candidate: undefined, versions: [] } })
  t.same(splitName('a=1:2~3'), { name: 'a', version: '1:2~3' })
})

t.test('an installed package needs no apt at all', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  t.match(await answer(t, gateway, [makeCommand('package', { names: ['dpkg'] })]), { outcome: 'succeeded', changed: false })
  t.match(await answer(t, gateway, [makeCommand('package', { names: ['dpkg=0.1'], onlyMissing: true })]), { outcome: 'succeeded', changed: false })
  t.match(await answer(t, gateway, [makeCommand('package', { names: ['no-such-package'], state: 'purged' })]), { outcome: 'succeeded', changed: false })
})
