/** Parsers for option values; each throws commander's InvalidArgumentError, which becomes a usage error with exit code 2. */
import { InvalidArgumentError } from 'commander'
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
