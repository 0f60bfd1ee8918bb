/**
 * Configuration as one table of name, meaning, default and reader, for every program: read once from the environment it is given, every
 * problem reported at once, secrets masked when shown. Pure: the caller hands the environment in.
 */
import type { Problem } from '../errors.js'
import type { Parsed } from '../parsed.js'

/** What became of the text of one variable; `message` follows its name in a sentence, e.g. `must be a port, found "x"`. */
export type SettingReading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly message: string }

/** One row of the table. */
export interface Setting<T> {
  /** Name of the environment variable. */
  readonly name: string
  /** One line for the documentation. */
  readonly meaning: string
  readonly read: (text: string) => SettingReading<T>
  /** What holds when the variable is not set or empty. */
  readonly absent: { readonly kind: 'required' } | { readonly kind: 'value'; readonly value: T }
  /** The value is never printed, not even when it is malformed. */
  readonly isSecret?: boolean
}

/** Settings by the names that the program uses for them. */
export type ConfigTable = Readonly<Record<string, Setting<unknown>>>

/** The values that a table gives. */
export type ConfigValues<Table extends ConfigTable> = { readonly [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : never }

type Environment = Readonly<Record<string, string | undefined>>

/** Every value of the table, or every problem (code SERVER_CONFIGURATION, path the name of the variable). Empty and blank variables count as not set. */
export function parseConfig<Table extends ConfigTable>(table: Table, environment: Environment): Parsed<ConfigValues<Table>> {
  const problems: Problem[] = []
  const values: Record<string, unknown> = {}
  for (const [key, setting] of Object.entries(table)) {
    const reading = readSetting(setting, environment[setting.name]?.trim() ?? '')
    if (reading.ok) values[key] = reading.value
    else problems.push({ code: 'SERVER_CONFIGURATION', path: setting.name, message: reading.message })
  }
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value: values as ConfigValues<Table> }
}

function readSetting(setting: Setting<unknown>, text: string): SettingReading<unknown> {
  if (text !== '') {
    const reading = setting.read(text)
    if (reading.ok) return reading
    return { ok: false, message: setting.isSecret === true ? reading.message : `${reading.message}; found ${JSON.stringify(text)}` }
  }
  if (setting.absent.kind === 'value') return { ok: true, value: setting.absent.value }
  return { ok: false, message: `is needed: ${setting.meaning}` }
}

/** The configuration for a log line: every variable with its value, secrets as `(secret)` when they are set. */
export function describeConfig<Table extends ConfigTable>(table: Table, values: ConfigValues<Table>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(table).map(([key, setting]) => {
      const value = (values as Record<string, unknown>)[key]
      return [setting.name, setting.isSecret === true && value !== undefined ? '(secret)' : value]
    }),
  )
}

/** Names in the environment that begin with `prefix` and that no row of the table reads: most likely typing errors. Sorted. */
export function findUnknownSettings(table: ConfigTable, environment: Environment, prefix: string): string[] {
  const known = new Set(Object.values(table).map((setting) => setting.name))
  return Object.keys(environment)
    .filter((name) => name.startsWith(prefix) && !known.has(name))
    .sort()
}

/** A row whose variable must be set. */
export const requiredSetting = <T>(name: string, read: Setting<T>['read'], meaning: string, options: { readonly isSecret?: boolean } = {}): Setting<T> => ({ name, meaning, read, absent: { kind: 'required' }, ...options })

/** A row that holds `fallback` when its variable is not set. */
export const optionalSetting = <T>(name: string, read: Setting<T>['read'], fallback: T, meaning: string, options: { readonly isSecret?: boolean } = {}): Setting<T> => ({
  name, meaning, read, absent: { kind: 'value', value: fallback }, ...options,
})

/** Any text. */
export const readText = (text: string): SettingReading<string> => ({ ok: true, value: text })

/** An integer between the bounds, both included. */
export const readInteger =
  (minimum: number, maximum: number) =>
  (text: string): SettingReading<number> => {
    const value = Number(text)
    if (/^-?\d{1,15}$/.test(text) && value >= minimum && value <= maximum) return { ok: true, value }
    return { ok: false, message: `must be an integer from ${minimum} to ${maximum}` }
  }

/** One of these words. */
export const readChoice =
  <Choice extends string>(choices: readonly Choice[]) =>
  (text: string): SettingReading<Choice> => {
    const value = choices.find((choice) => choice === text)
    return value === undefined ? { ok: false, message: `must be one of ${choices.join(', ')}` } : { ok: true, value }
  }

/** Text that matches; `form` says in words what it must be. */
export const readPattern =
  (pattern: RegExp, form: string) =>
  (text: string): SettingReading<string> =>
    pattern.test(text) ? { ok: true, value: text } : { ok: false, message: `must be ${form}` }

/** `host:port`, where an IPv6 host stands in brackets. */
export const readHostAndPort = readPattern(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'host:port')
