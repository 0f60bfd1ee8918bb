import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildGraph, checkPlan, nodeId, parsePlan, type NodeRecord } from '@lichen/core'
import t from 'tap'

const root = resolve(import.meta.dirname, '../..')

/** A ready node with these labels. */
const makeNode = (id: string, address: string, labels: Record<string, string>): NodeRecord => ({
  id: nodeId(id),
  labels,
  facts: { hostname: id, address, addresses: [{ interface: 'eth0', address, family: 'ipv4' }], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian' }, kernel: '6.1', architecture: 'x64', cpus: 2, memoryBytes: 4e9, diskFreeBytes: 1e11, bootId: 'b', virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd' },
  state: 'ready',
  cordoned: false,
  agentVersion: '0.1.0',
  joinedAt: 0,
  lastSeenAt: 0,
})

t.test('every example plan fits the catalog, and becomes a graph for each kind of task', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const files = readdirSync(resolve(root, 'examples')).filter((name) => name.endsWith('.yaml'))
  t.ok(files.includes('hello.yaml'))
  for (const file of files) {
    const parsed = parsePlan(readFileSync(resolve(root, 'examples', file), 'utf8'))
    if (!parsed.ok) {
      t.same(parsed.problems, [], file)
      continue
    }
    t.same(checkPlan(parsed.value, catalog), [], file)
    const nodes = parsed.value.nodes.flatMap((group, index) => Array.from({ length: group.count ?? 1 }, (_, each) => makeNode(`${group.name}-${each + 1}`, `10.0.${index}.${each + 1}`, group.select ?? {})))
    for (const kind of ['apply', 'check', 'destroy'] as const) {
      const graph = buildGraph({ plan: parsed.value, catalog, nodes, kind })
      t.match(graph, { ok: true }, `${file}, ${kind}`)
      if (graph.ok) t.notMatch(JSON.stringify(graph.value.actions), /\{\{|\{%/, `${file}, ${kind}: no template is left`)
    }
  }
})
