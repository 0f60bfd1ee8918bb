/** `ms` in the words of a person: `840 ms`, `12.4 s`, `3 min 05 s`, `2 h 03 min`. Negative counts as 0. */
export function formatDuration(ms: number): string {
  const value = Math.max(0, ms)
  if (value < 1000) return `${Math.round(value)} ms`
  if (value < 59_950) return `${(value / 1000).toFixed(1)} s`
  const seconds = Math.round(value / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, '0')} min`
}

/** `3 s ago`, `5 min ago`, `2 d ago`: how long before `now` something was, both ms since the epoch. */
export function formatAge(at: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000))
  if (seconds < 90) return `${seconds} s ago`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`
  return `${Math.round(seconds / 86_400)} d ago`
}

/** `at` (ms since the epoch) as UTC to the second, e.g. `2026-03-01T12:00:00Z`. */
export const formatTime = (at: number): string => new Date(at).toISOString().replace(/\.\d{3}Z$/, 'Z')

const units: Readonly<Record<string, number>> = { s: 1, m: 60, min: 60, h: 3600, d: 86_400 }

/** Seconds of a text such as `90s`, `30m`, `24h`, `7d` or plain seconds; undefined when it is none. */
export function parseDurationS(text: string): number | undefined {
  const match = /^(\d{1,9})\s*(s|m|min|h|d)?$/.exec(text.trim())
  return match ? Number(match[1]) * units[match[2] ?? 's']! : undefined
}
