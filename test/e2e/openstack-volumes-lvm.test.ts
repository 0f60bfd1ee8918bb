/** Volumes in LVM: made, used, and what becomes of them when their node or that of a server is away. */
import t from 'tap'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { step } from './cluster-fixture.js'
import { ofVolumes, startVolumeNodes, volumesLongMs } from './volume-nodes-fixture.js'

t.setTimeout(3_600_000)

t.test('volumes in LVM', { skip: skipReason() }, async (t) => {
  const { cloud, compute, storage, planOf, shown, status, becomes, disappear, attach, detach, makeWritten, written } = await startVolumeNodes(t)
  const { cluster, openstack, list, submit } = cloud
  const lvm = { type: 'lvm', loopFileGb: 5 }
  const plan = planOf(lvm)
  let floating = ''

  await step(t, 'a node whose kernel lacks what volumes need is refused before anything of them is installed there', async (t) => {
    const { failures } = await submit(t, 'apply', planOf(lvm, 'control'), 'failed')
    t.match(failures, /volumes\/preflight@control: COMMAND_CONDITION: [^]*the node has no \/dev\/mapper\/control: its kernel lacks dm_mod/)
    t.equal((await cluster.shell('control', ofVolumes)).trim(), '/var/lib/lichen/volumes', 'nothing of it is there but what looked')
  })

  await step(t, 'it is made by one apply, and a second one changes nothing', async (t) => {
    const { id } = await submit(t, 'apply', plan, 'succeeded')
    await cluster.tell(t, id)
    t.same(await list('volume service list', 'Binary', 'Host', 'State'), ['cinder-scheduler storage up', 'cinder-volume storage@lvm up'])
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 3 nodes/)
  })

  await step(t, 'a server writes on a volume, which keeps it: detached, copied and made larger', async (t) => {
    floating = await cloud.makeServer('first')
    await makeWritten(t, floating, 'data')
    await detach(t, 'data')
    await openstack('volume snapshot create --volume data before')
    await eventually(t, 'the snapshot is made', async () => (await shown('volume snapshot show before', 'status')) === 'available', { timeoutMs: volumesLongMs, intervalMs: 2_000 })
    await openstack('volume create --snapshot before copy')
    await becomes(t, 'copy', 'available')
    await openstack('volume set --size 2 data')
    await becomes(t, 'data', 'available')
    t.equal(await shown('volume show data', 'size'), '2')
    await attach(t, 'copy')
    t.equal(await written(floating), 'lichen')
    await detach(t, 'copy')
  })

  await step(t, 'the node of volumes is without power for longer than iSCSI waits by itself, and what a server writes meanwhile arrives', async (t) => {
    await attach(t, 'data')
    t.equal(await written(floating), 'lichen')
    t.match(await cloud.login(floating, 'lsblk --noheadings --nodeps --output NAME,SIZE /dev/vdb'), /^vdb +2G$/m, 'it has its new size')
    await storage.cutPower()
    const ended = () => cloud.login(floating, 'cat ended 2>/dev/null || true')
    await cloud.login(floating, 'nohup sh -c "printf mosses | sudo dd of=/dev/vdb conv=fsync status=none; echo ended with \\$? >ended" >/dev/null 2>&1 </dev/null &')
    await new Promise((resolve) => setTimeout(resolve, 150_000))
    t.equal(await ended(), '', 'it still waits')
    await storage.start()
    await cluster.settled(t, 'after the power loss', plan, volumesLongMs)
    await eventually(t, 'it is written', async () => (await ended()) !== '', { timeoutMs: volumesLongMs, intervalMs: 2_000 })
    t.equal(await ended(), 'ended with 0\n')
    t.equal(await written(floating), 'mosses')
  })

  await step(t, 'while its targets start again nobody is let in and turned away, and a session that is lost all the same is told and taken up', async (t) => {
    const polled = compute.shell(`python3 - ${storage.address} <<'END'\n${pollPortal}END`)
    await eventually(t, 'it is asked', async () => (await compute.shell('ls /run/polling 2>/dev/null || true')) !== '', { timeoutMs: volumesLongMs, intervalMs: 200 })
    await storage.shell('systemctl restart tgt')
    t.match(JSON.parse(await polled), { refused: /^[1-9]/, turnedAway: 0, kept: 5 })
    t.equal(await written(floating), 'mosses')
    const session = () => compute.shell('cat /sys/class/iscsi_session/*/state')
    await eventually(t, 'the session is there again', async () => (await session()) === 'LOGGED_IN\n', { timeoutMs: volumesLongMs, intervalMs: 1_000 })

    await storage.shell('systemctl stop tgt')
    await eventually(t, 'the session is lost', async () => (await session()) === 'FAILED\n', { timeoutMs: volumesLongMs, intervalMs: 1_000 })
    const waits = new RegExp(`servers wait for volume-${await shown('volume show data', 'id')}: its iSCSI session with ${storage.address}:3260 is FAILED`)
    const look = async () => {
      const { changed } = await submit(t, 'check', plan, 'succeeded')
      const diffs = changed.find(({ id }) => id.startsWith('compute/check@'))?.result?.commands.map(({ diff }) => diff ?? '').join('\n')
      return { differ: changed.map(({ id }) => id.replace(/@.*/, '')), diffs }
    }
    const away = await look()
    t.match(away.diffs, waits)
    t.ok(away.differ.includes('volumes/storage'), 'tgt is what does not run')
    t.notOk(away.differ.includes('compute/serve'), 'and nothing helps on the node of servers')

    await compute.shell('systemctl stop iscsid.socket iscsid.service')
    await storage.shell('systemctl start tgt')
    await cloud.login(floating, 'rm --force ended; nohup sh -c "printf ferns! | sudo dd of=/dev/vdb conv=fsync status=none; echo ended with \\$? >ended" >/dev/null 2>&1 </dev/null &')
    const lost = await look()
    t.match(lost.diffs, waits)
    t.same(lost.differ.sort(), ['compute/check', 'compute/serve'])
    const { changed } = await submit(t, 'apply', plan, 'succeeded')
    t.same(changed.map(({ id }) => id.replace(/@.*/, '')), ['compute/serve'])
    t.equal(await session(), 'LOGGED_IN\n')
    await eventually(t, 'it is written', async () => (await cloud.login(floating, 'cat ended 2>/dev/null || true')) === 'ended with 0\n', { timeoutMs: volumesLongMs, intervalMs: 2_000 })
    t.equal(await written(floating), 'ferns!')
  })

  await step(t, 'the node of servers is rebooted, and its server has its volume again', async (t) => {
    await compute.reboot()
    await cluster.settled(t, 'after the reboot', plan, volumesLongMs)
    t.equal(await written(floating), 'ferns!')
    await detach(t, 'data')
  })

  await step(t, 'a volume that does not fit is refused, and fits once the file is larger', async (t) => {
    const isMade = async (): Promise<boolean> => {
      await openstack('volume create --size 3 large')
      await eventually(t, 'it is made or refused', async () => /available|error/.test(await status('large')), { timeoutMs: volumesLongMs, intervalMs: 2_000 })
      const said = await status('large')
      await openstack('volume delete large')
      await eventually(t, 'it is gone', async () => !(await list('volume list', 'Name')).includes('large'), { timeoutMs: volumesLongMs, intervalMs: 2_000 })
      return said === 'available'
    }
    t.equal(await isMade(), false)
    await submit(t, 'apply', planOf({ ...lvm, loopFileGb: 8 }), 'succeeded')
    await eventually(t, 'the backend has said how much room it has, and it fits', isMade, { timeoutMs: volumesLongMs, intervalMs: 10_000 })
  })

  await step(t, 'without volumes in the plan its node has nothing of them', async (t) => {
    await openstack('volume delete copy', 'volume snapshot delete before')
    await disappear(t, 'volume snapshot')
    await openstack('volume delete data')
    await disappear(t, 'volume')
    await submit(t, 'apply', { ...plan, components: plan.components.filter(({ name }) => name !== 'volumes') }, 'succeeded')
    t.equal((await storage.shell(ofVolumes)).trim(), '')
  })
})

/** Connects to the portal of an address until it has refused, and then lets in and keeps, what comes to it; tells how often it refused, and how often it closed a connection after the first time. */
const pollPortal = `
import json, socket, sys, time
refused = turned_away = kept = 0
open('/run/polling', 'w').close()
until = time.monotonic() + 600
while kept < 5 and time.monotonic() < until:
    try:
        connection = socket.create_connection((sys.argv[1], 3260), 2)
    except OSError:
        refused += 1
        time.sleep(0.02)
        continue
    connection.settimeout(0.5)
    try:
        connection.recv(1)
        closed = True
    except socket.timeout:
        closed = False
    except OSError:
        closed = True
    connection.close()
    if refused:
        kept = 0 if closed else kept + 1
        turned_away += closed
print(json.dumps({'refused': str(refused), 'turnedAway': turned_away, 'kept': kept}))
`
