import { maxPlanSizeBytes, parsePlan, type Problem } from '@lichen/core'
import t from 'tap'
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
  t.match(problemsOf('a: 1\na: 2'), [{ code: 'PLAN_SYNTAX', message: /line 2, column 1: Map keys must be unique/ }])
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
