import type { AddressInfo } from 'node:net'
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { requireTools, runProgram, runRequired } from '@lichen/lab'
import t from 'tap'
import { cacheDirectory, skipReason, startLab } from '../lab/lab-fixture.js'
import { prepareGuests, serveMetadata, startGuest } from './emulated-guest.js'
import { buildGuestImage, guestImageProperties, type GuestImage } from './guest-image/build.js'

const skip = skipReason()
let image: GuestImage

t.before(async () => {
  if (skip !== false) return
  await requireTools({ debugfs: 'e2fsprogs', e2fsck: 'e2fsprogs' }, (line) => t.comment(line))
  image = await buildGuestImage({ cacheDirectory, log: (line) => t.comment(line) })
})

function readBytes(path: string, offset: number, length: number): Buffer {
  const file = openSync(path, 'r')
  try {
    const bytes = Buffer.alloc(length)
    readSync(file, bytes, 0, length, offset)
    return bytes
  } finally {
    closeSync(file)
  }
}

t.test('the disk is one ext4 from its first byte to its last, and holes where nothing is', { skip }, async (t) => {
  t.equal(readBytes(image.diskPath, 0x438, 2).readUInt16LE(), 0xef53)
  t.same(readBytes(image.diskPath, 0, 1024), Buffer.alloc(1024), 'no boot loader, no partitions')
  const { exitCode, stdout } = await runProgram(['e2fsck', '-f', '-n', image.diskPath])
  t.equal(exitCode, 0, stdout)
  const { size, blocks } = statSync(image.diskPath)
  t.equal(size % 1024 ** 2, 0)
  t.ok(blocks * 512 < size * 0.6, `${Math.round((blocks * 512) / 1e6)} of ${Math.round(size / 1e6)} MB are used`)
})

t.test('it holds what guests need, and nothing of the node it was made in', { skip }, async (t) => {
  const look = async (request: string): Promise<string> => {
    const { stdout, stderr } = await runRequired(['debugfs', '-R', request, image.diskPath])
    return stdout + stderr.replace(/^debugfs .*\n/, '')
  }
  for (const path of ['/usr/sbin/sshd', '/usr/sbin/ifup', '/usr/sbin/dhclient', '/usr/bin/sudo', '/usr/bin/ping', '/usr/bin/cloud-init']) t.match(await look(`stat ${path}`), /Type: regular/, path)
  t.match(await look('cat /etc/cloud/cloud.cfg'), /^datasource_list: \[ConfigDrive, OpenStack, None\]$/m)
  t.match(await look('ls /home'), /debian/)
  t.match(await look('stat /usr/local/sbin/cloud-init-stages'), /User: +0 +Group: +0/)
  t.match(await look('stat /usr/local/sbin/cloud-init-stages'), /Mode: +0755/)
  t.match(await look('stat /etc/machine-id'), /Size: 0/)
  t.notMatch(await look('ls /etc/ssh'), /ssh_host/)
  for (const path of ['/etc/apt/apt.conf.d/00proxy', '/etc/systemd/system/getty.target', '/guest']) t.match(await look(`stat ${path}`), /File not found/, path)
  t.notMatch(await look('cat /etc/hosts'), /builder/)
  t.equal(await look('cat /etc/hostname'), 'guest\n')
})

t.test('kernel and initrd are beside it, and the initrd has the modules that a root on a virtio disk needs', { skip }, async (t) => {
  t.equal(readBytes(image.kernelPath, 0x202, 4).toString(), 'HdrS', "Linux' boot protocol")
  const initrd = readFileSync(image.initrdPath)
  t.equal(initrd.subarray(0, 6).toString(), '070701', 'a cpio archive, not packed')
  for (const name of ['init\0', 'bin/busybox\0', 'modules/virtio_pci.ko\0', 'modules/virtio_blk.ko\0']) t.ok(initrd.includes(name), name)
  t.ok(initrd.length < 8e6)
})

t.test('what is there is found at once', { skip }, async (t) => {
  const startedAt = performance.now()
  t.same(await buildGuestImage({ cacheDirectory, log: (line) => t.fail(line) }), image)
  t.ok(performance.now() - startedAt < 1000)
})

t.test('a guest without KVM', { skip }, async (t) => {
  const { lab } = startLab(t, 'guest-image')
  const node = 'host'
  const { gateway } = await lab.up({ nodes: [node] })
  await prepareGuests(lab, node, image)
  await lab.exec(node, ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/root/key'])
  const publicKey = (await lab.exec(node, ['cat', '/root/key.pub'])).stdout.trim()
  const userData = ['#cloud-config', 'write_files:', '  - {path: /root/written, content: by cloud-init}', 'runcmd:', "  - [sh, -c, 'echo USER-DATA of $(hostname) at $(hostname -I) >/dev/console']", ''].join('\n')
  const ssh = (...words: string[]) => {
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'].flatMap((option) => ['-o', option])
    return lab.exec(node, ['ssh', '-i', '/root/key', '-p', '2222', ...options, 'debian@127.0.0.1', ...words], { timeoutMs: 60_000 })
  }
  // several times what an emulated processor takes on a machine at rest
  const bootTimeoutMs = 150_000

  await t.test('boots, runs its user-data, lets the holder of the key in, and obeys the power button', async (t) => {
    const guest = await startGuest(lab, node, { image, hostname: 'vm-1', userData, publicKey, sshPort: 2222 })
    t.teardown(() => guest.stop())
    const [login, ran] = await Promise.all([guest.waitFor(' login:', bootTimeoutMs), guest.waitFor(/USER-DATA of vm-1 at 10\.0\.2\.15/, bootTimeoutMs)])
    t.comment(`login after ${login.toFixed(1)} s, user-data after ${ran.toFixed(1)} s`)
    t.match(guest.console(), guestImageProperties.os_command_line)
    const { stdout, stderr } = await ssh('until systemctl is-active --quiet acpid; do sleep 1; done; hostname; sudo cat /root/written; cloud-init status; systemctl list-units --failed --quiet')
    t.equal(stdout, 'vm-1\nby cloud-initstatus: done\n', stderr)
    t.ok(await guest.pressPowerButton(60_000), guest.console().slice(-500))
  })

  await t.test('asks the metadata service when it has no config drive', async (t) => {
    const server = await serveMetadata(gateway, { hostname: 'vm-2', userData, publicKey })
    t.teardown(() => server.close())
    const metadataService = `${gateway}:${(server.address() as AddressInfo).port}`
    const guest = await startGuest(lab, node, { image, hostname: 'vm-2', userData, publicKey, sshPort: 2222, metadataService })
    t.teardown(() => guest.stop())
    t.comment(`user-data after ${(await guest.waitFor(/USER-DATA of vm-2 at 169\.254\.169\.15/, bootTimeoutMs)).toFixed(1)} s`)
    t.equal((await ssh('sudo cat /root/written')).stdout, 'by cloud-init')
  })
})
