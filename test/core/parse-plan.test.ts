import { maxPlanSizeBytes, parsePlan, type Problem } from '@lichen/core'
import t from 'tap'
import { stringify } from 'yaml'
import { makePlan } from './plan-fixture.js'

const problemsOf = (input: unknown): readonly Problem[] => {
  const parsed = parsePlan(input)
  return parsed.ok ? [] : parsed.problems
}

t.test('the same plan as YAML, as JSON and as a value is the same plan', async (t) => {
  const plan = makePlan()
  const yaml = 'apiVersion: lichen.dev/v1\nkind: DeploymentPlan\nmetadata: {name: shop}\nnodes:\n  - {name: data, select: {role: data}, count: 1}\n  - {name: web, select: {role: web}}\ncomponents:\n  - {name: front, blueprint: app@^1, on: web, with: {database: shop}, uses: {store: base}}\n  - {name: base, blueprint: db, on: data}\n'
  for (const input of [plan, JSON.stringify(plan), JSON.stringify(plan, null, 2), yaml]) t.same(parsePlan(input), { ok: true, value: plan })
})

t.test('malformed text is located by line and column', async (t) => {
  t.match(problemsOf('metadata:\n  name: [a\nnodes: 1'), [{ code: 'PLAN_SYNTAX', message: /^line 3, column \d+: / }])
  t.match(problemsOf('{"metadata": {"name": "a",}, }x'), [{ code: 'PLAN_SYNTAX', message: /^line 1, column \d+: / }])
  t.match(problemsOf('a: 1\na: 2'), [{ code: 'PLAN_SYNTAX', message: 'line 2, column 1: key "a" stands twice in one object' }])
})

t.test('a bomb of aliases is refused', async (t) => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${'bcdefgh'.split('').map((name, index) => `${name}: &${name} [${Array(10).fill(`*${'abcdefg'[index]}`).join(',')}]`).join('\n')}`
  t.match(problemsOf(bomb), [{ code: 'PLAN_SYNTAX', message: /alias/i }])
})

t.test('ten megabytes are refused before they are parsed', async (t) => {
  t.match(problemsOf(`a: ${'x'.repeat(10 * 1024 * 1024)}`), [{ code: 'PLAN_TOO_LARGE', message: new RegExp(`at most ${maxPlanSizeBytes} bytes`) }])
})

t.test('more components than the limit are one problem', async (t) => {
  const components = Array.from({ length: 10_001 }, (_, index) => ({ name: `c${index}`, blueprint: 'x', on: 'all' }))
  t.match(problemsOf({ ...makePlan(), components }), [{ code: 'PLAN_TOO_LARGE', path: 'components', message: '10001 components; at most 10000 are accepted' }])
})

t.test('every problem of shape is reported at once, with its path, what was found and what was perhaps meant', async (t) => {
  const problems = problemsOf({
    apiVersion: 'lichen.dev/v9',
    kind: 'DeploymentPlan',
    metadata: { nam: 'x' },
    nodes: [],
    components: [{ name: 'Bad Name', blueprint: 'x', on: 3, use: {}, with: [] }],
    rollout: { maxFailures: -1 },
  })
  const byPath = new Map(problems.map((problem) => [problem.path, problem]))
  t.strictSame([...byPath.keys()].sort(), ['apiVersion', 'components[0].name', 'components[0].on', 'components[0].use', 'components[0].with', 'metadata.nam', 'metadata.name', 'nodes', 'rollout.maxFailures'])
  t.ok(problems.every((problem) => problem.code === 'PLAN_SHAPE'))
  t.match(byPath.get('apiVersion')?.message, 'found "lichen.dev/v9"')
  t.match(byPath.get('metadata.nam')?.message, 'did you mean "name"?')
  t.match(byPath.get('components[0].use')?.message, 'did you mean "uses"?')
  t.match(byPath.get('components[0].on')?.message, 'must be string, found 3')
  t.match(byPath.get('components[0].with')?.message, 'found a list of 0')
})

t.test('a flood of problems ends with their number', async (t) => {
  const problems = problemsOf({ ...makePlan(), components: Array.from({ length: 500 }, () => ({ name: 1, blueprint: 'x', on: 'all' })) })
  t.equal(problems.length, 101)
  t.match(problems.at(-1)?.message, 'and 400 more problems')
})

t.test('what is no document at all is refused', async (t) => {
  for (const input of ['', '~', '42', 'just words', '[]', null, 7]) t.match(problemsOf(input), [{ code: 'PLAN_SHAPE' }], JSON.stringify(input))
})

t.test('a key that stands twice in one object is refused in JSON too', async (t) => {
  const text = JSON.stringify(makePlan(), null, 2)
  t.match(problemsOf(text.replace('"kind": "DeploymentPlan",', '"kind": "DeploymentPlan",\n  "kind": "DeploymentPlan",')), [{ code: 'PLAN_SYNTAX', message: /^line \d+: key "kind" stands twice in one object$/ }])
  const plan = makePlan((draft) => (draft['components'][0].with.database = '{"a":1,"a":2}'))
  t.ok(parsePlan(JSON.stringify(plan)).ok, 'text that looks like keys is text')
  t.ok(parsePlan(JSON.stringify({ ...plan, components: [...plan.components, { ...plan.components[0], name: 'other' }] })).ok, 'the same keys in different objects are right')
})

t.test('nesting that is out of all bounds is refused, in either notation', async (t) => {
  const deep = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
  const text = JSON.stringify(makePlan((draft) => (draft['components'][0].with = { database: 'DEEP' })))
  t.match(problemsOf(text.replace('"DEEP"', deep(100_000))), [{ code: 'PLAN_SHAPE', message: 'the document is nested more than 64 levels deep' }])
  // Four hundred thousand brackets end the process when they reach the parser of YAML.
  for (const hostile of [`a: ${deep(400_000)}`, `a: ${'{b: '.repeat(100_000)}`, '- '.repeat(100_000), '? '.repeat(100_000), Array.from({ length: 2000 }, (_, index) => `${' '.repeat(index)}- `).join('\n'), Array.from({ length: 2000 }, (_, index) => `${' '.repeat(index)}a:`).join('\n')]) t.match(problemsOf(hostile), [{ code: 'PLAN_SYNTAX', message: /nested too deeply/ }], hostile.slice(0, 20))
  t.ok(parsePlan(text.replace('"DEEP"', deep(20))).ok)
})

t.test('text that is indented far is no nesting', async (t) => {
  const plan = makePlan((draft) => (draft['components'][0].with.database = `${'- '.repeat(500)}\n${' '.repeat(600)}- x [[[\n`))
  t.same(parsePlan(stringify(plan)), { ok: true, value: plan })
  t.same(parsePlan(stringify(plan, { defaultStringType: 'BLOCK_LITERAL' })), { ok: true, value: plan })
})

t.test('many keys in one object take a time that grows with their number alone', async (t) => {
  const keys = Array.from({ length: 100_000 }, (_, index) => `k${index}: 1`).join('\n')
  t.match(problemsOf(`${keys}\nk5: 2`), [{ code: 'PLAN_SYNTAX', message: 'line 100001, column 1: key "k5" stands twice in one object' }])
})

t.test('a document that contains itself is refused', async (t) => {
  t.match(problemsOf('a: &a [*a, *a]'), [{ message: /nested|alias/i }])
})

t.test('the size limit counts bytes, not characters', async (t) => {
  t.match(problemsOf(`a: ${'€'.repeat(maxPlanSizeBytes / 2)}`), [{ code: 'PLAN_TOO_LARGE', message: `the plan has ${(maxPlanSizeBytes / 2) * 3 + 3} bytes; at most ${maxPlanSizeBytes} bytes are accepted` }])
  t.match(problemsOf(`a: ${'😀'.repeat(maxPlanSizeBytes / 4)}`), [{ code: 'PLAN_TOO_LARGE', message: new RegExp(`^the plan has ${maxPlanSizeBytes + 3} bytes`) }])
})

t.test('labels have names of the right form and texts as values', async (t) => {
  const problems = problemsOf({ ...makePlan(), nodes: [{ name: 'a', select: { role: 5, '-x': 'y' } }] })
  t.strictSame(problems.map(({ path, message }) => `${path}: ${message}`).sort(), [
    'nodes[0].select.-x: "-x" is no allowed name, it must match ^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$',
    'nodes[0].select.role: must be string, found 5',
  ])
})

t.test('shares of a group are whole numbers or percentages', async (t) => {
  const problems = (nodes: unknown) => problemsOf({ ...makePlan(), rollout: { waves: [{ nodes }] } }).map(({ path }) => path)
  for (const share of [1, 10_000, '1%', '25%', '100%']) t.strictSame(problems(share), [], String(share))
  for (const share of [0, 1.5, '0%', '101%', '25', '5.5%', true]) t.strictSame(problems(share), ['rollout.waves[0].nodes'], String(share))
  t.match(problemsOf({ ...makePlan(), rollout: { waves: [] } }), [{ path: 'rollout.waves' }])
})
