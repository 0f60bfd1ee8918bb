/** From the body of a request to a plan: where it stands, in which notation, and what is wrong with it. */
import { LichenError, maxPlanSizeBytes, parsePlan, type Parsed, type Plan, type Problem } from '@lichen/core'
import { YamlText } from '../body/content-parsers.js'
import { describeProblems } from '../problem/error-answers.js'

/** True when the value is a JSON object. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof YamlText)

/** True for a body that is a plan by itself, not one that holds a plan: YAML always is. */
export const isBarePlan = (body: unknown): boolean => body instanceof YamlText || (isObject(body) && ('apiVersion' in body || body['kind'] === 'DeploymentPlan'))

/**
 * The plan in this input: YAML text, a string of YAML or JSON, or the document itself.
 * @throws PLAN_SYNTAX and PLAN_TOO_LARGE, which are problems of the text rather than of the plan
 */
export function readPlan(input: unknown): Parsed<Plan> {
  const text = input instanceof YamlText ? input.text : input
  if (typeof text === 'string' && Buffer.byteLength(text) > maxPlanSizeBytes) throw new LichenError('PLAN_TOO_LARGE', `the plan has ${Buffer.byteLength(text)} bytes; at most ${maxPlanSizeBytes} are taken`)
  const parsed = parsePlan(text)
  if (parsed.ok) return parsed
  const ofText = parsed.problems.find((problem) => problem.code === 'PLAN_SYNTAX') ?? parsed.problems.find((problem) => problem.code === 'PLAN_TOO_LARGE')
  if (ofText) throw new LichenError(ofText.code, describeProblems(parsed.problems), { problems: parsed.problems })
  return parsed
}

/** The error for a plan with these problems: its code is that of the first, its problems are all of them. */
export function rejectPlan(problems: readonly Problem[]): LichenError {
  return new LichenError(problems[0]?.code ?? 'PLAN_SHAPE', describeProblems(problems), { problems })
}
