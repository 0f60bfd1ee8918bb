import type { Terminal } from '../terminal.js'
import { listNeeds } from './needs.js'
import type { View } from './view.js'

/** A view for programs: NDJSON, one object with a `type` for each thing that happened. */
export function openJsonView(terminal: Terminal): View {
  const print = (object: unknown) => terminal.line(JSON.stringify(object))
  let said = '[]'
  return {
    event: ({ seq, at, event }) => print({ type: 'event', seq, at, event }),
    log: (record, isWanted) => {
      if (isWanted) print({ type: 'log', ...record })
    },
    detail: (task) => {
      const needs = listNeeds(task)
      const text = JSON.stringify(needs)
      if (text !== said) print({ type: 'waiting', needs, waitingFor: task.waitingFor })
      said = text
    },
    connection: (state, failure) => print({ type: 'connection', state, ...(failure ? { message: failure.message } : {}) }),
    close: () => undefined,
  }
}
