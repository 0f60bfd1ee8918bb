/** Liquid templates of blueprints: strict, without a file system, bounded in time and size. One may include others of its blueprint. */
import { Liquid, type Template } from 'liquidjs'
import type { EvaluationContext } from './expression.js'

/** Renders in a context. @throws the error of Liquid, whose message says line and column */
export type CompiledTemplate = (context: EvaluationContext) => string

// Limits: a template of a service's configuration has some KiB and renders in microseconds. Ten MiB and one second stop a loop, not an author.
const options = { strictFilters: true, strictVariables: true, ownPropertyOnly: true, relativeReference: false, cache: true, dynamicPartials: true, parseLimit: 1e7, renderLimit: 1000, memoryLimit: 1e8, jsTruthy: false } as const
const alone = new Liquid({ ...options, templates: {} })
const engines = new WeakMap<Templates, Liquid>()

/** Texts by their names, which `{% include 'name' %}` puts in. */
export type Templates = Readonly<Record<string, string>>

/** False for a text that renders to itself. */
export const isTemplate = (text: string): boolean => text.includes('{{') || text.includes('{%')

/** The names that `{% include 'name' %}` of a text asks for. */
export const listIncluded = (text: string): string[] => [...text.matchAll(/\{%-?\s*(?:include|render)\s+['"]([^'"]*)['"]/g)].map((match) => match[1]!)

/** The compiled template; a text without any Liquid in it costs nothing to render. @throws the parse error of Liquid */
export function compileTemplate(text: string, templates?: Templates): CompiledTemplate {
  if (!isTemplate(text)) return () => text
  const liquid = engineOf(templates)
  const parsed: Template[] = liquid.parse(text)
  const parts = divide(text)
  return (context) => (parts && join(parts, context.variables)) ?? String(liquid.renderSync(parsed, context.variables))
}

function engineOf(templates: Templates | undefined): Liquid {
  if (templates === undefined) return alone
  const known = engines.get(templates)
  if (known) return known
  const made = new Liquid({ ...options, templates: { ...templates } })
  engines.set(templates, made)
  return made
}

type Part = string | readonly string[]

const plainPath = /^\s*[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\s*$/
/** Names that Liquid answers for values that have no such property. */
const answered = new Set(['size', 'first', 'last'])

/**
 * Texts and paths, when the template is made of text and `{{ a.b }}` alone; else undefined. Most are, thousands of actions render a few of each, and Liquid's machinery
 * costs ten times what looking up a path does.
 */
function divide(text: string): readonly Part[] | undefined {
  const pieces = text.split(/\{\{([^{}]*)\}\}/)
  const parts = pieces.map((piece, index): Part | undefined => {
    if (index % 2 === 0) return isTemplate(piece) ? undefined : piece
    const path = piece.trim().split('.')
    return plainPath.test(piece) && !path.some((name) => answered.has(name)) ? path : undefined
  })
  return parts.includes(undefined) ? undefined : (parts as Part[])
}

/** The text; undefined when a path does not lead to a text or a whole number, and Liquid must say what it is worth, or that it is not there. */
function join(parts: readonly Part[], variables: Readonly<Record<string, unknown>>): string | undefined {
  let text = ''
  for (const part of parts) {
    if (typeof part === 'string') {
      text += part
      continue
    }
    let value: unknown = variables
    for (const name of part) {
      if (value === null || typeof value !== 'object' || Array.isArray(value) || !Object.hasOwn(value, name)) return undefined
      value = (value as Readonly<Record<string, unknown>>)[name]
    }
    if (typeof value !== 'string' && !Number.isInteger(value)) return undefined
    text += String(value)
  }
  return text
}
