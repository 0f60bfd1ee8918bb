/** From bytes that somebody sent to a plan of the right shape. Its meaning is check-plan.ts's. */
import { Value } from '@sinclair/typebox/value'
import { LineCounter, parseDocument } from 'yaml'
import type { Problem } from '../errors.js'
import type { Parsed } from '../parsed.js'
import { maxPlanSizeBytes, PlanSchema, type Plan } from './plan-schema.js'
import { shapeProblems } from './shape-problems.js'

/** The plan, from YAML or JSON text or a value that was parsed already; or every problem found. JSON is YAML 1.2, so one parser reads both. */
export function parsePlan(input: unknown): Parsed<Plan> {
  const value = typeof input === 'string' ? parseText(input) : { ok: true as const, value: input }
  if (!value.ok) return value
  if (Value.Check(PlanSchema, value.value)) return { ok: true, value: value.value }
  return { ok: false, problems: tooMany(value.value) ?? shapeProblems(PlanSchema, value.value, 'PLAN_SHAPE') }
}

function parseText(text: string): Parsed<unknown> {
  if (text.length > maxPlanSizeBytes) return failed({ code: 'PLAN_TOO_LARGE', path: '', message: `the plan has ${text.length} characters; at most ${maxPlanSizeBytes} bytes are accepted` })
  // JSON is parsed as such first: ten times faster, and its errors fall through to the parser that knows lines.
  if (/^\s*\{/.test(text)) {
    try {
      return { ok: true, value: JSON.parse(text) as unknown }
    } catch {
      // Perhaps YAML in flow style, or an error to be located below.
    }
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { version: '1.2', uniqueKeys: true, lineCounter: lines })
  if (document.errors.length > 0) {
    const problems = document.errors.slice(0, 20).map((error): Problem => {
      const { line, col } = lines.linePos(error.pos[0])
      return { code: 'PLAN_SYNTAX', path: '', message: `line ${line}, column ${col}: ${error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '')}` }
    })
    return { ok: false, problems }
  }
  try {
    return { ok: true, value: document.toJS({ maxAliasCount: 100 }) as unknown }
  } catch (error) {
    return failed({ code: 'PLAN_SYNTAX', path: '', message: error instanceof Error ? error.message : String(error) })
  }
}

/** A list far above its limit is one problem, not ten thousand. */
function tooMany(value: unknown): Problem[] | undefined {
  const components = (value as { components?: unknown } | null)?.components
  const limit = PlanSchema.properties.components.maxItems!
  if (!Array.isArray(components) || components.length <= limit) return undefined
  return [{ code: 'PLAN_TOO_LARGE', path: 'components', message: `${components.length} components; at most ${limit} are accepted` }]
}

const failed = (problem: Problem): Parsed<never> => ({ ok: false, problems: [problem] })
