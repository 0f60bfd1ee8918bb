import { actionId, buildCatalog, buildGraph, buildTaskView, checkBlueprint, fillOutput, locateOutput, nodeId, parseBlueprint, taskId, type ActionGraph, type ActionId, type Catalog, type GraphOutput, type RecordedEvent, type TaskEvent } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeNodes, makePlan } from './plan-fixture.js'
import { makeResult } from './task-fixture.js'

const remove = 'remove: {commands: [{name: n, note: {text: t}}]}'
const run = (outputs: string) => `{name: n, run: {shell: 'true', uncheckable: true, outputs: ${outputs}}}`
const site = makeBlueprint('site', `
parameters: {type: object, additionalProperties: false, properties: {port: {type: integer, default: 80}}}
secrets: {key: {}}
outputs:
  url: {type: string, value: '"http://" + node.address + ":" + string(params.port)', description: Where it is.}
  key: {type: string, value: secrets.key, secret: true}
  count: {type: integer, value: outputs.make.count}
  token: {type: string, value: '"t:" + outputs.make.token', secret: true}
  nodes: {type: list, value: 'nodes.map(n, n.id)'}
  isOne: {type: boolean, value: size(nodes) == 1}
actions:
  packages: {commands: [{name: n, note: {text: p}}]}
  make: {on: first, commands: [${run('{count: {from: stdout}, token: {from: stdout, secret: true}}')}]}
  check: {commands: [{name: n, probe: {tcp: {host: h, port: 1}}}]}
  ${remove}
`)
const catalog = buildCatalog([site])
const plan = makePlan((draft) => {
  draft['nodes'] = [{ name: 'web', select: { role: 'web' } }]
  draft['components'] = [{ name: 'web', blueprint: 'site', on: 'web' }, { name: 'api', blueprint: 'site', on: 'web', with: { port: 81 } }]
})
const build = (kind: 'apply' | 'check' | 'destroy', from: Catalog = catalog): ActionGraph => {
  const built = buildGraph({ plan, catalog: from, nodes: makeNodes(), kind })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
const outputOf = (graph: ActionGraph, name: string): GraphOutput => graph.outputs!.find((output) => output.component === 'web' && output.name === name)!

t.test('an apply has the outputs of its components, evaluated on the first node, with references in place of what is not known', async (t) => {
  const graph = build('apply')
  t.strictSame(graph.outputs!.map(({ component, name }) => `${component}/${name}`), ['api', 'web'].flatMap((name) => ['count', 'isOne', 'key', 'nodes', 'token', 'url'].map((output) => `${name}/${output}`)))
  const own = ['web/check@n2', 'web/make@n2', 'web/packages@n2']
  t.strictSame(outputOf(graph, 'url'), { component: 'web', name: 'url', type: 'string', description: 'Where it is.', isSecret: false, value: 'http://10.0.0.2:80', needs: own })
  t.match(outputOf(graph, 'key'), { isSecret: true, value: '⟦secret:web.key⟧', needs: own })
  t.match(outputOf(graph, 'count'), { isSecret: false, value: '⟦output:web/make@n2#count⟧', needs: ['web/make@n2'] })
  t.match(outputOf(graph, 'token'), { isSecret: true, value: 't:⟦output:web/make@n2#token⟧', needs: ['web/make@n2'] })
  t.match([outputOf(graph, 'nodes').value, outputOf(graph, 'isOne').value], [['n2', 'n3'], false])
  t.strictSame([build('check').outputs, build('destroy').outputs], [undefined, undefined])
})

t.test('outputs are part of the digest', async (t) => {
  const parsed = parseBlueprint(JSON.stringify({ ...site.document, outputs: { ...site.document.outputs, url: { type: 'string', value: '"elsewhere"' } } }), {})
  if (!parsed.ok) return t.fail()
  t.not(build('apply', buildCatalog([parsed.value])).digest, build('apply').digest)
})

const body = (outputs: string) => `secrets: {key: {}}\noutputs: {${outputs}}\nactions: {a: {commands: [${run('{x: {from: stdout}, s: {from: stdout, secret: true}}')}]}, remove: {commands: [${run('{x: {from: stdout}}')}]}}`
const wrong: readonly [string, string, object][] = [
  ['an expression that does not parse', "x: {type: string, value: 'a &&'}", { code: 'BLUEPRINT_EXPRESSION', path: 'outputs.x.value' }],
  ['an unknown type', 'x: {type: float, value: node.id}', { code: 'BLUEPRINT_SHAPE', path: 'outputs.x.type' }],
  ['a name that is no identifier', 'x-y: {type: string, value: node.id}', { code: 'BLUEPRINT_SHAPE' }],
  ['a value of another type', 'x: {type: integer, value: node.id}', { code: 'BLUEPRINT_EXPRESSION', path: 'outputs.x', message: /must be of type integer, found "node-1"/ }],
  ['a value that fails', 'x: {type: string, value: params.gone}', { code: 'BLUEPRINT_EXPRESSION', path: 'outputs.x.value' }],
  ['a secret that is not called one', 'x: {type: string, value: secrets.key}', { code: 'BLUEPRINT_REFERENCE', path: 'outputs.x', message: /secret: true/ }],
  ['a secret output of an action that is not called one', 'x: {type: string, value: outputs.a.s}', { code: 'BLUEPRINT_REFERENCE', path: 'outputs.x', message: /secret: true/ }],
  ['an output of an action that no apply runs', 'x: {type: string, value: outputs.remove.x}', { code: 'BLUEPRINT_REFERENCE', path: 'outputs.x', message: 'uses an output of remove, which no apply runs' }],
]
for (const [what, outputs, problem] of wrong) {
  t.test(`the linter finds ${what}`, async (t) => {
    const parsed = parseBlueprint(`apiVersion: lichen.dev/v1\nkind: Blueprint\nname: x\nversion: 1.0.0\nsummary: s\n${body(outputs)}`, {})
    t.match(parsed.ok ? checkBlueprint(parsed.value) : parsed.problems, [problem])
  })
}

t.test('a plan with parameters for which an output has no value is refused', async (t) => {
  const odd = makeBlueprint('site', `parameters: {type: object, properties: {port: {type: integer}}}\noutputs: {url: {type: string, value: string(params.port)}}\nactions: {a: {commands: [{name: n, note: {text: t}}]}, ${remove}}`)
  const built = buildGraph({ plan, catalog: buildCatalog([odd]), nodes: makeNodes(), kind: 'apply' })
  t.match(built, { ok: false, problems: [{ code: 'PLAN_EXPRESSION', path: 'components[0]', message: /^web: outputs\.url\.value: / }] })
})

const id = taskId('t-2')
const viewAfter = (graph: ActionGraph, ...events: readonly TaskEvent[]) => {
  const all: TaskEvent[] = [{ type: 'taskAccepted', kind: 'apply', project: 'default', deployment: 'shop', planDigest: 'p', by: 'test' }, { type: 'taskPlanned', graphDigest: graph.digest, actionCount: graph.actions.length }, ...events]
  return buildTaskView(all.map((event, index): RecordedEvent => ({ seq: index + 1, at: index, event })), graph)
}
const ended = (action: ActionId, outputs: Record<string, string>): TaskEvent[] => [
  { type: 'actionSent', action, attempt: 1, node: nodeId(action.replace(/.*@/, '')), epoch: 1, timeoutMs: 1, deadline: 1 },
  { type: 'actionEnded', action, attempt: 1, result: makeResult('succeeded', { outputs }) },
]

t.test('an output is there when what it needs has succeeded, and its parts are where they are kept', async (t) => {
  const graph = build('apply')
  const make = actionId('web/make@n2')
  t.strictSame(locateOutput(id, viewAfter(graph), outputOf(graph, 'count')), { isThere: false, needed: make, reason: 'web/make@n2 has not ended in t-2' })
  const done = viewAfter(graph, ...ended(actionId('web/packages@n2'), {}), ...ended(actionId('web/packages@n3'), {}), ...ended(make, { count: ' 12' }))
  const reference = { kind: 'output', action: make, name: 'count' } as const
  t.strictSame(locateOutput(id, done, outputOf(graph, 'count')), { isThere: true, places: [{ reference, plain: ' 12', scope: 'task/t-2', name: 'web/make@n2#count' }] })
  t.strictSame(locateOutput(id, done, outputOf(graph, 'token')), { isThere: true, places: [{ reference: { ...reference, name: 'token' }, plain: null, scope: 'task/t-2', name: 'web/make@n2#token' }] })
  t.match(locateOutput(id, done, outputOf(graph, 'url')), { isThere: false, needed: 'web/check@n2' }, 'what names no action waits for all of the component on its first node')
})

t.test('of an action that was left out, they are where its last run put them', async (t) => {
  const first = build('apply')
  const applied = new Map(first.actions.map((action) => [action.id, { key: action.key, task: taskId('t-1'), outputs: action.name === 'make' ? { count: '7' } : {} }]))
  const again = buildGraph({ plan: { ...plan, rollout: { trustUnchanged: true } }, catalog, nodes: makeNodes(), kind: 'apply', applied })
  if (!again.ok) return t.fail()
  const make = actionId('web/make@n2')
  const view = viewAfter(again.value, ...['web/packages@n2', 'web/packages@n3', make].map((action): TaskEvent => ({ type: 'actionUnchanged', action: actionId(action), since: taskId('t-1'), reason: '' })))
  t.match(locateOutput(id, view, outputOf(again.value, 'count')), { places: [{ plain: '7' }] })
  t.match(locateOutput(id, view, outputOf(again.value, 'token')), { places: [{ plain: null, scope: 'task/t-1', name: 'web/make@n2#token' }] })
})

t.test('references are filled in wherever they stand, and an integer becomes one', async (t) => {
  const value = '⟦secret:a⟧'
  t.equal(fillOutput({ type: 'string', value: `x ${value}` }, () => '$& ⟦secret:b⟧\n'), 'x $& ⟦secret:b⟧\n')
  t.strictSame(fillOutput({ type: 'list', value: [1, value, { deep: [value] }, null] }, () => 'v'), [1, 'v', { deep: ['v'] }, null])
  t.strictSame(['12', ' -3 ', '1.5', '', 'x'].map((text) => fillOutput({ type: 'integer', value }, () => text)), [12, -3, undefined, undefined, undefined])
})
