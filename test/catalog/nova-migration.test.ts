/** How compute nodes reach each other when servers move: what nova-compute writes on two nodes, with the script that makes the key, in directories of the test. */
import { spawnSync } from 'node:child_process'
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildGraph, parsePlan } from '@lichen/core'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { makeNodesOf } from './plan-nodes.js'

const root = resolve(import.meta.dirname, '../..')
const source = readFileSync(join(root, 'catalog/nova-compute/templates/migration-keys.py'), 'utf8')

/** One that has the library which is on every compute node. */
const python = ['/usr/bin/python3', 'python3'].find((program) => spawnSync(program, ['-c', 'import cryptography']).status === 0)
const skip = python === undefined && process.env['CI'] !== 'true' ? 'no Python here has its cryptography library (node scripts/install-python-modules.mjs)' : false

/** The script for a directory of the test, whose files belong to whoever runs it. */
function openKeys(t: Test) {
  const place = mkdtempSync(join(tmpdir(), 'lichen-keys-'))
  t.teardown(() => rmSync(place, { recursive: true }))
  const script = join(place, 'migration-keys')
  writeFileSync(script, source.replace('"/etc/nova-migration"', JSON.stringify(place)).replaceAll(/getpwnam\("(root|nova)"\)/g, `getpwnam("${userInfo().username}")`))
  const run = (verb: string, secret: string, port: number) => spawnSync(python ?? 'python3', [script, verb, String(port)], { env: { ...process.env, MIGRATION_SECRET: secret }, encoding: 'utf8' })
  return {
    place,
    read: (name: string) => readFileSync(join(place, name), 'utf8'),
    write(secret: string, port = 8022) {
      const { status, stderr } = run('write', secret, port)
      if (status !== 0) throw new Error(stderr)
    },
    isWritten: (secret: string, port = 8022) => run('is-written', secret, port).status === 0,
  }
}

/** The public key of a secret by another library: the private one is the SHA-256 of the secret (RFC 8410 says how it is wrapped, RFC 8709 how the public one is written). */
function publicKeyOf(secret: string): string {
  const seed = createHash('sha256').update(secret).digest()
  const key = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' })
  const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
  const field = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes])
  return `ssh-ed25519 ${Buffer.concat([field(Buffer.from('ssh-ed25519')), field(raw)]).toString('base64')}`
}

t.test('every node has the same key of a secret, and knows the others by it', { skip }, (t) => {
  const [one, two] = [openKeys(t), openKeys(t)]
  t.notOk(one.isWritten('s1'))
  for (const keys of [one, two]) {
    keys.write('s1')
    t.ok(keys.isWritten('s1'))
    t.equal(keys.read('authorized_keys'), `restrict ${publicKeyOf('s1')} nova\n`)
    t.equal(keys.read('known_hosts'), `[*]:8022 ${publicKeyOf('s1')}\n`)
    for (const name of ['key', 'nova_key']) {
      t.match(keys.read(name), /^-----BEGIN OPENSSH PRIVATE KEY-----\n/)
      t.equal(statSync(join(keys.place, name)).mode & 0o777, 0o600)
    }
  }
  t.end()
})

t.test('another secret, another port, a file that others can read or that is broken: it is written again', { skip }, (t) => {
  const keys = openKeys(t)
  keys.write('s1')
  t.notOk(keys.isWritten('s2'))
  t.notOk(keys.isWritten('s1', 8023))
  const spoilt = [() => chmodSync(join(keys.place, 'nova_key'), 0o640), () => writeFileSync(join(keys.place, 'key'), '-----BEGIN OPENSSH'), () => rmSync(join(keys.place, 'known_hosts')), () => chmodSync(join(keys.place, 'authorized_keys'), 0o666)]
  for (const spoil of spoilt) {
    spoil()
    t.notOk(keys.isWritten('s1'))
    keys.write('s1')
    t.ok(keys.isWritten('s1'))
  }
  keys.write('s2', 8023)
  t.equal(keys.read('known_hosts'), `[*]:8023 ${publicKeyOf('s2')}\n`)
  t.end()
})

t.test('nodes are reached by their addresses, and a node that is added changes nothing on the others', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const commandsOf = (count: number) => {
    const draft = parse(readFileSync(resolve(root, 'examples/openstack.yaml'), 'utf8')) as { nodes: { name: string; count?: number }[]; components: { name: string; with?: object }[] }
    draft.nodes.find(({ name }) => name === 'compute')!.count = count
    draft.components.find(({ name }) => name === 'compute')!.with = { migrationPort: 8033 }
    const plan = parsePlan(draft)
    if (!plan.ok) throw new Error(JSON.stringify(plan.problems))
    const graph = buildGraph({ plan: plan.value, catalog, nodes: makeNodesOf(plan.value.nodes), kind: 'apply' })
    if (!graph.ok) throw new Error(JSON.stringify(graph.problems))
    return (node: string) => graph.value.actions.filter(({ component, node: on }) => component === 'compute' && on === node).flatMap(({ commands }) => commands)
  }
  const commands = commandsOf(2)
  const fileOf = (node: string, path: string) => (commands(node).find(({ spec }) => 'path' in spec && spec.path === path)!.spec as { content: string }).content
  for (const [node, address] of [['compute-1', '10.0.1.1'], ['compute-2', '10.0.1.2']] as const) {
    const conf = fileOf(node, '/etc/nova/nova-compute.conf')
    t.match(conf, new RegExp(`^my_ip = ${address}$`, 'm'))
    t.match(conf, new RegExp(`^live_migration_inbound_addr = ${address}$`, 'm'))
    t.match(conf, /^live_migration_uri = qemu\+ssh:\/\/nova@%s:8033\/system\?keyfile=\/etc\/nova-migration\/key&/m)
    t.match(fileOf(node, '/etc/systemd/system/lichen-nova-migration.socket'), new RegExp(`^ListenStream=${address}:8033$`, 'm'))
  }
  t.same(commandsOf(1)('compute-1'), commands('compute-1'))
})
