import type { LogRecord } from '../api/logs.js'

/** The newest lines of a log: all together, and what the commands of each action printed (without the headings of the agent). Holds at most `limit` lines of each. */
export interface LogTail {
  add(record: LogRecord): void
  /** Oldest first. */
  newest(): readonly LogRecord[]
  ofAction(action: string): readonly LogRecord[]
}

/** An empty tail. */
export function openLogTail(limit: number): LogTail {
  const all: LogRecord[] = []
  const byAction = new Map<string, LogRecord[]>()
  const push = (lines: LogRecord[], record: LogRecord) => {
    lines.push(record)
    if (lines.length > limit) lines.shift()
  }
  return {
    add: (record) => {
      push(all, record)
      if (record.stream === 'agent') return
      const lines = byAction.get(record.action) ?? []
      byAction.set(record.action, lines)
      push(lines, record)
    },
    newest: () => all,
    ofAction: (action) => byAction.get(action) ?? [],
  }
}
