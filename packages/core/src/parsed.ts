import type { Problem } from './errors.js'

/** What became of unknown input: the typed value, or every problem found in it. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problems: readonly Problem[] }
