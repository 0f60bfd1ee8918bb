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

/** One field that differs: of a map, one of its entries. */
interface Difference {
  readonly name: string
  /** Its name in the API. */
  readonly api: string
  readonly value: unknown
  readonly lines: readonly string[]
}

/** All that differs. What the spec does not name is not compared. */
export async function compare(wanted: Wanted, found: JsonObject, session: Session): Promise<Differences> {
  const changes: Record<string, unknown> = {}
  const fixed: string[] = []
  const lines: string[] = []
  for (const [name, field] of Object.entries(kindOf(wanted.part.kind).fields)) {
    if (field.use === 'key') continue
    const differences = field.findDifference ? await compareHidden(name, field, wanted, found, session) : compareShown(name, field, wanted, found)
    for (const difference of differences) {
      if (field.use === 'fixed') fixed.push(name)
      else changes[difference.api] = difference.value
      lines.push(...difference.lines)
    }
  }
  return { changes, fixed, lines }
}

async function compareHidden(name: string, field: Field, { content }: Wanted, found: JsonObject, session: Session): Promise<readonly Difference[]> {
  const api = field.api ?? name
  const value = content[api]
  const difference = value === undefined ? undefined : await field.findDifference?.(value, found, session)
  return difference === undefined ? [] : [{ name, api, value, lines: [`  ${name}: ${difference}`] }]
}

function compareShown(name: string, field: Field, { part, content }: Wanted, found: JsonObject): readonly Difference[] {
  const api = field.api ?? name
  const all: Values = field.isMap ? ((part.values[name] as Values | undefined) ?? {}) : { [api]: field.isReadOnly ? field.fallback : content[api] }
  return Object.entries(all).flatMap(([key, value]) => {
    if (value === undefined) return []
    const [have, want] = [found[key] ?? null, value].map((each) => (field.normal ? field.normal(each) : each))
    const shown = field.isMap ? key : name
    return isDeepStrictEqual(have, want) ? [] : [{ name, api: key, value, lines: [`- ${shown}: ${show(have)}`, `+ ${shown}: ${show(want)}`] }]
  })
}

/** What would be made, in one line. */
export function describeNew({ kind, values }: Wanted['part']): string {
  const { fields } = kindOf(kind)
  const shown = Object.entries(fields).filter(([name, field]) => field.use !== 'key' && !field.findDifference && values[name] !== undefined)
  return shown.map(([name]) => `${name} ${show(values[name])}`).join(', ')
}

const show = (value: unknown): string => (value === null || value === undefined ? 'none' : JSON.stringify(value))
