import { buildCatalog, buildGraph, checkBlueprint, parseBlueprint, parseBlueprintReference, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeNodes, makePlan } from './plan-fixture.js'

const head = 'apiVersion: lichen.dev/v1\nkind: Blueprint\nname: x\nversion: 1.0.0\nsummary: s\n'
const note = '{name: n, note: {text: t}}'
const remove = `remove: {commands: [${note}]}`
const problemsOf = (body: string, templates: Record<string, string> = {}): readonly Problem[] => {
  const parsed = parseBlueprint(head + body, templates)
  return parsed.ok ? checkBlueprint(parsed.value) : parsed.problems
}

t.test('a sound blueprint has no problem', async (t) => {
  t.strictSame(problemsOf(`actions: {a: {commands: [${note}]}, ${remove}}`), [])
})

const cases: readonly [string, string, Partial<Record<keyof Problem, unknown>>][] = [
  ['malformed YAML', 'actions: [', { code: 'BLUEPRINT_SYNTAX' }],
  ['an unknown field', `actionz: {}\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_SHAPE', path: 'actionz', message: /did you mean "actions"/ }],
  ['parameters that are no JSON Schema', `parameters: {type: thing}\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_SCHEMA', path: 'parameters' }],
  ['an expression that does not parse', `rules: [{expression: 'a &&', message: m}]\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_EXPRESSION', path: 'rules[0].expression' }],
  ['a condition that does not parse', `actions: {a: {commands: [{name: n, when: ')', note: {text: t}}]}, ${remove}}`, { code: 'BLUEPRINT_EXPRESSION', path: 'actions.a.commands[0].when' }],
  ['a template that does not parse', `actions: {a: {commands: [{name: n, note: {text: '{% if %}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0].note.text' }],
  ['an unknown filter', `actions: {a: {commands: [{name: n, note: {text: '{{ 1 | nope }}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', message: /nope/ }],
  ['a template file that is not there', `actions: {a: {commands: [{name: n, file: {path: /x, template: gone.liquid}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0].file.template' }],
  ['a command of no kind', `actions: {a: {commands: [{name: n}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /names no kind/ }],
  ['a command of two kinds', `actions: {a: {commands: [{name: n, note: {text: t}, user: {user: u}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /names 2 kinds/ }],
  ['an unknown field of a command', `actions: {a: {commands: [{name: n, service: {unit: u, stat: running}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', path: 'actions.a.commands[0].service.stat' }],
  ['a preflight that waits for a provider', `requires: {it: {interface: x}}\nactions: {preflight: {needs: [it], commands: [${note}]}, a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.preflight.needs', message: /comes before everything else/ }],
  ['a preflight that waits for what prepares a provider', `requires: {it: {interface: x}}\nactions: {preflight: {prepared: [it], commands: [${note}]}, a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.preflight.needs' }],
  ['a preflight for consumers', `actions: {preflight: {on: relation, commands: [${note}]}, a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.preflight.on' }],
  ['a run that cannot be checked and does not say so', `actions: {a: {commands: [{name: n, run: {argv: [x]}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /says neither how to check its effect/ }],
  ['a run with neither argv nor shell', `actions: {a: {commands: [{name: n, run: {uncheckable: true}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of argv and shell/ }],
  ['a file with nothing to be', `actions: {a: {commands: [{name: n, file: {path: /x}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of content, template and state: absent/ }],
  ['a probe of two things', `actions: {a: {commands: [{name: n, probe: {tcp: {host: h, port: 1}, command: [x]}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of tcp, http and command/ }],
  ['no remove action', `actions: {a: {commands: [${note}]}}`, { code: 'BLUEPRINT_REFERENCE', message: 'no action of phase "remove"' }],
  ['after an action that is not there', `actions: {a: {after: [b], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.after' }],
  ['after an action of another phase', `actions: {a: {after: [remove], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', message: /has phase remove/ }],
  ['actions in a circle', `actions: {a: {after: [b], commands: [${note}]}, b: {after: [a], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', message: /a → b → a/ }],
  ['a need that is no relation', `actions: {a: {needs: [db], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.needs' }],
  ['what is to be prepared of no relation', `actions: {a: {prepared: [db], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.prepared' }],
  ['a gate that is no check', `actions: {a: {gate: true, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.gate', message: /only a check/ }],
  ['a leave action on the first node alone', `actions: {a: {commands: [${note}]}, leave: {on: first, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.leave.on' }],
  ['one node after the other where nothing leaves', `actions: {a: {serial: true, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.serial', message: /only an action of the phase leave/ }],
  ['a removal for each node that is not per relation', `actions: {a: {commands: [${note}]}, remove: {perNode: true, commands: [${note}]}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.remove.perNode' }],
  ['an action on every node that is not per relation', `actions: {a: {everyNode: true, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.everyNode' }],
  ['a limit of the action below that of one attempt', `actions: {a: {timeoutS: 60, limitS: 59, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.limitS', message: /60 s.*59 s/ }],
  ['a relation action that nothing names', `actions: {a: {commands: [${note}]}, g: {on: relation, commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.g.on' }],
  ['a provision whose action is not per relation', `provides: {p: {interface: i, outputs: {}, action: a}}\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'provides.p.action' }],
]
for (const [what, body, problem] of cases) t.test(`the linter finds ${what}`, async (t) => t.match(problemsOf(body), [problem]))

t.test('the linter finds a version that is none, and an interface that nothing provides', async (t) => {
  const blueprint = makeBlueprint('y', `requires: {db: {interface: nosql}}\nactions: {a: {commands: [${note}]}, ${remove}}`)
  t.match(checkBlueprint(blueprint, buildCatalog([blueprint])), [{ code: 'BLUEPRINT_REFERENCE', path: 'requires.db.interface' }])
  const odd = { ...blueprint, document: { ...blueprint.document, version: 'one' } }
  t.match(checkBlueprint(odd), [{ code: 'BLUEPRINT_SHAPE', path: 'version' }])
})

t.test('a bomb of aliases is refused', async (t) => {
  t.match(problemsOf(`x: &a [1,1,1,1,1,1,1,1,1,1]\ny: &b [${Array(20).fill('*a').join()}]\nz: [${Array(20).fill('*b').join()}]`), [{ code: 'BLUEPRINT_SYNTAX', message: /alias/i }])
})

t.test('a template has no way to other files', async (t) => {
  t.match(problemsOf(`actions: {a: {commands: [{name: n, note: {text: "{% render '/etc/passwd' %}"}}]}, ${remove}}`), [{ code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0]' }])
})

t.test('a template includes others of its blueprint, with variables of its own', (t) => {
  const body = `actions: {a: {commands: [{name: n, file: {path: /x, template: a.liquid}}]}, ${remove}}`
  const templates = (text: string) => ({ 'a.liquid': text, 'part.liquid': '{{ node.id }} {{ who }}{% include "end" %}', end: '.', 'circle.liquid': "{% include 'circle.liquid' %}" })
  const render = (text: string) => {
    const plan = makePlan((draft) => (draft['components'] = [{ name: 'c', blueprint: 'each', on: 'data' }]))
    const graph = buildGraph({ plan, catalog: buildCatalog([makeBlueprint('each', body, templates(text))]), nodes: makeNodes(), kind: 'apply' })
    return graph.ok ? (graph.value.actions[0]!.commands[0]!.spec as { content: string }).content : graph.problems
  }
  t.match(render("{% include 'part.liquid', who: 'one' %} {% include 'part.liquid', who: component.name %}"), /^(\S+) one\. \1 c\.$/)
  t.match(render("{% include 'part.liquid' %}"), [{ code: 'PLAN_TEMPLATE', message: /undefined variable: who/ }])
  t.match(problemsOf(body, templates("{% include 'gone' %}")), [{ code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0].file.template', message: 'a.liquid includes "gone", which is not there' }])
  t.match(problemsOf(body, templates("{%- include 'circle.liquid' %}")), [{ code: 'BLUEPRINT_TEMPLATE', message: 'circle.liquid includes itself by "circle.liquid"' }])
  t.match(problemsOf(body, templates("{% include '/etc/passwd' %}")), [{ code: 'BLUEPRINT_TEMPLATE', message: /includes "\/etc\/passwd", which is not there/ }])
  t.end()
})

const rehearsed: readonly [string, string, Partial<Record<keyof Problem, unknown>>][] = [
  ['a variable that does not exist', `actions: {a: {commands: [${note}, {name: n, note: {text: '{{ params.nope }}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[1]', message: /undefined variable: params\.nope/ }],
  ['a variable that does not exist, in a branch that is off by default', `parameters: {type: object, properties: {debug: {type: boolean, default: false}}}\nactions: {a: {commands: [{name: n, note: {text: '{% if params.debug %}{{ params.nope }}{% endif %}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE' }],
  ['a field of an expression that does not exist', `actions: {a: {commands: [{name: n, when: node.facts.nope == 1, note: {text: t}}]}, ${remove}}`, { code: 'BLUEPRINT_EXPRESSION', path: 'actions.a.commands[0]', message: /nope/ }],
  ['a command that is malformed once it is rendered', `actions: {a: {commands: [{name: n, file: {path: 'etc/{{ node.id }}', content: x}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', path: 'actions.a.commands[0]', message: /file\.path must match/ }],
  ['an output of the wrong type', `provides: {p: {interface: i, outputs: {port: {type: integer, value: node.id}}}}\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_EXPRESSION', path: 'provides', message: /output "port" .* must be of type integer, found "node-1"/ }],
  ['an output that fails', `provides: {p: {interface: i, outputs: {port: {type: integer, value: params.port}}}}\nactions: {a: {commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_EXPRESSION', path: 'provides.p.outputs.port.value' }],
  ['a per-relation action that speaks of inputs which it does not ask for', `provides: {p: {interface: i, outputs: {}, action: g}}\nactions: {a: {commands: [${note}]}, g: {on: relation, commands: [{name: n, note: {text: '{{ relation.inputs.name }}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', path: 'actions.g.commands[0]' }],
  ['a variable that does not exist, when a node leaves', `actions: {a: {commands: [${note}]}, drain: {phase: leave, commands: [{name: n, note: {text: '{{ staying[0].id }} {{ leaving[0].id }} {{ before[0].id }} {{ params.nope }}'}}]}, ${remove}}`, { code: 'BLUEPRINT_TEMPLATE', path: 'actions.drain.commands[0]', message: /undefined variable: params\.nope(?!.*bring back)/ }],
  ['an output of an apply, when a node leaves', `actions: {a: {commands: [{name: n, run: {argv: [x], creates: /x, outputs: {token: {from: stdout}}}}]}, drain: {phase: leave, commands: [{name: n, note: {text: '{{ outputs.a.token }}'}}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.drain.commands[0]', message: /uses output "token"/ }],
  ['an output that need not be there yet', `actions: {a: {commands: [{name: n, note: {text: '{{ outputs.b.token }}'}}]}, b: {after: [], commands: [{name: n, run: {argv: [x], creates: /x, outputs: {token: {from: stdout}}}}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.commands[0]', message: /uses output "token" of b, which need not have ended before it/ }],
]
for (const [what, body, problem] of rehearsed) t.test(`${what} shows when the blueprint is planned with sample values`, async (t) => {
  const problems = problemsOf(body)
  t.match(problems, [problem])
  t.equal(problems.length, 1, 'once')
})

t.test('a rehearsal finds parameters of the right form, and a number of nodes that the rules accept', async (t) => {
  const parameters = "parameters: {type: object, additionalProperties: false, required: [net, size, kind, list, deep], properties: {net: {type: string, pattern: '^[0-9./]+$'}, size: {type: integer, minimum: 7}, kind: {enum: [a, b]}, list: {type: array, minItems: 2, items: {type: string}}, deep: {type: object, required: [x], properties: {x: {type: number}}}}}"
  const text = "{{ params.net }} {{ params.size }} {{ params.kind }} {{ params.list | join: ',' }} {{ params.deep.x }} {{ nodes[2].id }} {{ node.labels.rack }}"
  t.strictSame(problemsOf(`${parameters}\nrules: [{expression: size(nodes) == 3, message: three}]\nactions: {a: {commands: [{name: n, note: {text: "${text}"}}]}, ${remove}}`), [])
})

t.test('what cannot be guessed is not rehearsed', async (t) => {
  t.strictSame(problemsOf(`parameters: {type: object, required: [key], properties: {key: {type: string, pattern: '^zz[0-9]{9}$'}}}\nactions: {a: {commands: [{name: n, note: {text: '{{ params.nope }}'}}]}, ${remove}}`), [])
})

t.test('the two ends of a relation are rehearsed together', async (t) => {
  const provider = makeBlueprint('p', `provides: {out: {interface: i, inputs: {type: object, additionalProperties: false, properties: {name: {type: string}}}, outputs: {host: {type: string, value: node.address}}}}\nactions: {a: {commands: [${note}]}, ${remove}}`)
  const consumer = (told: string, used: string) => makeBlueprint('c', `requires: {db: {interface: i, with: {${told}: x}}}\nactions: {a: {commands: [{name: n, note: {text: '{{ uses.db.${used} }}'}}]}, ${remove}}`)
  const problems = (blueprint: ReturnType<typeof consumer>) => checkBlueprint(blueprint, buildCatalog([provider, blueprint]))
  t.strictSame(problems(consumer('name', 'host')), [])
  t.match(problems(consumer('nam', 'host')), [{ code: 'BLUEPRINT_REFERENCE', path: 'requires.db', message: /nam no such parameter/ }])
  t.match(problems(consumer('name', 'hosts')), [{ code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0]', message: /uses\.db\.hosts/ }])
})

t.test('a catalog gives the highest version in a range', async (t) => {
  const version = (text: string) => {
    const parsed = parseBlueprint(`${head.replace('1.0.0', text)}actions: {a: {commands: [${note}]}, ${remove}}`, {})
    if (!parsed.ok) throw new Error('must parse')
    return parsed.value
  }
  const catalog = buildCatalog([version('1.2.0'), version('2.0.0'), version('1.10.0')])
  t.equal(catalog.find('x', '^1')?.document.version, '1.10.0')
  t.equal(catalog.find('x', '*')?.document.version, '2.0.0')
  t.equal(catalog.find('x', '^3'), undefined)
  t.equal(catalog.find('z', '*'), undefined)
  t.strictSame(parseBlueprintReference('x@^1'), { name: 'x', range: '>=1.0.0 <2.0.0-0' })
  t.strictSame(parseBlueprintReference('x'), { name: 'x', range: '*' })
})

t.test('the digest of a blueprint covers its templates', async (t) => {
  const body = `actions: {a: {commands: [{name: n, file: {path: /x, template: f}}]}, ${remove}}`
  t.not(makeBlueprint('x', body, { f: '1' }).digest, makeBlueprint('x', body, { f: '2' }).digest)
})

t.test('a template of plain paths gives what Liquid gives, whatever the paths lead to', async (t) => {
  const values: Record<string, unknown> = { text: 'a b', empty: '', number: 3306, negative: -1, fraction: 1.5, truth: true, nothing: null, list: ['x', 'y'], map: { size: 7, inner: { deep: 'd' } }, first: 'f', markup: '{{ params.text }}' }
  const paths = ['text', 'empty', 'number', 'negative', 'fraction', 'truth', 'nothing', 'list', 'map.size', 'map.inner.deep', 'list.size', 'list.first', 'first', 'markup', 'text.size', 'nothing.missing']
  const schema = JSON.stringify({ type: 'object', additionalProperties: false, properties: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { default: value }])) })
  const render = (template: string): string => {
    const text = JSON.stringify(template)
    const blueprint = makeBlueprint('each', `parameters: ${schema}\nactions: {a: {commands: [{name: n, note: {text: ${text}}}]}, ${remove}}`)
    const plan = makePlan((draft) => (draft['components'] = [{ name: 'c', blueprint: 'each', on: 'data' }]))
    const graph = buildGraph({ plan, catalog: buildCatalog([blueprint]), nodes: makeNodes(), kind: 'apply' })
    return graph.ok ? (graph.value.actions[0]!.commands[0]!.spec as { text: string }).text : graph.problems[0]!.code
  }
  for (const path of paths) {
    // An empty tag keeps the second template from being one of plain paths.
    t.equal(render(`<{{ params.${path} }}>{{params.text}}`), render(`<{{ params.${path} }}>{{params.text}}{% if false %}{% endif %}`), path)
  }
  for (const path of ['missing', 'text.missing', 'map.constructor', 'toString']) t.equal(render(`{{ params.${path} }}`), 'PLAN_TEMPLATE', path)
})
