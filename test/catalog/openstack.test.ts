// What is wrong with a plan of a cloud is told with the plan, before anything is sent to a node.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildGraph, type Problem } from '@lichen/core'
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

t.test('plans of a cloud that cannot work are refused', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  const example = readFileSync(resolve(root, 'examples/openstack.yaml'), 'utf8')
  function problemsOf(change: (components: Map<string, Component>, draft: PlanDraft) => void): readonly Problem[] {
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
  const addOtherRegion = (components: Map<string, Component>): void => {
    components.set('keystone-two', { ...components.get('keystone')!, name: 'keystone-two', with: { region: 'RegionTwo', port: 5001, databaseName: 'keystone_two' } })
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

  t.match(problemsOf((components) => components.get('nova')!.uses['image'] = 'placement'), [{ code: 'PLAN_WRONG_INTERFACE', path: /uses\.image/, message: /placement/ }])
  t.match(problemsOf((components) => delete components.get('glance')!.uses['database']), [{ code: 'PLAN_MISSING_RELATION', path: 'components[4].uses.database', message: /"sql"/ }])
  t.match(problemsOf((components, draft) => (draft['nodes'] as { name: string; count: number }[])[0]!.count = 2), [{ code: 'PLAN_RULE_BROKEN' }], 'two control nodes for services of one')
  t.match(problemsOf((components) => components.get('compute')!.with = { virtType: 'xen' }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[10].with.virtType' }])
})
