/** From bytes that somebody sent to a plan of the right shape. Its meaning is check-plan.ts's. */
import { compileCheck } from '../compiled-check.js'
import type { ErrorCode, Problem } from '../errors.js'
import type { Parsed } from '../parsed.js'
import { maxPlanSizeBytes, PlanSchema, type Plan } from './plan-schema.js'
import { findRepeatedKey } from './repeated-key.js'
import { shapeProblems } from './shape-problems.js'
import { parseYamlText } from './yaml-text.js'

const isPlan = compileCheck(PlanSchema)

/** Deepest nesting accepted. Parameters of real services nest five deep; without a limit a document of brackets ends in a stack overflow. */
const maxDepth = 64

/** The plan, from YAML or JSON text or a value that was parsed already; or every problem found. */
export function parsePlan(input: unknown): Parsed<Plan> {
  const parsed = typeof input === 'string' ? parseText(input) : { ok: true as const, value: input }
  if (!parsed.ok) return parsed
  const { value } = parsed
  if (isTooDeep(value)) return failed('PLAN_SHAPE', '', `the document is nested more than ${maxDepth} levels deep`)
  if (isPlan(value)) return { ok: true, value: value as Plan }
  return { ok: false, problems: tooMany(value) ?? shapeProblems(PlanSchema, value, 'PLAN_SHAPE') }
}

function parseText(text: string): Parsed<unknown> {
  const sizeBytes = utf8SizeBytes(text)
  if (sizeBytes > maxPlanSizeBytes) return failed('PLAN_TOO_LARGE', '', `the plan has ${sizeBytes} bytes; at most ${maxPlanSizeBytes} bytes are accepted`)
  // JSON is YAML too, but its own parser is ten times faster. What it refuses may still be YAML in flow style, or has an error to be located.
  return (/^\s*\{/.test(text) ? parseJson(text) : undefined) ?? parseYaml(text)
}

function parseJson(text: string): Parsed<unknown> | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const repeated = findRepeatedKey(text)
  return repeated ? failed('PLAN_SYNTAX', '', `line ${repeated.line}: key ${JSON.stringify(repeated.key)} stands twice in one object`) : { ok: true, value }
}

function parseYaml(text: string): Parsed<unknown> {
  const parsed = parseYamlText(text)
  return parsed.ok ? parsed : { ok: false, problems: parsed.faults.map((message): Problem => ({ code: 'PLAN_SYNTAX', path: '', message })) }
}

/** A list far above its limit is one problem, not ten thousand. */
function tooMany(value: unknown): Problem[] | undefined {
  for (const [field, what] of [['components', 'components'], ['nodes', 'node groups']] as const) {
    const list = (value as Record<string, unknown> | null)?.[field]
    const limit = PlanSchema.properties[field].maxItems!
    if (Array.isArray(list) && list.length > limit) return [{ code: 'PLAN_TOO_LARGE', path: field, message: `${list.length} ${what}; at most ${limit} are accepted` }]
  }
  return undefined
}

/** Level by level, without a stack of calls, and each object once on a level: YAML aliases may make a value that contains itself, which is too deep. */
function isTooDeep(value: unknown): boolean {
  let level = new Set([value])
  for (let depth = 0; level.size > 0; depth++) {
    if (depth > maxDepth) return true
    const next = new Set<unknown>()
    for (const entry of level) if (entry !== null && typeof entry === 'object') for (const inner of Object.values(entry)) if (typeof inner === 'object') next.add(inner)
    level = next
  }
  return false
}

function utf8SizeBytes(text: string): number {
  let sizeBytes = 0
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    // Each half of a surrogate pair counts two of the four bytes.
    sizeBytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3
  }
  return sizeBytes
}

const failed = (code: ErrorCode, path: string, message: string): Parsed<never> => ({ ok: false, problems: [{ code, path, message }] })
