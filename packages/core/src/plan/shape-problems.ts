import type { TSchema } from '@sinclair/typebox'
import { Value, ValueErrorType, type ValueError } from '@sinclair/typebox/value'
import type { ErrorCode, Problem } from '../errors.js'

/** More problems than this help nobody; the last one says how many were left out. */
const maxProblems = 100

/** Every way in which `value` does not have the shape of `schema`, with paths as people write them and what was found. At most 100 and a count. */
export function shapeProblems(schema: TSchema, value: unknown, code: ErrorCode): Problem[] {
  const problems = new Map<string, Problem>()
  let total = 0
  for (const error of Value.Errors(schema, value)) {
    const path = toPath(error.path)
    if (problems.has(path)) continue
    total++
    if (problems.size < maxProblems) problems.set(path, { code, path, message: describe(error) })
  }
  return closeList([...problems.values()], total)
}

/** The first hundred of the problems and, when there are more, a last one that says how many. */
export const limitProblems = (problems: readonly Problem[]): Problem[] => closeList(problems.slice(0, maxProblems), problems.length)

function closeList(listed: Problem[], total: number): Problem[] {
  const left = total - listed.length
  return left > 0 ? [...listed, { code: listed[0]!.code, path: '', message: `and ${left} more problem${left === 1 ? '' : 's'}` }] : listed
}

/** `/components/2/uses/database` → `components[2].uses.database`. */
export function toPath(pointer: string): string {
  const parts = pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  return parts.reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path === '' ? part : `${path}.${part}`), '')
}

function describe(error: ValueError): string {
  if (error.type === ValueErrorType.ObjectRequiredProperty) return 'is required'
  if (error.type === ValueErrorType.ObjectAdditionalProperties) {
    const name = error.path.split('/').at(-1)!.replaceAll('~1', '/').replaceAll('~0', '~')
    const { properties, patternProperties } = error.schema as { properties?: object; patternProperties?: object }
    if (patternProperties) return `${JSON.stringify(name)} is no allowed name, it must match ${Object.keys(patternProperties).join(' or ')}`
    const known = Object.keys(properties ?? {})
    return `no such field${suggest(name, known)}`
  }
  const wanted = error.type === ValueErrorType.StringPattern ? `must match ${String(error.schema['pattern'])}` : error.type === ValueErrorType.Literal ? `must be ${JSON.stringify(error.schema['const'])}` : error.message.replace(/^Expected/, 'must be')
  return `${wanted}, found ${describeFound(error.value)}`
}

/** A short description of a value for messages: strings quoted and cut, objects and lists by kind. */
export function describeFound(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object') return 'an object'
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}…"` : text
}

/** With more candidates than this no suggestion is looked for: ten thousand misspelt names among ten thousand would be a hundred million comparisons. */
const maxCandidates = 500

/** `, did you mean "x"?` when a known name is within two edits (one for names of three letters and less); else what is known, or nothing when that is long. */
export function suggest(name: string, known: readonly string[]): string {
  if (known.length > maxCandidates || name.length > 100) return ''
  const limit = Math.min(2, Math.ceil(name.length / 3))
  const near = known.map((candidate) => ({ candidate, distance: editDistance(name, candidate) })).filter((entry) => entry.distance <= limit)
  near.sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
  if (near[0]) return `, did you mean "${near[0].candidate}"?`
  return known.length > 0 && known.length <= 12 ? `; known: ${[...known].sort().join(', ')}` : ''
}

/** Levenshtein distance (Wagner and Fischer 1974), one row at a time. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}
