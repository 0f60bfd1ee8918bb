import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildLabNames, buildLinkName, buildNodeNames } from '@lichen/lab'
import { eventually } from '../eventually.js'
import { findOnHost, findPids, makeDirectory, nothing, skipReason, startLab } from './lab-fixture.js'

const skip = skipReason()

void t.test('three nodes of a lab', { skip }, async (t) => {
  const { lab, directory } = startLab(t, 'three')
  const two = await lab.up({ nodes: 2 })
  t.same(two.nodes.map((node) => [node.name, node.state]), [['node-1', 'running'], ['node-2', 'running']])
  const boots = two.nodes.map((node) => lab.bootId(node.name))

  await t.test('asking for three adds the third and leaves the others running', async (t) => {
    const three = await lab.up({ nodes: 3, isPrivileged: true })
    t.match((await lab.exec('node-3', ['sh', '-c', 'test -c /dev/net/tun && test -c /dev/kmsg && grep CapEff /proc/1/status'])).stdout, /CapEff:\s+0*[0-9a-f]*ff\n/)
    t.equal((await lab.exec('node-1', ['test', '-e', '/dev/kmsg'])).exitCode, 1, 'only nodes that were made so are privileged')
    t.same(three.nodes.map((node) => node.name), ['node-1', 'node-2', 'node-3'])
    t.same([lab.bootId('node-1'), lab.bootId('node-2')], boots)
    t.same((await lab.up({ nodes: 3 })).nodes, three.nodes, 'the same again changes nothing')
    t.same((await lab.up({ nodes: 1 })).nodes, three.nodes, 'fewer removes nothing')
  })

  await t.test('nodes reach each other by name and by address, and the host at the gateway', async (t) => {
    const third = lab.node('node-3')
    for (const target of ['node-3', third.address, two.gateway]) {
      const { exitCode, stdout, stderr } = await lab.exec('node-1', ['ping', '-c1', '-W5', target])
      t.equal(exitCode, 0, `node-1 pings ${target} ${stdout} ${stderr}`)
    }
    const back = await lab.exec('node-3', ['ping', '-c1', '-W5', 'node-1'])
    t.equal(back.exitCode, 0, 'also the youngest the oldest')
    const ids = await Promise.all(['node-1', 'node-2', 'node-3'].map(async (node) => (await lab.exec(node, ['cat', '/etc/machine-id'])).stdout))
    t.equal(new Set(ids).size, 3, 'each node has a machine id of its own')
  })

  await t.test('exec passes exit code, input, output, environment and deadline', async (t) => {
    t.equal((await lab.exec('node-1', ['sh', '-c', 'exit 42'])).exitCode, 42)
    t.equal((await lab.exec('node-1', ['sh', '-c', 'kill -9 $$'])).exitCode, 137)
    t.equal((await lab.exec('node-1', ['no-such-program'])).exitCode, 127)
    t.equal((await lab.exec('node-1', ['cat'], { stdin: 'half a ✓ line' })).stdout, 'half a ✓ line')
    t.equal((await lab.exec('node-1', ['sh', '-c', 'echo $X; hostname'], { env: { X: 'y z' } })).stdout, 'y z\nnode-1\n')
    const pieces: string[] = []
    await lab.exec('node-1', ['sh', '-c', 'echo out; echo err >&2'], { onOutput: (stream, data) => pieces.push(`${stream}: ${data.toString()}`) })
    t.same(pieces.sort(), ['stderr: err\n', 'stdout: out\n'])
    const late = await lab.exec('node-1', ['sleep', '4321'], { timeoutMs: 300 })
    t.equal(late.isTimedOut, true)
    await eventually(t, 'the program is gone from the node', async () => (await lab.exec('node-1', ['pgrep', '-f', '^sleep 4321'])).exitCode === 1)
    t.throws(() => lab.node('node-9'), { code: 'LAB_UNKNOWN_NODE', message: /node-1, node-2, node-3/ })
  })

  await t.test("files are copied in; links of the node lead nowhere on the host", async (t) => {
    const source = join(directory, 'source')
    mkdirSync(join(source, 'deep'), { recursive: true })
    writeFileSync(join(source, 'deep', 'run.sh'), '#!/bin/sh\necho copied\n', { mode: 0o755 })
    await lab.copyIn('node-1', source, '/opt/tree')
    t.equal((await lab.exec('node-1', ['/opt/tree/deep/run.sh'])).stdout, 'copied\n')
    await lab.copyIn('node-1', join(source, 'deep', 'run.sh'), '/tmp/one')
    t.equal((await lab.exec('node-1', ['/tmp/one'])).stdout, 'copied\n', 'also into the tmpfs that only the running node has')
    await lab.exec('node-1', ['ln', '-s', join(directory, 'escape'), '/opt/link'])
    mkdirSync(join(directory, 'escape'))
    await lab.writeIn('node-1', '/opt/link/file', 'x').catch(() => undefined)
    t.throws(() => readFileSync(join(directory, 'escape', 'file')), { code: 'ENOENT' })
    await t.rejects(lab.copyIn('node-1', '/no/such/file', '/x'), { code: 'LAB_BAD_OPTION' })
  })

  await t.test('a reboot from inside comes back with a new boot id', async (t) => {
    const before = lab.bootId('node-2')
    await lab.reboot('node-2')
    t.not(lab.bootId('node-2'), before)
    t.equal((await lab.exec('node-2', ['ping', '-c1', '-W5', 'node-1'])).exitCode, 0)
  })

  await t.test('power loss stops a node at once, its files stay, and it starts again', async (t) => {
    await lab.exec('node-3', ['sh', '-c', 'echo kept > /root/kept'])
    await lab.kill('node-3')
    t.equal(lab.node('node-3').state, 'stopped')
    t.throws(() => lab.bootId('node-3'), { code: 'LAB_NODE_STOPPED' })
    await t.rejects(lab.exec('node-3', ['true']), { code: 'LAB_NODE_STOPPED' })
    await lab.writeIn('node-3', '/root/written', 'while off', 0o600)
    await lab.start('node-3')
    t.equal((await lab.exec('node-3', ['cat', '/root/kept', '/root/written'])).stdout, 'kept\nwhile off')
    await lab.powerOff('node-3')
    t.equal(lab.node('node-3').state, 'stopped')
    await lab.up({ nodes: 3 })
    t.equal(lab.node('node-3').state, 'running', 'up boots what is off')
  })

  await t.test('a node installs a package through the cache, without a route out', async (t) => {
    const { exitCode, stderr } = await lab.exec('node-1', ['sh', '-c', 'apt-get update -q && apt-get install -y -q --no-install-recommends tree && tree --version'])
    t.equal(exitCode, 0, stderr)
  })

  await t.test('after SIGKILL of supervisor, nspawn and package proxy, down leaves nothing', async (t) => {
    const kill = (word: string, which: number): void => {
      const pid = findPids(directory, 'three', word).at(which)
      t.ok(pid, `${word} runs`)
      if (pid) process.kill(pid, 'SIGKILL')
    }
    kill('supervisor.js', 0) // a machine without supervisor
    kill('systemd-nspawn', 1) // a supervisor whose machine died
    kill('package-proxy.js', 0)
    kill('supervisor.js', -1) // and one that lost both
    kill('systemd-nspawn', -1)
    writeFileSync(join(directory, 'three', 'lab.json.new'), 'half a fi') // what a writer leaves that dies in the middle
    symlinkSync('/etc', join(lab.node('node-1').root, 'root', 'host-etc'))
    await lab.down()
    t.same(findOnHost(directory, 'three'), nothing)
    t.ok(readFileSync('/etc/passwd', 'utf8'), 'no link was followed out of the node')
    await lab.down()
    t.equal(lab.list(), undefined, 'removing twice is fine')
  })
})

void t.test('two labs at the same time share nothing', { skip }, async (t) => {
  const directory = makeDirectory(t)
  const first = startLab(t, 'first', directory)
  const second = startLab(t, 'second', directory)
  const [a, b] = await Promise.all([first.lab.up({ nodes: ['web'] }), second.lab.up({ nodes: ['web'], memoryBytes: 256 * 1024 ** 2 })])
  t.not(a.network, b.network)
  t.not(a.bridge, b.bridge)
  t.equal((await first.lab.exec('web', ['ping', '-c1', '-W1', b.nodes[0]?.address ?? ''])).exitCode, 1, 'they do not reach each other')

  const greedy = ['sh', '-c', 'head -c 600M /dev/zero | tail | wc -c']
  t.equal((await first.lab.exec('web', greedy)).stdout.trim(), String(600 * 1024 ** 2), 'a node without limit takes what it needs')
  t.not((await second.lab.exec('web', greedy)).stdout.trim(), String(600 * 1024 ** 2), 'the limited one is stopped by the kernel')
  t.equal((await second.lab.exec('web', ['true'])).exitCode, 0, 'and lives on')

  await first.lab.down()
  t.same(findOnHost(directory, 'first'), nothing)
  t.equal((await second.lab.exec('web', ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', b.packageProxyUrl])).exitCode, 0, 'the other keeps its package cache')
})

void t.test('up repairs what was killed', { skip }, async (t) => {
  const { lab, directory } = startLab(t, 'repaired')
  const before = await lab.up({ nodes: 1 })
  for (const word of ['supervisor.js', 'package-proxy.js']) for (const pid of findPids(directory, 'repaired', word)) process.kill(pid, 'SIGKILL')
  const after = await lab.up({ nodes: 1 })
  t.same(after.nodes, before.nodes)
  t.equal(findPids(directory, 'repaired', 'supervisor.js').length, 1)
  await lab.reboot('node-1')
  t.equal(lab.node('node-1').state, 'running', 'it comes back from a reboot, so it has a supervisor')

  await t.test('halt takes everything but the files away, and up boots the same nodes again', async (t) => {
    await lab.exec('node-1', ['sh', '-c', 'echo kept > /root/kept'])
    await lab.halt()
    const { processes, links, cgroups, mounts } = findOnHost(directory, 'repaired')
    t.same([processes, links, cgroups, mounts], [[], [], [], []])
    t.same((await lab.up({ nodes: 1 })).nodes, before.nodes)
    t.equal((await lab.exec('node-1', ['cat', '/root/kept'])).stdout, 'kept\n')
  })

  await t.test('and down cleans even when the state file is damaged', async (t) => {
    writeFileSync(join(directory, 'repaired', 'lab.json'), '{"version": 1, "na')
    t.throws(() => lab.list(), { code: 'LAB_STATE', message: /lab down --name repaired/ })
    await lab.down()
    t.same(findOnHost(directory, 'repaired'), nothing)
  })
})

void t.test('a link beside host0', { skip }, async (t) => {
  const { lab, directory } = startLab(t, 'links')
  const view = await lab.up({ nodes: ['left', 'right'], links: ['prov0'] })
  const { veth } = buildNodeNames(buildLabNames(directory, 'links'), 'left', 1)
  const hostEnd = buildLinkName(buildLabNames(directory, 'links'), 1, 1)
  const read = async (node: string, link: string) => JSON.parse((await lab.exec(node, ['ip', '-json', 'address', 'show', link])).stdout)[0] as IpLink
  const ping = async (from: string, to: string): Promise<number> => (await lab.exec(from, ['ping', '-c1', '-W5', to])).exitCode
  /** What a node is booted with, and that frames pass between the two when addresses are put there by hand. */
  const check = async (t: Test, state: string): Promise<void> => {
    for (const [node, address] of [['left', '198.51.100.1'], ['right', '198.51.100.2']] as const) {
      const { flags, addr_info } = await read(node, 'prov0')
      t.ok(['UP', 'LOWER_UP'].every((flag) => flags.includes(flag)), `prov0 of ${node} is up ${state}: ${flags.join(', ')}`)
      const found = addr_info.filter(({ family }) => family === 'inet').map(({ local }) => local)
      t.ok(found.every((each) => each === address), `and has no address but ours: ${found.join(', ')}`)
      await lab.exec(node, ['ip', 'address', 'replace', `${address}/24`, 'dev', 'prov0'])
    }
    t.same([await ping('left', '198.51.100.2'), await ping('right', '198.51.100.1')], [0, 0], `frames pass ${state}`)
  }

  await t.test('is there in the nodes that were made with it, and stays theirs', async (t) => {
    await check(t, 'after up')
    const more = await lab.up({ nodes: ['left', 'right', 'plain'] })
    t.same(more.nodes.map((node) => node.links), [['prov0'], ['prov0'], undefined])
    t.equal((await lab.exec('plain', ['ip', 'link', 'show', 'prov0'])).exitCode, 1)
    t.equal(await ping('plain', 'left'), 0)
    const [neighbour] = JSON.parse((await lab.exec('plain', ['ip', '-json', 'neighbour', 'show', lab.node('left').address])).stdout) as { lladdr: string }[]
    t.equal(neighbour?.lladdr, (await read('left', 'host0')).address, 'the address of host0 is answered by host0 alone')
  })

  await t.test('is back after a reboot, also one that nobody on the host waits for', async (t) => {
    await lab.reboot('left')
    t.same((await read('left', 'prov0')).addr_info.filter(({ family }) => family === 'inet'), [])
    await check(t, 'after a reboot')
    const before = lab.bootId('right')
    await lab.exec('right', ['systemctl', 'reboot'])
    await eventually(t, 'right has booted again', async () => lab.bootId('right') !== before && (await lab.exec('right', ['systemctl', 'is-system-running'])).stdout === 'running\n', { timeoutMs: 60_000 })
    await check(t, 'after a reboot by itself')
  })

  await t.test('is back after power loss, after halt, and when it was taken off the bridge', async (t) => {
    await lab.kill('left')
    await lab.start('left')
    await check(t, 'after power loss')
    execFileSync('ip', ['link', 'set', hostEnd, 'nomaster'])
    t.not(await ping('left', '198.51.100.2'), 0)
    await lab.up({ nodes: ['left'] })
    await check(t, 'after a repair')
    await lab.halt()
    t.same(findOnHost(directory, 'links').links, [])
    await lab.up({ nodes: ['left', 'right'] })
    await check(t, 'after halt and up')
  })

  await t.test('is gone with the lab', async (t) => {
    for (const name of [view.bridge, veth, hostEnd]) t.ok(existsSync(`/sys/class/net/${name}`), name)
    await lab.down()
    t.same(findOnHost(directory, 'links'), nothing)
  })
})

interface IpLink {
  readonly address: string
  readonly flags: readonly string[]
  readonly addr_info: readonly { readonly family: string; readonly local: string }[]
}
