import type { Terminal } from '../terminal.js'
import type { View } from './view.js'

/** A view for programs: NDJSON, one object with a `type` for each thing that happened. */
export function openJsonView(terminal: Terminal): View {
  const print = (object: unknown) => terminal.line(JSON.stringify(object))
  return {
    event: ({ seq, at, event }) => print({ type: 'event', seq, at, event }),
    log: (record, isWanted) => {
      if (isWanted) print({ type: 'log', ...record })
    },
    waiting: () => undefined,
    connection: (state, failure) => print({ type: 'connection', state, ...(failure ? { message: failure.message } : {}) }),
    close: () => undefined,
  }
}
