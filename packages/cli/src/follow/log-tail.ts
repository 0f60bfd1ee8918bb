import type { LogRecord } from '../api/logs.js'

/**
 * The newest lines of a log: all together, and what the commands of each action printed (without the headings of the agent). Holds at most `limit` lines of each.
 * Of an action's lines the last few of stderr stay whatever stdout prints after them: there stands the reason of a failure, and each output has a way of its own into the
 * log, so that of lines printed at nearly the same time either may come first.
 */
export interface LogTail {
  add(record: LogRecord): void
  /** Oldest first. */
  newest(): readonly LogRecord[]
  /** At most `count` lines (by default all that are held), oldest first. */
  ofAction(action: string, count?: number): readonly LogRecord[]
}

const errorLinesKept = 3

/** An empty tail. */
export function openLogTail(limit: number): LogTail {
  const all: LogRecord[] = []
  const byAction = new Map<string, LogRecord[]>()
  return {
    add: (record) => {
      all.push(record)
      if (all.length > limit) all.shift()
      if (record.stream === 'agent') return
      const lines = byAction.get(record.action) ?? []
      byAction.set(record.action, lines)
      lines.push(record)
      dropOldest(lines, limit)
    },
    newest: () => all,
    ofAction: (action, count = limit) => dropOldest([...(byAction.get(action) ?? [])], count),
  }
}

function dropOldest(lines: LogRecord[], limit: number): LogRecord[] {
  while (lines.length > limit) {
    const kept = lines.filter((line) => line.stream === 'stderr').slice(-Math.min(errorLinesKept, limit))
    lines.splice(lines.findIndex((line) => !kept.includes(line)), 1)
  }
  return lines
}
