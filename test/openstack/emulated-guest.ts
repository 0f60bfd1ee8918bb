/**
 * A guest in a lab node, run by qemu as Nova runs it on a host without KVM: one emulated processor, kernel and initrd beside the disk, the console on a serial
 * port, and what it is told about itself on a config drive or by a metadata service. The network is qemu's own.
 */
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LichenError } from '@lichen/core'
import { runRequired, type ExecResult, type Lab } from '@lichen/lab'
import { guestImageProperties, type GuestImage } from './guest-image/build.js'

export interface GuestOptions {
  readonly image: GuestImage
  readonly hostname: string
  readonly userData: string
  /** May log in as `debian`. */
  readonly publicKey: string
  /** Port of the node at which the guest's ssh answers. */
  readonly sshPort: number
  /** Where a metadata service answers, as `host:port`; a config drive when absent. */
  readonly metadataService?: string
}

export interface EmulatedGuest {
  /** Seconds from the start of qemu until the console had printed this for the first time. @throws when it does not within `timeoutMs`, with the console's end. */
  waitFor(text: string | RegExp, timeoutMs: number): Promise<number>
  console(): string
  /** Presses the power button, as Nova does to stop a guest. Gives back whether it was off within `timeoutMs`. */
  pressPowerButton(timeoutMs: number): Promise<boolean>
  /** Power loss; one that is off already is no error. */
  stop(): Promise<void>
}

const directory = '/var/tmp/guest'
const hardwareAddress = 'fa:16:3e:00:00:01'
const monitorPort = 4444

/** Installs into the node what guests need, and copies the image there; once for each node. */
export async function prepareGuests(lab: Lab, node: string, image: GuestImage): Promise<void> {
  await run(lab, node, ['apt-get', '--quiet', 'update'])
  await run(lab, node, ['apt-get', '--quiet', '--yes', 'install', 'qemu-system-x86', 'genisoimage', 'openssh-client'])
  await run(lab, node, ['mkdir', '--parents', directory])
  for (const path of [image.diskPath, image.kernelPath, image.initrdPath]) await runRequired(['cp', '--sparse=always', '--reflink=auto', path, join(lab.node(node).root, directory)])
}

/** Starts a guest on a fresh disk. It ends with `stop`, or with the lab. */
export async function startGuest(lab: Lab, node: string, options: GuestOptions): Promise<EmulatedGuest> {
  if (!options.metadataService) await writeConfigDrive(lab, node, options)
  const { hw_rng_model, os_command_line } = guestImageProperties
  const argv = [
    ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc', '-accel', 'tcg,tb-size=128', '-smp', '1', '-m', '512'],
    ...['-kernel', `${directory}/vmlinuz`, '-initrd', `${directory}/initrd`, '-append', os_command_line],
    ...['-drive', `file=${directory}/disk.raw,format=raw,if=virtio,snapshot=on`],
    // what libvirt writes there for Nova: cloud-init asks for metadata only where it finds it
    ...(options.metadataService ? ['-smbios', 'type=1,product=OpenStack Nova'] : ['-drive', `file=${directory}/config.iso,format=raw,media=cdrom,readonly=on`]),
    ...['-object', 'rng-random,id=entropy,filename=/dev/urandom', '-device', `${hw_rng_model}-rng-pci,rng=entropy`],
    ...['-netdev', buildNetwork(options), '-device', `virtio-net-pci,netdev=net,mac=${hardwareAddress}`],
    ...['-serial', 'stdio', '-monitor', `tcp:127.0.0.1:${monitorPort},server=on,wait=off`, '-pidfile', `${directory}/pid`],
  ]
  let text = ''
  const startedAt = performance.now()
  const waiting = new Set<() => void>()
  const ended: Promise<ExecResult> = lab.exec(node, argv, {
    onOutput: (_stream, data) => {
      text += data.toString('latin1')
      for (const look of waiting) look()
    },
  })
  let end: ExecResult | undefined
  void ended.then((result) => {
    end = result
    for (const look of waiting) look()
  })
  return {
    console: () => text,
    waitFor: (wanted, timeoutMs) =>
      new Promise((settle, fail) => {
        const finish = (done: () => void): void => {
          waiting.delete(look)
          clearTimeout(timer)
          done()
        }
        const give = (why: string): void => finish(() => fail(new Error(`no ${wanted} on the guest's console ${why}; it ends with: ${text.slice(-2000)}`)))
        const look = (): void => {
          if (typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text)) finish(() => settle((performance.now() - startedAt) / 1000))
          else if (end) give(`before qemu ended with ${end.exitCode} ${end.stderr}`)
        }
        const timer = setTimeout(() => give(`within ${timeoutMs} ms`), timeoutMs)
        waiting.add(look)
        look()
      }),
    pressPowerButton: async (timeoutMs) => {
      await run(lab, node, ['bash', '-c', `echo system_powerdown >/dev/tcp/127.0.0.1/${monitorPort}`])
      return Promise.race([ended.then(() => true), delay(timeoutMs, false, { ref: false })])
    },
    stop: async () => {
      if (!end) await lab.exec(node, ['sh', '-c', `kill -KILL "$(cat ${directory}/pid)"`])
      await ended
    },
  }
}


function buildNetwork({ sshPort, metadataService }: GuestOptions): string {
  // qemu forwards only what is in its own network
  const metadata = metadataService ? `,net=169.254.169.0/24,guestfwd=tcp:169.254.169.254:80-tcp:${metadataService}` : ''
  return `user,id=net,hostfwd=tcp:127.0.0.1:${sshPort}-:22${metadata}`
}

/** The files below `openstack/latest/`, on the drive and in the service alike. */
function buildMetadata({ hostname, publicKey, userData }: Pick<GuestOptions, 'hostname' | 'publicKey' | 'userData'>): Readonly<Record<string, string>> {
  const uuid = '00000000-0000-4000-8000-000000000001'
  return {
    'meta_data.json': JSON.stringify({ uuid, name: hostname, hostname, public_keys: { lab: publicKey } }),
    'network_data.json': JSON.stringify({
      links: [{ id: 'tap', type: 'phy', ethernet_mac_address: hardwareAddress, mtu: 1500 }],
      networks: [{ id: 'network0', type: 'ipv4_dhcp', link: 'tap', network_id: uuid }],
      services: [],
    }),
    user_data: userData,
  }
}

/** An ISO 9660 with the label that Nova gives it. */
async function writeConfigDrive(lab: Lab, node: string, options: GuestOptions): Promise<void> {
  for (const [name, content] of Object.entries(buildMetadata(options))) await lab.writeIn(node, `${directory}/drive/openstack/latest/${name}`, content)
  await run(lab, node, ['genisoimage', '-quiet', '-V', 'config-2', '-r', '-J', '-o', `${directory}/config.iso`, `${directory}/drive`])
}

/** Serves the metadata of one guest as Nova's metadata service does, at a free port of this address of the host. */
export async function serveMetadata(address: string, options: Pick<GuestOptions, 'hostname' | 'publicKey' | 'userData'>): Promise<Server> {
  const files = buildMetadata(options)
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/\/+$/, '')
    const content = path === '/openstack' ? 'latest\n' : files[path.replace(/^\/openstack\/latest\//, '')]
    response.writeHead(content === undefined ? 404 : 200).end(content)
  })
  await new Promise<void>((settle, fail) => server.once('error', fail).listen(0, address, settle))
  return server
}

async function run(lab: Lab, node: string, argv: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await lab.exec(node, argv, { env: { DEBIAN_FRONTEND: 'noninteractive' } })
  if (exitCode !== 0) throw new LichenError('LAB_PROGRAM_FAILED', `${argv.join(' ').slice(0, 200)}: exit code ${exitCode}: ${stderr.trim().slice(-1000)}`)
}
