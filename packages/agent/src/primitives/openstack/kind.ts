/**
 * What a row of the table of kinds says, and the three shapes that rows have: a `collection` whose items have an id, a `link` that is a path and nothing else (a grant), and `settings` that are
 * always there (quotas). A resource of a spec is one part, or several (a service and its endpoints); a part is of one kind.
 */
import type { JsonObject, Session, Target } from './session.js'
import type { ServiceType } from './service-catalogue.js'
import { ApiFailure } from './api-failure.js'

export type Values = Readonly<Record<string, unknown>>

/** One thing that is to be there or not. */
export interface Part {
  readonly kind: string
  /** By the names of the spec; undefined: left as it is. */
  readonly values: Values
}

/** To what a name belongs. */
export interface Reference {
  readonly kind: string
  /** Its field that is given. Default: name. */
  readonly by?: string
  /** Other fields of it, and from which of the own fields they come. */
  readonly with?: Readonly<Record<string, string>>
}

/** One field of a kind. */
export interface Field {
  /** Its name in the API. Default: as in the spec. */
  readonly api?: string
  /** `key`: by these it is found. `fixed`: cannot be changed afterwards. Others can. */
  readonly use?: 'key' | 'fixed'
  /** The value is a name; in the API it is the id of what has it. */
  readonly refers?: Reference
  /** When the spec does not say: the value in the words of the spec. */
  readonly fallback?: unknown
  /** The same, in the words of the API. */
  readonly apiFallback?: (session: Session) => unknown
  /** The value as it is sent. */
  readonly send?: (value: unknown) => unknown
  /** What of a value counts in a comparison. */
  readonly normal?: (value: unknown) => unknown
  /** For what the API does not show: in words, how it differs; undefined when it does not. The value itself is not shown. */
  readonly findDifference?: (value: unknown, found: JsonObject, session: Session) => Promise<string | undefined>
  /** The value is a map: each of its entries is a field. */
  readonly isMap?: true
  /** Never sent: it is only looked at. */
  readonly isReadOnly?: true
}

/** A part with its names resolved to ids: values by their names in the API. */
export interface Wanted {
  readonly part: Part
  readonly title: string
  readonly keys: Values
  /** All of it, as it is sent to make it. */
  readonly content: Values
}

/** One row of the table. */
export interface Kind {
  readonly fields: Readonly<Record<string, Field>>
  /** In words, without its kind. */
  readonly title: (values: Values) => string
  /** In the words of people. */
  readonly noun: string
  /** What has these keys; undefined when nothing has. @throws COMMAND_OPENSTACK_AMBIGUOUS */
  find(keys: Values, session: Session): Promise<JsonObject | undefined>
  create(wanted: Wanted, session: Session): Promise<void>
  /** `changes`: what differs, by name in the API. */
  change?(wanted: Wanted, found: JsonObject, changes: Values, session: Session): Promise<void>
  /** When a fixed field differs: the old one goes, a new one comes. Absent where something may depend on the old one: then it is a failure. */
  replace?(wanted: Wanted, found: JsonObject, session: Session): Promise<void>
  /** Absent: it goes with what it belongs to. */
  remove?(found: JsonObject, keys: Values, session: Session): Promise<void>
  /** Whether it has to stay although it is to be absent: others use it. */
  isShared?(found: JsonObject, part: Part, session: Session): Promise<boolean>
}

export interface Collection extends Pick<Kind, 'fields' | 'title' | 'noun' | 'isShared'> {
  readonly service: ServiceType
  readonly path: string
  /** Where the list is, when it is not `path`. */
  readonly listPath?: string
  /** Keys of one item and of the list in bodies. `one` undefined: the item is the body. */
  readonly one?: string
  readonly many: string
  /** Of items in the list. Default: they are as they are. */
  readonly unwrap?: (item: JsonObject) => JsonObject
  /** What has an id of another name. Default: id. */
  readonly id?: string
  /** Always asked with the list. */
  readonly query?: Values
  /** Keys that the server filters by. Default: all. */
  readonly filters?: readonly string[]
  /** The field with the owning project: of several of one name, the own one is meant. */
  readonly owner?: string
  readonly update?: 'PATCH' | 'PUT' | 'jsonPatch'
  /** It is made anew when a fixed field differs, since nothing depends on the old one. */
  readonly isReplaced?: true
  /** Must be so before it can be removed. */
  readonly beforeRemoval?: Values
}

/** A kind whose items are in a list, and have an id. */
export function collection(row: Collection): Kind {
  const at = (found: JsonObject): Target => ({ service: row.service, path: `${row.path}/${encodeURIComponent(String(found[row.id ?? 'id']))}` })
  const wrap = (content: Values): unknown => (row.one === undefined ? content : { [row.one]: content })
  const create = async ({ content }: Wanted, session: Session): Promise<void> => void (await session.write('POST', { service: row.service, path: row.path }, { json: wrap(content) }))
  const remove = async (found: JsonObject, session: Session): Promise<void> => {
    if (row.beforeRemoval) await session.write('PATCH', at(found), { json: wrap(row.beforeRemoval) })
    await session.write('DELETE', at(found))
  }
  return {
    ...row,
    find: (keys, session) => findItem(row, keys, session),
    create,
    ...(row.update && {
      change: async (_wanted, found, changes, session) => {
        if (row.update !== 'jsonPatch') return void (await session.write(row.update!, at(found), { json: wrap(changes) }))
        const operations = Object.entries(changes).map(([name, value]) => ({ op: 'add', path: `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, value }))
        await session.write('PATCH', at(found), { json: operations, type: 'application/openstack-images-v2.1-json-patch' })
      },
    }),
    ...(row.isReplaced && {
      replace: async (wanted, found, session) => {
        await remove(found, session)
        await create(wanted, session)
      },
    }),
    remove: (found, _keys, session) => remove(found, session),
  }
}

async function findItem(row: Collection, keys: Values, session: Session): Promise<JsonObject | undefined> {
  const filters = Object.entries(keys).filter(([name, value]) => value !== null && (row.filters?.includes(name) ?? true))
  const target = { service: row.service, path: row.listPath ?? row.path, query: { ...Object.fromEntries(filters), ...row.query } }
  const items = (await session.list(target, row.many)).map((item) => row.unwrap?.(item) ?? item)
  // Servers ignore filters that they do not know.
  const all = items.filter((item) => Object.entries(keys).every(([name, value]) => (item[name] ?? null) === value))
  const own = all.length > 1 && row.owner !== undefined && session.projectId !== undefined ? all.filter((item) => item[row.owner!] === session.projectId) : []
  const found = own.length > 0 ? own : all
  if (found.length > 1) throw new ApiFailure('COMMAND_OPENSTACK_AMBIGUOUS', `there are ${found.length} of ${row.noun} ${describeKeys(keys)}: ${found.map((item) => String(item[row.id ?? 'id'])).join(', ')}`)
  return found[0]
}

const describeKeys = (keys: Values): string => Object.entries(keys).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${String(value)}`).join(', ')

/** A kind that is a path, made by PUT, and has no content. */
export function link(row: Pick<Kind, 'fields' | 'title' | 'noun'> & { readonly service: ServiceType; readonly path: (keys: Values) => string }): Kind {
  const at = (keys: Values): Target => ({ service: row.service, path: row.path(keys) })
  return {
    ...row,
    find: async (keys, session) => await session.read(at(keys)),
    create: async ({ keys }, session) => void (await session.write('PUT', at(keys))),
    remove: async (_found, keys, session) => void (await session.write('DELETE', at(keys))),
  }
}

/** A kind that is always there, with values that can be set. */
export function settings(row: Pick<Kind, 'fields' | 'title' | 'noun'> & { readonly service: ServiceType; readonly path: (keys: Values) => string; readonly one: string; readonly method: 'PUT' | 'POST' }): Kind {
  const at = (keys: Values): Target => ({ service: row.service, path: row.path(keys) })
  const change = async (keys: Values, changes: Values, session: Session): Promise<void> => void (await session.write(row.method, at(keys), { json: { [row.one]: changes } }))
  return {
    ...row,
    find: async (keys, session) => (await session.read(at(keys)))?.[row.one] as JsonObject | undefined,
    create: ({ keys, content }, session) => change(keys, content, session),
    change: ({ keys }, _found, changes, session) => change(keys, changes, session),
  }
}
