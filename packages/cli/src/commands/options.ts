/** Options that several commands have, and parsers for option values; each throws commander's InvalidArgumentError, which becomes a usage error with exit code 2. */
import { InvalidArgumentError, type Command } from 'commander'
import { parse } from 'yaml'
import { parseDurationS } from '../text/duration.js'

/** A whole number of at least 1. */
export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a whole number of at least 1 is expected.')
  return Number(text)
}

/** A whole number of at least 1, or null for `unlimited`. */
export const parseUses = (text: string): number | null => (text === 'unlimited' ? null : parseCount(text))

/** A byte offset: a whole number of at least 0. */
export function parseOffset(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a number of bytes is expected.')
  return Number(text)
}

/** Seconds of `90s`, `30m`, `24h`, `7d`. */
export function parseTtlS(text: string): number {
  const seconds = parseDurationS(text)
  if (!seconds) throw new InvalidArgumentError('a duration such as 30m, 24h or 7d is expected.')
  return seconds
}

/** Adds `key=value` to the labels collected so far. */
export function collectLabel(text: string, labels: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? []
  if (key === undefined || value === undefined) throw new InvalidArgumentError('key=value is expected.')
  return { ...labels, [key]: value }
}

/** Adds the text to those collected so far. */
export const collect = (text: string, texts: readonly string[] = []): readonly string[] => [...texts, text]

/** Values by component and parameter. */
export type Parameters = Readonly<Record<string, Readonly<Record<string, unknown>>>>

/** Adds `component.parameter=value` to the parameters collected so far; the value is YAML, so that `3` is a number and `[a, b]` a list. */
export function collectParameter(text: string, parameters: Parameters = {}): Parameters {
  const [, component, name, value] = /^([^.=]+)\.([^=]+)=(.*)$/s.exec(text) ?? []
  if (component === undefined || name === undefined || value === undefined) throw new InvalidArgumentError('component.parameter=value is expected.')
  return { ...parameters, [component]: { ...parameters[component], [name]: parseValue(value) } }
}

/** The value of YAML text. */
export function parseValue(text: string): unknown {
  if (text === '') return ''
  try {
    return parse(text) as unknown
  } catch {
    throw new InvalidArgumentError('the value is no YAML; put it into quotes, and those into quotes for the shell.')
  }
}

/** Whether and how to follow a task after something was asked of it. */
export interface FollowAfter {
  readonly follow?: boolean
  readonly exitOnWait?: boolean
}

/** The command with `--exit-on-wait`. */
export const addExitOnWait = (command: Command): Command => command.option('--exit-on-wait', 'stop following, with exit code 5, when the task goes no further without a person: for pipelines')

/** The command with `--follow` and `--exit-on-wait`. */
export const addFollowAfter = (command: Command): Command => addExitOnWait(command.option('-f, --follow', 'follow the task afterwards'))
