/**
 * CEL expressions of blueprints. Every variable is dynamic: their shapes come from the parameters' JSON Schema, which CEL does not know.
 */
import { Environment } from '@marcbachmann/cel-js'

/** Evaluates in a context of plain JSON values; gives back plain JSON values (integers as numbers). @throws the evaluation error of CEL */
export type CompiledExpression = (context: EvaluationContext) => unknown

/** The compiled expression. @throws the parse error of CEL, whose message says where */
export function compileExpression(text: string): CompiledExpression {
  const environment = new Environment({ unlistedVariablesAreDyn: true, homogeneousAggregateLiterals: false, enableOptionalTypes: true })
  const evaluate = environment.parse(text)
  return (context) => toPlain(evaluate(context.forExpressions()))
}

/**
 * Variables of templates and expressions. CEL tells integers from doubles and plain numbers are doubles to it, so it gets a copy with 64-bit
 * integers; the copy is made once for each object, shared through `copies` by all contexts of one planning run.
 */
export class EvaluationContext {
  readonly #copies: WeakMap<object, unknown>
  #forExpressions: Record<string, unknown> | undefined
  constructor(
    readonly variables: Readonly<Record<string, unknown>>,
    copies: WeakMap<object, unknown>,
  ) {
    this.#copies = copies
  }

  /** The same variables as CEL wants them. */
  forExpressions(): Record<string, unknown> {
    return (this.#forExpressions ??= Object.fromEntries(Object.entries(this.variables).map(([name, value]) => [name, this.#copy(value)])))
  }

  /** A context with more variables. */
  with(variables: Readonly<Record<string, unknown>>): EvaluationContext {
    return new EvaluationContext({ ...this.variables, ...variables }, this.#copies)
  }

  #copy(value: unknown): unknown {
    if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value
    if (value === null || typeof value !== 'object') return value
    const known = this.#copies.get(value)
    if (known !== undefined) return known
    const copy = Array.isArray(value) ? value.map((entry) => this.#copy(entry)) : Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, this.#copy(entry)]))
    this.#copies.set(value, copy)
    return copy
  }
}

function toPlain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (Array.isArray(value)) return value.map(toPlain)
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, entry]) => [String(key), toPlain(entry)]))
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, toPlain(entry)]))
  return value
}
