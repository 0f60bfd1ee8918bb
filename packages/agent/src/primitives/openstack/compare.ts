/** What differs between a part and what is there. */
import { isDeepStrictEqual } from 'node:util'
import { kindOf } from './parts.js'
import type { Field, Values, Wanted } from './kind.js'
import type { JsonObject, Session } from './session.js'

export interface Differences {
  /** Values as they are to be sent, by their names in the API. */
  readonly changes: Values
  /** Names of what differs and cannot be changed. */
  readonly fixed: readonly string[]
  /** For people: lines that begin with - and +. What the API does not show is not shown. */
  readonly lines: readonly string[]
}

/** All that differs. What the spec does not name is not compared. */
export async function compare({ part, content }: Wanted, found: JsonObject, session: Session): Promise<Differences> {
  const changes: Record<string, unknown> = {}
  const fixed: string[] = []
  const lines: string[] = []
  const note = (name: string, api: string, field: Field, value: unknown, shown: readonly string[]): void => {
    if (field.use === 'fixed') fixed.push(name)
    else changes[api] = value
    lines.push(...shown)
  }
  for (const [name, field] of Object.entries(kindOf(part.kind).fields)) {
    if (field.use === 'key') continue
    const api = field.api ?? name
    if (field.isThere) {
      const value = content[api]
      if (value !== undefined && !(await field.isThere(value, found, session))) note(name, api, field, value, [`  ${name}: another than asked for`])
      continue
    }
    const wanted = field.isMap ? (part.values[name] as Values | undefined) ?? {} : { [api]: field.isReadOnly ? field.fallback : content[api] }
    for (const [key, value] of Object.entries(wanted)) {
      const [have, want] = [found[key] ?? null, value].map((each) => (field.normal ? field.normal(each) : each)) as [unknown, unknown]
      if (value !== undefined && !isDeepStrictEqual(have, want)) note(name, key, field, value, [`- ${field.isMap ? key : name}: ${show(have)}`, `+ ${field.isMap ? key : name}: ${show(want)}`])
    }
  }
  return { changes, fixed, lines }
}

/** What would be made, in one line. */
export function describeNew({ kind, values }: Wanted['part']): string {
  const { fields } = kindOf(kind)
  const shown = Object.entries(fields).filter(([name, field]) => field.use !== 'key' && !field.isThere && values[name] !== undefined)
  return shown.map(([name]) => `${name} ${show(values[name])}`).join(', ')
}

const show = (value: unknown): string => (typeof value === 'string' ? JSON.stringify(value) : value === null || value === undefined ? 'none' : JSON.stringify(value))
