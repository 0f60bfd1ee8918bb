import { buildCatalog, checkBlueprint, parseBlueprint, parseBlueprintReference, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint } from './plan-fixture.js'

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
  ['a run that cannot be checked and does not say so', `actions: {a: {commands: [{name: n, run: {argv: [x]}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /says neither how to check its effect/ }],
  ['a run with neither argv nor shell', `actions: {a: {commands: [{name: n, run: {uncheckable: true}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of argv and shell/ }],
  ['a file with nothing to be', `actions: {a: {commands: [{name: n, file: {path: /x}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of content, template and state: absent/ }],
  ['a probe of two things', `actions: {a: {commands: [{name: n, probe: {tcp: {host: h, port: 1}, command: [x]}}]}, ${remove}}`, { code: 'BLUEPRINT_COMMAND', message: /exactly one of tcp, http and command/ }],
  ['no remove action', `actions: {a: {commands: [${note}]}}`, { code: 'BLUEPRINT_REFERENCE', message: 'no action of phase "remove"' }],
  ['after an action that is not there', `actions: {a: {after: [b], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.after' }],
  ['after an action of another phase', `actions: {a: {after: [remove], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', message: /has phase remove/ }],
  ['actions in a circle', `actions: {a: {after: [b], commands: [${note}]}, b: {after: [a], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', message: /a → b → a/ }],
  ['a need that is no relation', `actions: {a: {needs: [db], commands: [${note}]}, ${remove}}`, { code: 'BLUEPRINT_REFERENCE', path: 'actions.a.needs' }],
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
