/** From the names of a spec to the ids of the cloud. */
import { ApiFailure } from './api-failure.js'
import type { Field, Kind, Part, Reference, Values, Wanted } from './kind.js'
import { kindOf } from './parts.js'
import type { Session } from './session.js'

/**
 * The part in the words of the API; `extent: keys` is enough to find it, and asks for nothing else that it refers to.
 * @throws COMMAND_OPENSTACK_NOT_FOUND when something that it refers to is not there, COMMAND_OPENSTACK_AMBIGUOUS when it is there twice.
 */
export async function resolve(part: Part, session: Session, extent: 'keys' | 'all' = 'all'): Promise<Wanted> {
  const keys: Record<string, unknown> = {}
  const content: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(kindOf(part.kind).fields)) {
    if (extent === 'keys' && field.use !== 'key') continue
    const value = await resolveField(part, name, field, session)
    if (value === undefined) continue
    const entries = field.isMap ? (value as Values) : { [field.api ?? name]: value }
    if (field.use === 'key') Object.assign(keys, entries)
    if (!field.isReadOnly) Object.assign(content, entries)
  }
  return { part, title: titleOf(part), keys, content }
}

/** In words, for people. */
export const titleOf = (part: Part): string => `${kindOf(part.kind).noun} ${kindOf(part.kind).title(part.values)}`

/** The value in the words of the API; undefined when nothing is said of the field. */
async function resolveField(part: Part, name: string, field: Field, session: Session): Promise<unknown> {
  const given = part.values[name] ?? field.fallback
  if (given === undefined) return field.apiFallback?.(session)
  const value = field.refers ? await findId(field.refers, given, part, session) : given
  return field.send ? field.send(value) : value
}

async function findId(reference: Reference, name: unknown, part: Part, session: Session): Promise<unknown> {
  const kind = kindOf(reference.kind)
  const scope = Object.fromEntries(Object.entries(reference.with ?? {}).map(([theirs, own]) => [theirs, part.values[own]]))
  const target: Part = { kind: reference.kind, values: { ...scope, [reference.by ?? 'name']: name } }
  const found = await kind.find(await resolveKeys(kind, target, session), session)
  if (found === undefined) throw new ApiFailure('COMMAND_OPENSTACK_NOT_FOUND', `${titleOf(part)}: there is no ${titleOf(target)}${await describeOthers(reference.kind, session)}`)
  return found['id']
}

/** What is referred to may belong to another project, so that is a key only where it is said. */
async function resolveKeys(kind: Kind, target: Part, session: Session): Promise<Values> {
  const keys: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(kind.fields)) {
    if (field.use !== 'key' || (target.values[name] === undefined && field.fallback === undefined)) continue
    keys[field.api ?? name] = await resolveField(target, name, field, session)
  }
  return keys
}

/** Regions are mixed up by their spelling, so those that exist are named. */
async function describeOthers(kind: string, session: Session): Promise<string> {
  if (kind !== 'region') return ''
  const regions = await session.list({ service: 'identity', path: '/regions' }, 'regions')
  return `; there ${regions.length === 1 ? 'is' : 'are'} ${regions.map((region) => String(region['id'])).join(', ') || 'none'}`
}
