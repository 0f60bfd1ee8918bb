/** Results on the wire: JSON of AttemptResult, checked where it comes in; the gateway records nothing else. */
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { type AttemptResult, compileCheck, type Parsed } from '@lichen/core'

const OutcomeSchema = Type.Union(['succeeded', 'failed', 'timedOut', 'cancelled', 'unknown'].map((outcome) => Type.Literal(outcome)))
const FailureSchema = Type.Object({ code: Type.String({ pattern: '^[A-Z][A-Z0-9_]*$' }), message: Type.String(), command: Type.Optional(Type.String()) })
const CommandResultSchema = Type.Object({
  name: Type.String(),
  kind: Type.String(),
  outcome: OutcomeSchema,
  changed: Type.Boolean(),
  settledByCheck: Type.Optional(Type.Boolean()),
  durationMs: Type.Number(),
  exitCode: Type.Optional(Type.Integer()),
  diff: Type.Optional(Type.String()),
  failure: Type.Optional(FailureSchema),
})
const AttemptResultSchema = Type.Object({
  outcome: OutcomeSchema,
  changed: Type.Boolean(),
  commands: Type.Array(CommandResultSchema),
  outputs: Type.Record(Type.String(), Type.String()),
  failure: Type.Optional(FailureSchema),
  startedAt: Type.Number(),
  endedAt: Type.Number(),
})

const isAttemptResult = compileCheck(AttemptResultSchema)

/** The result as it stands in a ResultReport. */
export const encodeResult = (result: AttemptResult): string => JSON.stringify(result)

/** The result in this text, or what is wrong with it (code ORDER_MALFORMED). Fields that this version does not know are kept. */
export function decodeResult(text: string): Parsed<AttemptResult> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { ok: false, problems: [{ code: 'ORDER_MALFORMED', path: '', message: `the result is no JSON: ${(error as Error).message}` }] }
  }
  if (isAttemptResult(value)) return { ok: true, value: value as AttemptResult }
  const problems = [...Value.Errors(AttemptResultSchema, value)].slice(0, 20)
  return { ok: false, problems: problems.map((error) => ({ code: 'ORDER_MALFORMED', path: error.path.slice(1).replaceAll('/', '.'), message: error.message })) }
}
