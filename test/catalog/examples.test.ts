import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildCatalog, buildGraph, checkBlueprint, checkPlan, parseBlueprint, parsePlan } from '@lichen/core'
import t from 'tap'
import { parse } from 'yaml'
import { makeNode } from '../core/plan-fixture.js'
import { makeNodesOf } from './plan-nodes.js'

const root = resolve(import.meta.dirname, '../..')

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
    const nodes = makeNodesOf(parsed.value.nodes)
    for (const kind of ['apply', 'check', 'destroy'] as const) {
      const graph = buildGraph({ plan: parsed.value, catalog, nodes, kind })
      t.match(graph, { ok: true }, `${file}, ${kind}`)
      // Scripts ask kubectl in templates of its own.
      if (graph.ok) t.notMatch(JSON.stringify(graph.value.actions).replaceAll(/go-template=[^']*'/g, ''), /\{\{|\{%/, `${file}, ${kind}: no template is left`)
    }
  }
})

/** The blocks of YAML in a document. */
const readBlocks = (file: string): Record<string, unknown>[] => [...readFileSync(resolve(root, file), 'utf8').matchAll(/^```yaml\n([^]*?)^```$/gm)].map((match) => parse(match[1]!) as Record<string, unknown>)

t.test('what docs/plans.md shows is a plan, or a part of one', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const [whole, ...parts] = readBlocks('docs/plans.md')
  t.ok(parts.length >= 5, `${parts.length} parts`)
  for (const part of [{}, ...parts]) {
    const nodes = 'nodes' in part ? [...(part['nodes'] as object[]), { name: 'control' }] : whole!['nodes']
    const components = 'components' in part ? part['components'] : whole!['components']
    const parsed = parsePlan({ ...whole, ...part, nodes, components })
    t.match(parsed, { ok: true }, JSON.stringify(part))
    if (parsed.ok) t.same(checkPlan(parsed.value, catalog), [], JSON.stringify(part))
  }
})

t.test('the actions that docs/blueprints.md shows make a blueprint that can be rolled out in waves', async (t) => {
  const actions = readBlocks('docs/blueprints.md').find((block) => 'actions' in block)!['actions'] as object
  const remove = { commands: [{ name: 'remove', note: { text: 'gone' } }] }
  const parsed = parseBlueprint(JSON.stringify({ apiVersion: 'lichen.dev/v1', kind: 'Blueprint', name: 'thing', version: '1.0.0', summary: 'of the docs', actions: { ...actions, remove } }), {})
  if (!parsed.ok) return t.same(parsed.problems, [])
  t.same(checkBlueprint(parsed.value), [])
  const plan = parsePlan({ apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'x' }, nodes: [{ name: 'all' }], components: [{ name: 'thing', blueprint: 'thing', on: 'all' }], rollout: { waves: [{ nodes: 1 }] } })
  if (!plan.ok) return t.same(plan.problems, [])
  const graph = buildGraph({ plan: plan.value, catalog: buildCatalog([parsed.value]), nodes: [makeNode('n1'), makeNode('n2')], kind: 'apply' })
  t.match(graph, { ok: true, value: { gates: [{ id: 'thing/wave-1', after: ['thing/check@n1', 'thing/configure@n1', 'thing/quorum:wave-1@n1'] }] } })
})

t.test('examples/rollout.yaml goes in waves: a canary with an approval, then two at a time', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const parsed = parsePlan(readFileSync(resolve(root, 'examples/rollout.yaml'), 'utf8'))
  if (!parsed.ok) return t.same(parsed.problems, [])
  const graph = buildGraph({ plan: parsed.value, catalog, nodes: Array.from({ length: 5 }, (_, index) => makeNode(`n${index + 1}`)), kind: 'apply' })
  t.match(graph.ok && graph.value.gates.map(({ meaning, approve }) => [meaning, approve]), [['wave 1 of 3 of hello (canary: n1)', true], ['wave 2 of 3 of hello (n2 and n3)', false]])
})
