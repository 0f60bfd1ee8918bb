import { readFileSync, writeFileSync } from 'node:fs'
import { actionId, buildGraph, digestOfGraph, findReferences, nodeId, type ActionGraph, type GraphInput, type NodeRecord, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makeNodes, makePlan } from './plan-fixture.js'

const build = (change: Partial<GraphInput> = {}): ActionGraph => {
  const built = buildGraph({ plan: makePlan(), catalog: makeCatalog(), nodes: makeNodes(), kind: 'apply', ...change })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
const problemsOf = (change: Partial<GraphInput>): readonly Problem[] => {
  const built = buildGraph({ plan: makePlan(), catalog: makeCatalog(), nodes: makeNodes(), kind: 'apply', ...change })
  return built.ok ? [] : built.problems
}
const edges = (graph: ActionGraph): Record<string, readonly string[]> => Object.fromEntries(graph.actions.map((action) => [action.id, action.after]))

t.test('apply: packages install side by side, the provider prepares each consumer, consumers wait for the checked provider', async (t) => {
  t.strictSame(edges(build()), {
    'base/packages@n1': [],
    'front/packages@n2': [],
    'front/packages@n3': [],
    'base/configure@n1': ['base/packages@n1'],
    'base/check@n1': ['base/configure@n1', 'base/packages@n1'],
    'base/grant:front.store@n1': ['base/configure@n1'],
    'front/configure@n2': ['base/check@n1', 'base/grant:front.store@n1', 'front/packages@n2'],
    'front/configure@n3': ['base/check@n1', 'base/grant:front.store@n1', 'front/packages@n3'],
  })
})

t.test('apply: what needs only its preparation goes beside the checks of the provider, what comes after it waits for them', async (t) => {
  const store = (body: string) => makeBlueprint('store', `provides: {sql: {interface: sql, outputs: {}${body.includes('grant') ? ', action: grant' : ''}}}\nactions:\n  configure: {commands: [{name: n, note: {text: n}}]}\n${body}  check: {commands: [{name: n, probe: {tcp: {host: a, port: 1}}}]}\n  remove: {commands: [{name: n, note: {text: n}}]}`)
  const user = makeBlueprint('user', `
requires: {store: {interface: sql}}
actions:
  join: {prepared: [store], commands: [{name: n, note: {text: n}}]}
  upgrade: {commands: [{name: n, note: {text: n}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`)
  const plan = makePlan((draft) => {
    draft['components'] = [{ name: 's', blueprint: 'store', on: 'data' }, { name: 'u', blueprint: 'user', on: 'web', uses: { store: 's' } }]
  })
  const edgesOf = (body: string, kind: 'apply' | 'destroy' = 'apply') => edges(build({ catalog: makeCatalog([store(body), user]), plan, kind }))
  t.match(edgesOf('  grant: {on: relation, after: [configure], commands: [{name: n, note: {text: n}}]}\n'), {
    'u/join@n2': ['s/grant:u.store@n1'],
    'u/upgrade@n2': ['s/check@n1', 's/grant:u.store@n1', 'u/join@n2'],
    's/check@n1': ['s/configure@n1'],
  })
  t.strictSame(edgesOf('')['u/join@n2'], ['s/check@n1'], 'where nothing prepares the provider, all of it is waited for')
})

t.test('what prepares every node of a provider is made on each, and taken away there', async (t) => {
  const balancer = makeBlueprint('balancer', `
provides: {front: {interface: front, outputs: {}, action: register, removeAction: unregister}}
actions:
  install: {commands: [{name: n, note: {text: n}}]}
  register: {on: relation, everyNode: true, after: [install], commands: [{name: n, note: {text: '{{ relation.consumer }} on {{ node.id }}'}}]}
  unregister: {phase: remove, on: relation, everyNode: true, after: [], commands: [{name: n, note: {text: n}}]}
  remove: {after: [unregister], commands: [{name: n, note: {text: n}}]}`)
  const user = makeBlueprint('user', 'requires: {front: {interface: front}}\nactions: {serve: {commands: [{name: n, note: {text: n}}]}, remove: {commands: [{name: n, note: {text: n}}]}}')
  const input = {
    catalog: makeCatalog([balancer, user]),
    plan: makePlan((draft) => {
      draft['components'] = [{ name: 'b', blueprint: 'balancer', on: 'web' }, { name: 'u', blueprint: 'user', on: 'data', uses: { front: 'b' } }]
    }),
  }
  const graph = build(input)
  t.match(edges(graph), {
    'b/register:u.front@n2': ['b/install@n2', 'b/install@n3'],
    'b/register:u.front@n3': ['b/install@n2', 'b/install@n3'],
    'u/serve@n1': ['b/install@n2', 'b/install@n3', 'b/register:u.front@n2', 'b/register:u.front@n3'],
  })
  t.match(graph.actions.find(({ id }) => id === 'b/register:u.front@n3'), { commands: [{ spec: { text: 'u on n3' } }] })
  t.match(edges(build({ ...input, kind: 'destroy' })), { 'b/unregister:u.front@n2': ['u/remove@n1'], 'b/unregister:u.front@n3': ['u/remove@n1'], 'b/remove@n3': ['b/unregister:u.front@n2', 'b/unregister:u.front@n3'] })
})

t.test('check: every action in check mode, none waits for another', async (t) => {
  const graph = build({ kind: 'check' })
  t.equal(graph.actions.length, 8)
  t.ok(graph.actions.every((action) => action.mode === 'check' && action.after.length === 0 && action.retry.attempts === 1))
})

t.test('destroy: consumers first, then what was prepared for them, then the provider', async (t) => {
  t.strictSame(edges(build({ kind: 'destroy' })), {
    'front/remove@n2': [],
    'front/remove@n3': [],
    'base/revoke:front.store@n1': ['front/remove@n2', 'front/remove@n3'],
    'base/remove@n1': ['base/revoke:front.store@n1', 'front/remove@n2', 'front/remove@n3'],
  })
})

t.test('an action stands after those it waits for', async (t) => {
  for (const kind of ['apply', 'destroy'] as const) {
    const seen = new Set<string>()
    for (const action of build({ kind }).actions) {
      t.ok(action.after.every((id) => seen.has(id)), action.id)
      seen.add(action.id)
    }
  }
})

t.test('commands are resolved in full: templates rendered, numbers typed, conditions decided, lists spread out', async (t) => {
  const graph = build()
  const commandsOf = (id: string) => graph.actions.find((action) => action.id === id)!.commands
  t.match(commandsOf('base/configure@n1'), [{ name: 'write none', kind: 'file', spec: { path: '/etc/db', content: 'port=3306\n' } }])
  t.match(commandsOf('base/check@n1'), [{ kind: 'probe', spec: { tcp: { host: '10.0.0.1', port: 3306 } } }])
  t.strictSame(commandsOf('front/configure@n3').slice(1).map((command) => [command.name, command.spec]), [['each n2', { text: '0 n2' }], ['each n3', { text: '1 n3' }]])
})

t.test('secrets appear as references only, and each is asked for once', async (t) => {
  const graph = build()
  t.strictSame(graph.secrets, [{ name: 'base.front.store.password', length: 20 }, { name: 'front.key', length: 32 }])
  const written = graph.actions.find((action) => action.id === 'front/configure@n2')!.commands[0]!.spec as { content: string }
  t.equal(written.content, 'db=10.0.0.1:3306 ⟦secret:base.front.store.password⟧ ⟦secret:front.key⟧')
  t.strictSame(findReferences(written.content), [{ kind: 'secret', name: 'base.front.store.password' }, { kind: 'secret', name: 'front.key' }])
})

t.test('an output of a first node stands as a reference in the actions that use it', async (t) => {
  const catalog = makeCatalog([makeBlueprint('cluster', `
actions:
  init: {on: first, commands: [{name: init, run: {argv: [init], creates: /c, outputs: {token: {from: stdout, secret: true}}}}]}
  join: {after: [init], commands: [{name: join, note: {text: '{{ outputs.init.token }}'}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`)])
  const plan = makePlan((draft) => draft['components'].push({ name: 'c', blueprint: 'cluster', on: 'web' }))
  const graph = build({ catalog, plan })
  t.match(graph.actions.filter((action) => action.component === 'c').map((action) => [action.id, action.after, action.commands[0]?.spec]), [
    ['c/init@n2', [], {}],
    ['c/join@n2', ['c/init@n2'], { text: '⟦output:c/init@n2#token⟧' }],
    ['c/join@n3', ['c/init@n2'], { text: '⟦output:c/init@n2#token⟧' }],
  ])
})

t.test('what the action for one consumer prints is an output for that consumer', async (t) => {
  const catalog = makeCatalog([
    makeBlueprint('cluster', `
provides:
  entry: {interface: entry, outputs: {token: {type: string, value: outputs.admit.token}, name: {type: string, value: outputs.init.name}}, action: admit}
actions:
  init: {on: first, commands: [{name: init, run: {argv: [init], creates: /c, outputs: {name: {from: stdout}}}}]}
  admit: {on: relation, after: [init], commands: [{name: 'let {{ relation.consumer }} in', run: {argv: [admit], creates: /a, outputs: {token: {from: stdout, secret: true}}}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`),
    makeBlueprint('worker', `
requires: {cluster: {interface: entry}}
actions:
  join: {commands: [{name: join, note: {text: '{{ uses.cluster.name }} {{ uses.cluster.token }}'}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`),
  ])
  const plan = makePlan((draft) => draft['components'].push({ name: 'c', blueprint: 'cluster', on: 'web' }, ...['w', 'x'].map((name) => ({ name, blueprint: 'worker', on: 'web', uses: { cluster: 'c' } }))))
  const graph = build({ catalog, plan })
  for (const worker of ['w', 'x']) {
    const join = graph.actions.find(({ id }) => id === `${worker}/join@n3`)
    t.match(join?.commands[0]?.spec, { text: `⟦output:c/init@n2#name⟧ ⟦output:c/admit:${worker}.cluster@n2#token⟧` })
    t.ok(join?.after.includes(actionId(`c/admit:${worker}.cluster@n2`)), 'and comes after it')
  }
})

t.test('`after` makes every action of a component wait, its packages too', async (t) => {
  const plan = makePlan((draft) => draft['components'].push({ name: 'late', blueprint: 'db', on: 'web', after: ['front'] }))
  t.strictSame(edges(build({ plan }))['late/packages@n2'], ['front/configure@n2', 'front/configure@n3'])
})

t.test('the same input gives the same bytes, in whatever order it comes', async (t) => {
  const graph = build()
  t.same(build(), graph)
  const shuffled = build({ nodes: makeNodes().reverse(), plan: makePlan((plan) => plan['components'].reverse()) })
  t.equal(shuffled.digest, graph.digest)
  t.same(shuffled, graph)
  t.equal(digestOfGraph(graph), graph.digest)
})

t.test('what a node says of itself that changes by itself does not move the digest; its address does', async (t) => {
  const change = (facts: Partial<NodeRecord['facts']>): NodeRecord[] => makeNodes().map((node) => ({ ...node, lastSeenAt: 99, facts: { ...node.facts, ...facts } }))
  t.equal(build({ nodes: change({ diskFreeBytes: 7, bootId: 'other' }) }).digest, build().digest)
  t.not(build({ nodes: change({ address: '10.9.9.9' }) }).digest, build().digest)
})

t.test('nodes chosen once stay chosen, also while they are lost; new ones are ready and uncordoned', async (t) => {
  const nodes = [makeNode('n0', { role: 'data' }), makeNode('n1', { role: 'data' }, { state: 'lost' }), makeNode('n2', { role: 'web' }), makeNode('n3', { role: 'web' }, { cordoned: true })]
  t.same(build({ nodes }).placement, { data: ['n0'], web: ['n2'] })
  t.same(build({ nodes, placement: { data: [nodeId('n1')], web: [nodeId('n2'), nodeId('n3')] } }).placement, { data: ['n1'], web: ['n2', 'n3'] })
})

t.test('adding a node leaves the actions of the others as they were', async (t) => {
  const before = new Map(build().actions.filter((action) => action.name === 'packages').map((action) => [action.id, JSON.stringify(action)]))
  const after = build({ nodes: [...makeNodes(), makeNode('n4', { role: 'web' })] })
  for (const [id, text] of before) t.equal(JSON.stringify(after.actions.find((action) => action.id === id)), text)
  t.ok(after.actions.some((action) => action.id === 'front/packages@n4'))
})

t.test('a template that fails names component, action, command, node and file', async (t) => {
  const plan = makePlan((draft) => (draft['components'][0].with.fail = true))
  t.match(problemsOf({ plan }), [
    { code: 'PLAN_TEMPLATE', path: 'components[0]', message: /^front: action "configure", command 2, on n2: actions\.configure\.commands\[1\]\.note\.text: undefined variable: params\.missing/ },
    { code: 'PLAN_TEMPLATE', message: /on n3/ },
  ])
})

t.test('an expression that fails, and one that gives the wrong kind of value, are problems', async (t) => {
  const make = (command: string) => ({
    catalog: makeCatalog([makeBlueprint('odd', `actions: {a: {commands: [${command}]}, remove: {commands: [{name: n, note: {text: t}}]}}`)]),
    plan: makePlan((draft) => draft['components'].push({ name: 'odd', blueprint: 'odd', on: 'data' })),
  })
  t.match(problemsOf(make('{name: n, when: params.no.where, note: {text: t}}')), [{ code: 'PLAN_EXPRESSION', path: 'components[2]' }])
  t.match(problemsOf(make('{name: n, when: 1 + 1, note: {text: t}}')), [{ code: 'PLAN_EXPRESSION', message: /must give true or false, found 2/ }])
  t.match(problemsOf(make('{name: n, forEach: "1", note: {text: t}}')), [{ code: 'PLAN_EXPRESSION', message: /must give a list, found 1/ }])
  t.match(problemsOf(make('{name: n, probe: {tcp: {host: a, port: "{{ node.id }}"}}}')), [{ code: 'BLUEPRINT_COMMAND', message: /probe\.tcp\.port must be integer, found "n1"/ }])
})

t.test('what a consumer tells its provider is checked like a parameter', async (t) => {
  t.match(problemsOf({ plan: makePlan((plan) => (plan['components'][0].with.database = 'Not Lower')) }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[0].uses.store', message: /what "front" tells "base" does not fit: database/ }])
})

t.test('a typed value comes from an expression in place of a template', async (t) => {
  const catalog = makeCatalog([makeBlueprint('typed', 'parameters: {type: object, properties: {names: {type: array, items: {type: string}, default: [aa, bb]}}}\nactions: {a: {commands: [{name: n, package: {names: {cel: "params.names + [\'cc\']"}, held: {cel: size(params.names) > 1}}}]}, remove: {commands: [{name: n, note: {text: t}}]}}')])
  const graph = build({ catalog, plan: makePlan((draft) => draft['components'].push({ name: 'x', blueprint: 'typed', on: 'data' })) })
  t.same(graph.actions.find((action) => action.component === 'x')?.commands[0]?.spec, { names: ['aa', 'bb', 'cc'], held: true })
})

t.test('a check on the first node waits for all nodes, one on each node for its own', async (t) => {
  const catalog = makeCatalog([makeBlueprint('cluster', `
actions:
  join: {commands: [{name: join, note: {text: x}}]}
  healthy: {phase: check, on: first, commands: [{name: n, note: {text: n}}]}
  alive: {phase: check, after: [], commands: [{name: n, note: {text: n}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`)])
  const plan = makePlan((draft) => draft['components'].push({ name: 'c', blueprint: 'cluster', on: 'web' }, { name: 'user', blueprint: 'db', on: 'data', after: ['c'] }))
  t.match(edges(build({ catalog, plan })), {
    'c/healthy@n2': ['c/join@n2', 'c/join@n3'],
    'c/alive@n3': ['c/join@n3'],
    'user/packages@n1': ['c/alive@n2', 'c/alive@n3', 'c/healthy@n2'],
  })
})

t.test('a check waits for the providers that nothing before it waited for, unless it says that it needs none', async (t) => {
  const balancer = makeBlueprint('balancer', `
provides: {front: {interface: front, outputs: {}, action: register}}
actions:
  install: {commands: [{name: n, note: {text: n}}]}
  register: {on: relation, everyNode: true, after: [install], commands: [{name: n, note: {text: n}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`)
  const user = (own: string, check: string) => makeBlueprint('user', `
requires: {front: {interface: front}}
provides: {use: {interface: use, outputs: {}, action: grant}}
actions:
  serve: {${own}commands: [{name: n, note: {text: n}}]}
  grant: {on: relation, after: [serve], commands: [{name: n, note: {text: n}}]}
  check: {${check}commands: [{name: n, note: {text: n}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`)
  const plan = makePlan((draft) => {
    draft['components'] = [{ name: 'b', blueprint: 'balancer', on: 'web' }, { name: 'u', blueprint: 'user', on: 'data', uses: { front: 'b' } }]
  })
  const waits = (own: string, check: string) => edges(build({ catalog: makeCatalog([balancer, user(own, check)]), plan }))['u/check@n1']
  const registered = ['b/register:u.front@n2', 'b/register:u.front@n3']
  t.strictSame(waits('', ''), ['u/serve@n1'], 'through what was applied')
  t.strictSame(waits('needs: [], ', ''), ['b/install@n2', 'b/install@n3', ...registered, 'u/serve@n1'])
  t.strictSame(waits('needs: [], ', 'needs: [], '), ['u/serve@n1'])
})

t.test('a destroy goes to the nodes that the deployment has, whatever became of their labels and of the rules', async (t) => {
  const nodes = [makeNode('n1', { role: 'other' }, { state: 'lost' }), makeNode('n2', { role: 'web' }), makeNode('n4', { role: 'data' })]
  const placement = { data: [nodeId('n1')], web: [nodeId('n2'), nodeId('n3')] }
  t.same(build({ kind: 'destroy', nodes, placement }).placement, { data: ['n1'], web: ['n2'] })
  t.match(problemsOf({ kind: 'destroy', nodes: nodes.slice(1), placement }), [{ code: 'PLAN_TOO_FEW_NODES', path: 'nodes[0]', message: /none of the 1 nodes that group "data" was applied to exists any more/ }])
  const ruled = makePlan((plan) => (plan['components'][1].with = { port: 13 }))
  t.match(problemsOf({ plan: ruled }), [{ code: 'PLAN_RULE_BROKEN' }])
  t.same(problemsOf({ plan: ruled, kind: 'destroy' }), [])
})

t.test('what a node says of itself cannot become a reference to a secret', async (t) => {
  const nodes = makeNodes().map((node) => (node.id === 'n1' ? { ...node, facts: { ...node.facts, address: '⟦secret:front.key⟧' } } : node))
  const written = build({ nodes }).actions.find((action) => action.id === 'front/configure@n2')!.commands[0]!.spec as { content: string }
  t.match(written.content, /^db=secret:front\.key:3306 /)
  t.notOk(JSON.stringify(build({ nodes }).actions.filter((action) => action.component === 'base')).includes('⟦secret:front.key⟧'))
})

t.test('a graph with far too many dependencies is refused instead of built', async (t) => {
  const nodes = Array.from({ length: 1100 }, (_, index) => makeNode(`n${index}`, index === 0 ? { role: 'data' } : { role: 'web' }))
  const many = Array.from({ length: 1000 }, (_, index) => ({ name: `c${index}`, blueprint: 'db', on: 'data' }))
  const plan = makePlan((draft) => (draft['components'] = [...many, { name: 'late', blueprint: 'db', on: 'web', after: many.map(({ name }) => name) }]))
  t.match(problemsOf({ plan, nodes }), [{ code: 'PLAN_TOO_LARGE', path: 'components[1000]', message: /more than 1000000 dependencies at "late"/ }])
})

t.test('the graph of a small plan is, byte for byte, what it was', async (t) => {
  const golden = new URL('golden/shop-apply.json', import.meta.url)
  const text = `${JSON.stringify(build(), null, 2)}\n`
  // LICHEN_WRITE_GOLDEN=1 writes it anew; a change here moves the digest of every preview that users hold.
  if (process.env['LICHEN_WRITE_GOLDEN']) writeFileSync(golden, text)
  t.equal(text, readFileSync(golden, 'utf8'))
})

t.test('the graph says how many of an action may be begun at once; a check task, which only looks, has no such limit', async (t) => {
  const catalog = makeCatalog([makeBlueprint('rolling', `
actions:
  upgrade: {maxParallel: 2, commands: [{name: n, note: {text: n}}]}
  remove: {maxParallel: 1, commands: [{name: n, note: {text: n}}]}`)])
  const plan = makePlan((draft) => draft['components'].push({ name: 'r', blueprint: 'rolling', on: 'web' }))
  const limitsOf = (kind: 'apply' | 'check' | 'destroy') => build({ catalog, plan, kind }).actions.filter(({ component }) => component === 'r').map(({ maxParallel }) => maxParallel)
  t.strictSame(limitsOf('apply'), [2, 2])
  t.strictSame(limitsOf('check'), [undefined, undefined])
  t.strictSame(limitsOf('destroy'), [1, 1])
  t.notOk(Object.hasOwn(build().actions[0]!, 'maxParallel'), 'and nothing is added to what has none')
})
