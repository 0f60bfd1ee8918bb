import { buildInheritance, checkPlan, nodeId, type Footprint, type Inheritance, type NodeId, type Plan, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'

const catalog = makeCatalog([makeBlueprint('kubelet', 'claims: [kubelet]\nactions: {a: {commands: [{name: n, note: {text: t}}]}}'), makeBlueprint('free', 'actions: {a: {commands: [{name: n, note: {text: t}}]}}')])
const nodes = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7'].map((id) => makeNode(id, { role: id === 'n1' ? 'one' : 'more' }))

const makeKubelets = (name: string, change: (plan: PlanDraft) => void = () => undefined): Plan =>
  makePlan((plan) => {
    plan['metadata'].name = name
    plan['nodes'] = [{ name: 'one', select: { role: 'one' } }, { name: 'more', select: { role: 'more' } }]
    plan['components'] = [{ name: 'first', blueprint: 'kubelet', on: 'one' }, { name: 'others', blueprint: 'kubelet@^1', on: 'more' }]
    change(plan)
  })

const ids = (...names: string[]): NodeId[] => names.map(nodeId)
const inheritanceOf = (plan: Plan, placement: Footprint['placement'], change: Partial<Footprint> = {}): Inheritance | undefined => buildInheritance({ plan: JSON.stringify(plan), placement, nodes: {}, departures: [], isDestroyed: false, ...change }, new Set())
const placement = { one: ids('n1'), more: ids('n2', 'n3', 'n4', 'n5', 'n6', 'n7') }
const problemsBeside = (plan: Plan, other: Inheritance | undefined, kind: 'apply' | 'check' | 'destroy' = 'apply'): readonly Problem[] => checkPlan(plan, catalog, nodes, { kind, neighbours: [{ project: 'default', deployment: 'other', inheritance: other }] })

t.test('two components of a plan that claim the same are on different nodes', async (t) => {
  t.same(problemsBeside(makeKubelets('mine'), undefined), [])
  const both = makeKubelets('mine', (plan) => delete plan['nodes'][1].select)
  t.match(problemsBeside(both, undefined), [{ code: 'PLAN_NODE_TAKEN', path: 'components[1].on', message: '"others" needs the kubelet of n1 for itself, and it belongs to "first" of this plan: choose other nodes for one of them' }])
  t.same(problemsBeside(makeKubelets('mine', (plan) => (delete plan['nodes'][1].select, (plan['components'][1].blueprint = 'free'))), undefined), [], 'who claims nothing is everybody\'s neighbour')
})

t.test('what another deployment claims on a node is named with the node, the component and the deployment', async (t) => {
  const other = inheritanceOf(makeKubelets('other'), placement)
  t.same(problemsBeside(makeKubelets('mine'), other), [
    { code: 'PLAN_NODE_TAKEN', path: 'components[0].on', message: '"first" needs the kubelet of n1 for itself, and it belongs to "first" of deployment default/other: let it leave there first, or choose other nodes' },
    { code: 'PLAN_NODE_TAKEN', path: 'components[1].on', message: '"others" needs the kubelet of n2, n3, n4, n5, n6 and 1 more for itself, and it belongs to "others" of deployment default/other: let it leave there first, or choose other nodes' },
  ])
  t.same(problemsBeside(makeKubelets('mine'), other, 'destroy'), [], 'what is there may go')
  t.same(problemsBeside(makeKubelets('mine'), inheritanceOf(makeKubelets('other'), placement, { isDestroyed: true })), [], 'what was destroyed has no node')
  t.same(problemsBeside(makeKubelets('mine', (plan) => (plan['components'] = [{ name: 'others', blueprint: 'free', on: 'more' }])), other), [])
})

t.test('a node that is leaving another deployment belongs to it until it has left', async (t) => {
  const plan = makeKubelets('other')
  const departures = [{ plan, placement, departures: [{ component: 'first', nodes: ids('n1'), isWhole: false, actions: [], done: [] }] }]
  const left = { one: [], more: [] }
  t.same(problemsBeside(makeKubelets('mine'), inheritanceOf(plan, left, { departures })), [], 'nothing of it is left to do')
  const open = departures.map((former) => ({ ...former, departures: former.departures.map((departure) => ({ ...departure, actions: ['first/remove@n1' as never] })) }))
  t.match(problemsBeside(makeKubelets('mine'), inheritanceOf(plan, left, { departures: open })), [{ code: 'PLAN_NODE_TAKEN', path: 'components[0].on', message: /kubelet of n1 .* "first" of deployment default\/other/ }])
})

t.test('a node changes its component by two plans: the old one would be taken away after the new one has come', async (t) => {
  const inheritance = inheritanceOf(makeKubelets('mine'), placement)
  const renamed = makeKubelets('mine', (plan) => (plan['components'][0].name = 'renamed'))
  t.match(checkPlan(renamed, catalog, nodes, { placement, inheritance }), [{ code: 'PLAN_NODE_TAKEN', path: 'components[0].on', message: '"renamed" needs the kubelet of n1 for itself, and it belongs to "first" of the plan before, which leaves the node last of all: let it leave with a plan of its own before' }])
  t.same(checkPlan(makeKubelets('mine'), catalog, nodes, { placement, inheritance }), [], 'who stays is no stranger to itself')
})
