/**
 * A value of a blueprint's YAML, compiled: strings are templates, `{cel: "…"}` is an expression that gives a typed value, everything else is
 * itself.
 */
import { compileExpression, type EvaluationContext } from './expression.js'
import { compileTemplate, isTemplate, type Templates } from './template.js'

export type CompiledValue = (context: EvaluationContext) => unknown

/** Thrown while compiling or evaluating; says where in the value and whether a template or an expression was at fault. */
export class ValueError extends Error {
  constructor(
    readonly where: 'template' | 'expression',
    readonly path: string,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause })
  }
}

/** The compiled value, whose texts may include these templates. @throws ValueError */
export function compileValue(value: unknown, path: string, templates?: Templates): CompiledValue {
  if (typeof value === 'string') return guard('template', path, () => compileTemplate(value, templates))
  if (value === null || typeof value !== 'object' || isConstant(value)) return () => value
  if (Array.isArray(value)) {
    const entries = value.map((entry, index) => compileValue(entry, `${path}[${index}]`, templates))
    return (context) => entries.map((entry) => entry(context))
  }
  const expression = (value as { cel?: unknown }).cel
  if (typeof expression === 'string' && Object.keys(value).length === 1) return guard('expression', path, () => compileExpression(expression))
  const entries = Object.entries(value).map(([key, entry]) => [key, compileValue(entry, path === '' ? key : `${path}.${key}`, templates)] as const)
  return (context) => Object.fromEntries(entries.map(([key, entry]) => [key, entry(context)]))
}

/** Whether the value is the same in every context: it is then given as it is, without a copy for each of thousands of actions. */
const isConstant = (value: unknown): boolean =>
  typeof value === 'string' ? !isTemplate(value) : value === null || typeof value !== 'object' || (!('cel' in value) && Object.values(value).every(isConstant))

/** Compiles now and evaluates later, with every error of either told apart and located. */
export function guard<T>(where: 'template' | 'expression', path: string, compile: () => (context: EvaluationContext) => T): (context: EvaluationContext) => T {
  const attempt = <R>(work: () => R): R => {
    try {
      return work()
    } catch (error) {
      throw new ValueError(where, path, firstLine(error), error)
    }
  }
  const compiled = attempt(compile)
  return (context) => attempt(() => compiled(context))
}

const firstLine = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split('\n')[0]!
