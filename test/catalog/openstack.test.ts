// What is wrong with a plan of a cloud is told with the plan, before anything is sent to a node.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { type Applied, buildGraph, buildInheritance, type GraphInput, parsePlan, type Problem, taskId } from '@lichen/core'
import t from 'tap'
import { parse } from 'yaml'
import { makePlan, type PlanDraft } from '../core/plan-fixture.js'
import { makeNodesOf } from './plan-nodes.js'

const root = resolve(import.meta.dirname, '../..')

interface Component {
  readonly name: string
  blueprint: string
  on: string
  with?: Record<string, unknown>
  uses: Record<string, string>
}

/** What is found wrong with an example after a change. */
async function openExample(name: string): Promise<(change: (components: Map<string, Component>, draft: PlanDraft) => void) => readonly Problem[]> {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const example = readFileSync(resolve(root, 'examples', name), 'utf8')
  return (change) => {
    const plan = makePlan((draft) => {
      for (const key of Object.keys(draft)) delete draft[key]
      Object.assign(draft, parse(example))
      const components = new Map((draft['components'] as Component[]).map((component) => [component.name, component]))
      change(components, draft)
      draft['components'] = [...components.values()]
    })
    const graph = buildGraph({ plan, catalog, nodes: makeNodesOf(plan.nodes), kind: 'apply' })
    return graph.ok ? [] : graph.problems
  }
}

t.test('plans of a cloud that cannot work are refused', async (t) => {
  const problemsOf = await openExample('openstack.yaml')
  const addOtherRegion = (components: Map<string, Component>): void => {
    components.set('keystone-two', { ...components.get('keystone')!, name: 'keystone-two', on: 'compute', with: { region: 'RegionTwo', port: 5001, databaseName: 'keystone_two' } })
  }
  t.same(problemsOf(() => undefined), [])
  t.same(problemsOf((components) => components.get('keystone')!.with = { region: 'north' }), [], 'all follow the region of their identity service')

  t.match(problemsOf((components) => {
    addOtherRegion(components)
    for (const name of ['glance', 'placement']) components.get(name)!.uses['identity'] = 'keystone-two'
  }), [{ code: 'PLAN_RULE_BROKEN', message: /^nova: its image service is of another region/ }, { code: 'PLAN_RULE_BROKEN', message: /^nova: its placement service is of another region/ }])
  t.match(problemsOf((components) => {
    addOtherRegion(components)
    components.get('neutron')!.uses['identity'] = 'keystone-two'
  }), [{ code: 'PLAN_RULE_BROKEN', message: /^network: its metadata service is of another region than its network service/ }])

  t.match(problemsOf((components) => {
    addOtherRegion(components)
    components.get('neutron')!.uses['identity'] = 'keystone-two'
    delete components.get('network')!.uses['metadata']
  }), [{ code: 'PLAN_RULE_BROKEN', message: /^compute: its network is of another region than its compute service/ }])
  for (const [name, claim] of [['keystone', 'keystone'], ['db', 'mariadb'], ['cache', 'memcached']] as const) {
    t.match(problemsOf((components) => components.set('second', { ...components.get(name)!, name: 'second', with: {} })), [{ code: 'PLAN_NODE_TAKEN', message: new RegExp(`needs the ${claim} of `) }])
  }

  t.match(problemsOf((components) => components.get('nova')!.uses['image'] = 'placement'), [{ code: 'PLAN_WRONG_INTERFACE', path: /uses\.image/, message: /placement/ }])
  t.match(problemsOf((components) => delete components.get('glance')!.uses['database']), [{ code: 'PLAN_MISSING_RELATION', path: 'components[4].uses.database', message: /"sql"/ }])
  t.match(problemsOf((components, draft) => (draft['nodes'] as { name: string; count: number }[])[0]!.count = 2), [{ code: 'PLAN_RULE_BROKEN' }], 'two control nodes for services of one')
  t.match(problemsOf((components) => components.get('compute')!.with = { virtType: 'xen' }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[10].with.virtType' }])
})

t.test('controllers that cannot work together are refused', async (t) => {
  const problemsOf = await openExample('openstack-three.yaml')
  const withCount = (count: number) => (_: unknown, draft: PlanDraft) => (draft['nodes'] as { name: string; count: number }[])[0]!.count = count
  t.same(problemsOf(() => undefined), [])
  t.same(problemsOf(withCount(5)), [])
  t.match(problemsOf(withCount(2)).map(({ message }) => message), [/^db: runs on 1, 3 or 5 nodes/, /^messages: has an odd number of servers/])
  t.match(problemsOf((components) => delete components.get('placement')!.uses['frontend']), [{ code: 'PLAN_RULE_BROKEN', path: 'components[6]', message: /^placement: runs on several nodes behind one address alone; bind `frontend`/ }])
  t.match(problemsOf((components) => delete components.get('db')!.uses['frontend']), [{ code: 'PLAN_RULE_BROKEN', message: /^db: several servers need one address/ }])
  t.match(problemsOf((components) => components.get('glance')!.on = 'control'), [{ code: 'PLAN_RULE_BROKEN', path: 'components[5].with.sharedData', message: /^glance: images are files of the node/ }])
  t.same(problemsOf((components) => Object.assign(components.get('glance')!, { on: 'control', with: { sharedData: true } })), [])
  t.match(problemsOf((components) => components.get('address')!.with = { virtualAddress: '10.0.0.2' }), [{ code: 'PLAN_RULE_BROKEN', path: 'components[0].with.virtualAddress', message: /the virtual address is that of a node/ }])
  t.match(problemsOf((components) => components.get('address')!.with = {}), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[0].with.virtualAddress' }])
})

t.test('servers leave a node before its network does, and a node is made without waiting for its network', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const planOf = (count: number) => {
    const draft = parse(readFileSync(resolve(root, 'examples/openstack.yaml'), 'utf8')) as { nodes: { name: string; count?: number }[] }
    draft.nodes.find(({ name }) => name === 'compute')!.count = count
    const plan = parsePlan(draft)
    if (!plan.ok) throw new Error(JSON.stringify(plan.problems))
    return plan.value
  }
  const nodes = makeNodesOf(planOf(2).nodes)
  const build = (count: number, input: Partial<GraphInput> = {}) => {
    const graph = buildGraph({ plan: planOf(count), catalog, nodes, kind: 'apply', ...input })
    if (!graph.ok) throw new Error(JSON.stringify(graph.problems))
    /** Whether an action waits for another one, by whatever is between. */
    const waits = (id: string, other: string): boolean => {
      const before: readonly string[] = [...graph.value.actions, ...graph.value.gates].find((each) => each.id === id)?.after ?? []
      return before.includes(other) || before.some((each) => waits(each, other))
    }
    return { graph: graph.value, waits }
  }
  const made = build(2)
  t.notOk(made.waits('compute/check@compute-2', 'compute-network/packages@compute-2'))
  const applied: Applied = new Map(made.graph.actions.map(({ id, key }) => [id, { key, task: taskId('t-1'), outputs: {} }]))
  const inheritance = buildInheritance({ plan: JSON.stringify(planOf(2)), placement: made.graph.placement, nodes: made.graph.known?.nodes ?? {}, departures: [], isDestroyed: false }, applied)
  const smaller = build(1, { placement: made.graph.placement, applied, inheritance })
  t.ok(smaller.waits('compute-network/leave@compute-2', 'compute/remove@compute-2'))
  t.ok(smaller.waits('compute/remove@compute-2', 'compute/leave@compute-2'))
})

t.test('options of a plan win over what an agent of the network reads else: of two files, the last one counts', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const agents = catalog.find('neutron-agents', '*')!
  const started = agents.document.actions['configure']!.commands.flatMap(({ file }) => (String(file?.['path']).startsWith('/etc/default/') ? [String(file?.['content'])] : []))
  t.equal(started.length, 1)
  t.match(started[0], /--config-file=\{\{ item\.file \}\} --config-file=\/etc\/neutron\/lichen-agents\.conf"/)
  t.match(agents.templates['agents.conf.liquid'], /options\.liquid' %\}\s*$/)
})
