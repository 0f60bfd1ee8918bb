/** A cloud of a control node and compute nodes in a lab: its plan, and what tests do to it. */
import { callApi, runInNode, type ServerAddress } from '@lichen/demo'
import type { Test } from 'tap'
import { cacheDirectory } from '../lab/lab-fixture.js'
import { buildGuestImage, guestImageProperties } from '../openstack/guest-image/build.js'
import { buildOpenstackPlan, type OpenstackPlan, type PlanChanges } from '../openstack/openstack-plan.js'
import { type Action, type Cluster, startCluster, type Task } from './cluster-fixture.js'
import { readWholeLog } from './log-reader.js'

/** Dozens of services in Python start at once on the cores of one machine. */
export const longMs = 900_000

/** Where the guest image is on `control`, for images of the plan and of clients. */
export const images = { disk: '/root/guest.raw', kernel: '/root/vmlinuz', initrd: '/root/initrd', properties: guestImageProperties }

export interface CloudTask {
  readonly id: string
  readonly task: Task
  readonly actions: readonly Action[]
  /** A line for each. */
  readonly failures: string
  /** What it changed, or would. */
  readonly changed: readonly Action[]
}

export interface Cloud {
  readonly cluster: Cluster
  /** The example for these nodes. */
  planOf(changes?: Partial<PlanChanges>): OpenstackPlan
  /** What the stock client prints for these commands, as the administrator. */
  openstack(...commands: string[]): Promise<string>
  /** What it lists, as rows of one value for each of these columns. */
  list(what: string, ...columns: string[]): Promise<string[]>
  /** The task, which has ended like this. */
  submit(t: Test, kind: 'apply' | 'check' | 'destroy', wanted: unknown, outcome: string): Promise<CloudTask>
  /** The address of a server that is reached from outside. @throws when the server is not active then, with its fault. */
  makeServer(name: string, options?: ServerOptions): Promise<string>
  /** What a command prints on a server, as the user of the image. */
  login(address: string, command: string): Promise<string>
  /** No secret of this plan, which was applied, is where people read, and no file of a node with one can be read by everybody. */
  lookForSecrets(t: Test, plan: OpenstackPlan): Promise<void>
}

export interface ServerOptions {
  /** Default: `guest`, of the plan. */
  readonly image?: string
  /** One that a router joins with the public network. Default: `inner`, of the plan. */
  readonly network?: string
  /** More options of `server create`. */
  readonly more?: string
}

export interface CloudOptions {
  /** `control`, where clients are, and others. Default: `compute`. */
  readonly nodes?: readonly string[]
  /** File in `examples`. Default: openstack.yaml. */
  readonly example?: string
  /** How long a task may take. Default: `longMs`. */
  readonly limitMs?: number
  /** How long commands of the client may take. Default: two minutes. */
  readonly clientMs?: number
}

/** Nodes that have joined; all of it is gone after the test. */
export async function startCloudNodes(t: Test, labName: string, { nodes = ['control', 'compute'], example = 'openstack.yaml', limitMs = longMs, clientMs = 120_000 }: CloudOptions = {}): Promise<Cloud> {
  const image = await buildGuestImage({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, labName, nodes, { privileged: true, links: ['eth1'], labelsOf: (node) => ({ role: node === 'control' ? 'control' : 'compute' }) })
  const { lab } = cluster
  for (const [from, to] of [[image.diskPath, images.disk], [image.kernelPath, images.kernel], [image.initrdPath, images.initrd]] as const) await lab.copyIn('control', from, to)
  await cluster.shell('control', 'apt-get update -q >/dev/null && apt-get install -y -q openssh-client >/dev/null && ssh-keygen -q -t ed25519 -N "" -f /root/key')
  const publicKey = (await cluster.shell('control', 'cut --delimiter=" " --fields=1,2 /root/key.pub')).trim()
  const prefix = lab.node('control').address.replace(/\.\d+$/, '')
  const openstack = (...commands: string[]): Promise<string> => runInNode(lab, 'control', ['bash', '-c', `. /root/openrc && openstack <<'END'\n${commands.join('\n')}\nEND`], clientMs)
  const list = async (what: string, ...columns: string[]): Promise<string[]> =>
    (JSON.parse(await cluster.shell('control', `. /root/openrc && openstack ${what} -f json`)) as Record<string, unknown>[]).map((row) => columns.map((column) => String(row[column])).join(' ')).sort()
  return {
    cluster,
    planOf: (changes = {}) => buildOpenstackPlan({ example, prefix, publicKey, image: images, ...changes }),
    openstack,
    list,
    submit: async (t, kind, wanted, outcome) => {
      const id = await cluster.submit(kind, wanted)
      const task = await cluster.ended(t, id, limitMs)
      t.equal(task.outcome, outcome)
      const actions = await cluster.actions(id)
      const failures = actions.flatMap((action) => (action.result?.failure ? [`${action.id}: ${action.result.failure.code}: ${action.result.failure.message}`] : []))
      if (task.outcome !== outcome) for (const failure of failures) t.comment(failure)
      const changed = actions.filter((action) => !action.id.startsWith('lichen/') && action.result?.changed === true)
      return { id, task, actions, failures: failures.join('\n'), changed }
    },
    makeServer: async (name, { image = 'guest', network = 'inner', more = '' } = {}) => {
      await openstack(`server create --flavor small --image ${image} --network ${network} --key-name lab ${more} --wait ${name}`)
      // A client that reads its commands succeeds whatever became of them.
      const { status, fault } = JSON.parse(await openstack(`server show ${name} -f json`)) as { readonly status: string, readonly fault?: unknown }
      if (status !== 'ACTIVE') throw new Error(`server ${name} is ${status}: ${JSON.stringify(fault)}`)
      const { floating_ip_address: floating } = JSON.parse(await openstack('floating ip create public -f json')) as { readonly floating_ip_address: string }
      await openstack(`server add floating ip ${name} ${floating}`)
      return floating
    },
    login: async (address, command) => {
      const ssh = `ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5 debian@${address}`
      const until = Date.now() + longMs
      for (;;) {
        const { exitCode, stdout, stderr } = await lab.exec('control', ['bash', '-c', `${ssh} '${command}'`])
        if (exitCode === 0) return String(stdout)
        if (Date.now() > until) throw new Error(`no login on ${address}: ${String(stderr)}`)
        await new Promise((resolve) => setTimeout(resolve, 2_000))
      }
    },
    lookForSecrets: async (t, plan) => {
      const server = cluster.server()
      const nodes = lab.list()!.nodes.map(({ name }) => name)
      const printed = await Promise.all(nodes.map((node) => cluster.shell(node, listSecrets)))
      const secrets = printed.flatMap((text) => text.trim().split('\n').filter((line) => line !== '')).map((line) => line.split(' ') as [string, string])
      const names = [...new Set(secrets.map(([name]) => name))].sort()
      t.same(names, ['OS_PASSWORD', 'SECRET_KEY', 'auth_encryption_key', 'connection', 'cookie', 'default_pass', 'key', 'metadata_proxy_shared_secret', 'password', 'stack_domain_admin_password', 'transport_url'])
      const values = [...new Set(secrets.map(([, value]) => value))]
      // one for each that the plan's components have, but for the one of which a key of SSH is made
      t.ok(values.length >= 24, `${values.length} secrets on ${nodes.join(', ')}`)
      const namesIn = (text: string): string[] => [...new Set(secrets.filter(([, value]) => text.includes(value)).map(([name]) => name))]

      for (const { id } of await readAll<{ readonly id: string }>(server, '/v1/tasks')) {
        const everything = JSON.stringify([await readWholeLog(server, id), await readAll(server, `/v1/tasks/${id}/actions`), await readAll(server, `/v1/tasks/${id}/events`)])
        t.same(namesIn(everything), [], `task ${id} shows none`)
      }
      for (const kind of ['apply', 'destroy']) {
        const preview = JSON.stringify(await callApi(server, 'POST', '/v1/previews', { kind, plan }))
        t.match(preview, /⟦secret:/, `a preview of ${kind} has places for them`)
        t.same(namesIn(preview), [], 'and shows none')
      }
      const patterns = values.map((value) => `--regexp=${value}`).join(' ')
      for (const node of nodes) {
        const readable = await cluster.shell(node, `grep --recursive --files-with-matches --fixed-strings ${patterns} /etc /root /var/lib/lichen 2>/dev/null | xargs --no-run-if-empty stat --format='%A %n' | grep --extended-regexp '^.{7}r' || true`)
        t.equal(readable, '', `no file with one on ${node} can be read by everybody`)
        const read = await cluster.shell(node, `runuser -u nobody -- grep --recursive --files-with-matches --fixed-strings ${patterns} /etc /opt /run /srv /tmp /usr/local /var/backups /var/cache/debconf /var/lib/dpkg /var/lib/lichen-agent /var/log /var/tmp 2>/dev/null || true`)
        t.equal(read, '', `nobody finds one on ${node}`)
      }
    },
  }
}

/** All items of a list that comes in pages. */
async function readAll<Item>(server: ServerAddress, path: string): Promise<Item[]> {
  const items: Item[] = []
  for (let query = ''; ; ) {
    const page = await callApi<{ readonly items: readonly Item[]; readonly next: string | null }>(server, 'GET', `${path}${query}`)
    items.push(...page.items)
    if (page.next === null) return items
    query = `?after=${encodeURIComponent(page.next)}`
  }
}

/** Prints the secrets that Lichen has put into files of a node, each behind the name that it has there. They are at least 32 letters and digits. */
const listSecrets = String.raw`shopt -s nullglob
grep --no-filename '' /dev/null /etc/{nova,neutron,glance,placement,keystone,heat,rabbitmq}/*.{conf,ini} /etc/keystone/*-keys/* /etc/openstack-dashboard/local_settings.d/*lichen.py \
  /var/lib/lichen/*/*.json /etc/keystone/*.json /var/lib/rabbitmq/.erlang.cookie /root/openrc 2>/dev/null | sed --quiet --regexp-extended '
    s/^([a-z_]+) = ([A-Za-z0-9]{32,})$/\1 \2/p
    s#^(connection|transport_url) = [^:]*://[^:]*:([A-Za-z0-9]{32,})@.*#\1 \2#p
    s/^(SECRET_KEY) = "([A-Za-z0-9]{32,})"$/\1 \2/p
    s/^export (OS_PASSWORD)=([A-Za-z0-9]{32,})$/\1 \2/p
    s/.*"(password)": "([A-Za-z0-9]{32,})".*/\1 \2/p
    s/^([A-Za-z0-9]{43})=$/key \1/p
    s/^([A-Za-z0-9]{32})$/cookie \1/p'`

/** Prints what a compute node has that left, or lost its cloud; nothing when it is clean. */
export const leftOfCompute = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'nova-*' 'neutron-*' libvirt-daemon-system 2>/dev/null | grep -v not-installed
  ls -d /etc/nova/nova-compute.conf /etc/neutron/lichen-agents.conf /etc/default/nova-compute /etc/default/libvirt-guests /etc/udev/rules.d/*lichen* /etc/systemd/system/nova-compute.service.d /etc/default/neutron-* /usr/local/sbin/lichen-* /var/lib/lichen/compute /var/lib/lichen/compute-network /etc/libvirt/libvirtd.conf /etc/nova-migration /etc/ssh/ssh_config.d/lichen-nova.conf /etc/systemd/system/lichen-nova-* /etc/systemd/system/*.wants/lichen-nova-* 2>/dev/null
  grep '^node.session.timeo.replacement_timeout' /etc/iscsi/iscsid.conf 2>/dev/null | grep --invert-match ' = 120$'
  ip -oneline link show | grep -E 'brq|tap|vxlan-'; iptables-save 2>/dev/null | grep neutron; ip netns list; pgrep --list-full qemu
  true`

/** The same of a node that had everything else. */
export const leftOfCloud = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'nova-*' 'neutron-*' glance glance-api placement-api keystone rabbitmq-server 'mariadb-server*' 'heat-*' 'openstack-dashboard*' 2>/dev/null | grep -v not-installed
  ls -d /etc/nova/nova.conf /etc/neutron/neutron.conf /etc/glance /etc/placement /etc/keystone /etc/rabbitmq /var/lib/mysql /var/lib/rabbitmq /var/lib/glance /usr/local/sbin/lichen-* /root/openrc 2>/dev/null
  ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(80|3306|4369|5672|11211|5000|8000|8004|9292|8778|8774|8775|9696)$'
  ip -oneline link show | grep -E 'brq|tap|vxlan-'; ip netns list; iptables-save 2>/dev/null | grep neutron
  true`
