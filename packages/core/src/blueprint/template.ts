/** Liquid templates of blueprints: strict, without a file system, bounded in time and size. */
import { Liquid, type Template } from 'liquidjs'
import type { EvaluationContext } from './expression.js'

/** Renders in a context. @throws the error of Liquid, whose message says line and column */
export type CompiledTemplate = (context: EvaluationContext) => string

// Limits: a template of a service's configuration has some KiB and renders in microseconds. Ten MiB and one second stop a loop, not an author.
const liquid = new Liquid({ strictFilters: true, strictVariables: true, ownPropertyOnly: true, relativeReference: false, templates: {}, parseLimit: 1e7, renderLimit: 1000, memoryLimit: 1e8, jsTruthy: false })

/** The compiled template; a text without any Liquid in it costs nothing to render. @throws the parse error of Liquid */
export function compileTemplate(text: string): CompiledTemplate {
  if (!text.includes('{{') && !text.includes('{%')) return () => text
  const parsed: Template[] = liquid.parse(text)
  return (context) => String(liquid.renderSync(parsed, context.variables))
}
