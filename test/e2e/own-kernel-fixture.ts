/**
 * A machine with a kernel of its own, for what the kernel of this host cannot (device mapper, iSCSI): user-mode Linux, a kernel that runs as a process of a lab's node. Its disk is a copy of
 * the node's files and its interfaces are on the lab's network, so it goes with the node, whatever becomes of it.
 */
import { buildAgentConfiguration, buildAgentPackage, createJoinToken, runInNode, waitForNodes } from '@lichen/demo'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { checkout, type Cluster, patienceMs } from './cluster-fixture.js'

export interface OwnKernelOptions {
  /** Node of the lab, which becomes its host and does not join; the machine is called as it is, with the end `-host` left out. */
  readonly host: string
  /** Last number of its address in the lab's network: from 200, which neither nodes nor servers have. */
  readonly number: number
  readonly memoryMb: number
  readonly diskGb: number
  readonly labels: Readonly<Record<string, string>>
  /** What is installed before it boots and does not start by itself, in a tenth of the time: a program starts twenty times as slowly on such a kernel, and packages are thousands of programs. */
  readonly packages?: readonly string[]
}

export interface OwnKernelMachine {
  readonly address: string
  /** What a shell script printed. @throws when its exit code is not 0. */
  shell(script: string): Promise<string>
  /** As if its power was cut. */
  cutPower(): Promise<void>
  /** Resolves when it has booted. */
  start(): Promise<void>
  /** Shuts down and boots. */
  reboot(): Promise<void>
}

/** What the machine's disk is made of, in its host. */
const root = '/machine'

/** Resolves when the machine has booted and joined. */
export async function startOwnKernelMachine(t: Test, cluster: Cluster, { host, number, memoryMb, diskGb, labels, packages = [] }: OwnKernelOptions): Promise<OwnKernelMachine> {
  const { lab } = cluster
  const name = host.replace(/-host$/, '')
  await lab.up({ nodes: [host], isPrivileged: true, links: ['eth1'] })
  const hostAddress = lab.node(host).address
  const address = hostAddress.replace(/\d+$/, String(number))
  const onHost = (script: string) => runInNode(lab, host, ['bash', '-c', `set -e; ${script}`], patienceMs)
  const inMachine = (script: string) => lab.exec(host, ['ssh', '-i', '/root/key', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', '-o', 'ConnectTimeout=5', `root@${address}`, 'bash'], { stdin: script })
  const shell = async (script: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await inMachine(script)
    if (exitCode !== 0) throw new Error(`${name}: ${script}: exit code ${exitCode}: ${stdout}${stderr}`)
    return stdout
  }
  // the copy first, so that it has neither the kernel of the machine nor what the host needs for it
  await onHost(`mkdir ${root} && tar --directory=/ --one-file-system --exclude=.${root} --create --file=- . | tar --directory=${root} --extract --file=- --numeric-owner
    apt-get update -q >/dev/null && apt-get install -y -q user-mode-linux openssh-client >/dev/null
    cp --archive /usr/lib/uml/modules ${root}/lib/
    ssh-keygen -q -t ed25519 -N '' -f /root/key
    cp --recursive /var/lib/apt/lists ${root}/var/lib/apt/
    for each in dev proc sys; do mount --bind /$each ${root}/$each; done
    printf '#!/bin/sh\\nexit 101\\n' >${root}/usr/sbin/policy-rc.d && chmod +x ${root}/usr/sbin/policy-rc.d
    export DEBIAN_FRONTEND=noninteractive
    chroot ${root} apt-get install -y -q openssh-server >/dev/null
    ls ${root}/etc/systemd/system/multi-user.target.wants >/started
    ${packages.length === 0 ? '' : `chroot ${root} apt-get install -y -q ${packages.join(' ')} >/dev/null
    ls ${root}/etc/systemd/system/multi-user.target.wants | comm -13 /started - | xargs --no-run-if-empty chroot ${root} systemctl disable --quiet`}
    rm ${root}/usr/sbin/policy-rc.d
    # the kernel has no nf_tables for IP
    for each in iptables ip6tables; do [ ! -e ${root}/usr/sbin/$each-legacy ] || chroot ${root} update-alternatives --quiet --set $each /usr/sbin/$each-legacy; done
    for each in dev proc sys; do umount ${root}/$each; done
    install -D --mode=0600 /root/key.pub ${root}/root/.ssh/authorized_keys
    echo ${name} >${root}/etc/hostname
    : >${root}/etc/machine-id
    sed --in-place 's#${hostAddress}/#${address}/#' ${root}/etc/network/interfaces
    echo '${address} ${name}' >>${root}/etc/hosts
    ip link add machines type bridge && ip link set eth1 master machines && ip link set machines up`)
  // interfaces have the names that they have in other nodes
  const links = ['host0', 'eth1'].map((link, index) => ({ link, tap: `tap${index}`, hardware: `02:1c:ff:00:${number.toString(16)}:0${index}` }))
  for (const { link, tap, hardware } of links) {
    // frames of one segment: the machine drops longer ones
    await onHost(`ip tuntap add ${tap} mode tap && ip link set ${tap} gso_max_segs 1 && ip link set ${tap} master machines up`)
    await lab.writeIn(host, `${root}/etc/systemd/network/10-${link}.link`, `[Match]\nMACAddress=${hardware}\n\n[Link]\nName=${link}\n`)
  }
  const server = cluster.server()
  await lab.writeIn(host, `${root}/etc/lichen/agent.yaml`, buildAgentConfiguration({ gateway: server.gatewayAddress, joinToken: await createJoinToken(server, 1), labels }), 0o600)
  await lab.copyIn(host, (await buildAgentPackage(checkout)).path, `${root}/root/agent.deb`)
  // A disk of its own: the host's files would belong to root, whoever makes them. Memory is a file, too large for the /tmp of a node.
  await onHost(`mke2fs -q -t ext4 -d ${root} /disk ${diskGb}G && rm --recursive ${root}
    mkdir /memory && mount --types tmpfs --options size=${memoryMb + 64}m tmpfs /memory`)
  const kernel = ['/usr/bin/linux.uml', `mem=${memoryMb}M`, 'ubd0=/disk', 'root=/dev/ubda', 'rw', 'con=null', 'con0=null,fd:1', 'umid=machine', ...links.map(({ tap, hardware }, index) => `vec${index}:transport=tap,ifname=${tap},depth=128,mac=${hardware}`)]
  const start = async () => {
    await onHost(`systemd-run --quiet --unit=machine --collect --setenv=HOME=/root --setenv=TMPDIR=/memory --property=StandardOutput=append:/console.log --property=StandardError=append:/console.log ${kernel.join(' ')}`)
    await eventually(t, `${name} boots`, async () => /^(running|degraded)$/.test((await inMachine('systemctl is-system-running --wait')).stdout.trim()), { timeoutMs: patienceMs, intervalMs: 1_000 })
  }
  await start()
  await shell('DEBIAN_FRONTEND=noninteractive dpkg -i /root/agent.deb >/dev/null && rm /root/agent.deb')
  await waitForNodes(server, [name], patienceMs)
  t.comment(`${name} runs Linux ${(await shell('uname --kernel-release')).trim()} of its own`)
  const isOff = () => eventually(t, `${name} is off`, async () => String((await lab.exec(host, ['systemctl', 'show', '--property=LoadState', '--value', 'machine'])).stdout).trim() === 'not-found', { timeoutMs: patienceMs, intervalMs: 500 })
  return {
    address,
    shell,
    cutPower: async () => {
      await onHost('systemctl kill --signal=SIGKILL machine')
      await isOff()
    },
    start,
    reboot: async () => {
      // a kernel that is a process ends where another one would start anew
      await shell('systemctl poweroff')
      await isOff()
      await start()
    },
  }
}
