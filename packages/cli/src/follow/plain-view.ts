import type { Task, TaskEvent } from '../api/tasks.js'
import { firstLine, sanitizeLine, type Terminal } from '../terminal.js'
import { formatDuration, formatTime } from '../text/duration.js'
import type { ActionProgress, Progress } from './progress.js'
import type { View } from './view.js'
import { countOf, describeState, nameAction } from './words.js'

/** A view for pipes and logs: one line with a time for each change, nothing ever overwritten. */
export function openPlainView(terminal: Terminal, task: Task, progress: Progress): View {
  let saidAt = Date.now()
  let saidWait = ''
  let engine = ''
  const say = (at: number, text: string) => {
    terminal.line(`${formatTime(at)} ${text}`)
    saidAt = Date.now()
  }
  return {
    event: (recorded, action) => {
      const text = action ? describeActionEvent(recorded, action, task.kind) : describeTaskEvent(recorded, progress, engine)
      if (recorded.event.type === 'taskClaimed') engine = String(recorded.event['engine'])
      if (text !== undefined) say(recorded.at, text)
    },
    log: (record, isWanted) => {
      if (isWanted) say(record.at, `${record.node} ${record.action.replace(/@[^@]*$/, '')} | ${sanitizeLine(record.text)}`)
    },
    waiting: (whole, waits) => {
      // Work that goes on speaks for itself; only after a silence is it said, once, what it is that takes long.
      const [action, wait] = waits.entries().next().value ?? ['the task', whole]
      const text = wait ? `${action} waits: ${firstLine(wait.reason)}` : ''
      if (text === '' || text === saidWait || Date.now() - saidAt < silenceMs) return
      saidWait = text
      say(Date.now(), text)
    },
    connection: (state, failure) => terminal.note(state === 'lost' ? `connection lost (${failure?.message ?? ''}); trying again` : 'connected again'),
    close: () => undefined,
  }
}

/** Ten seconds without a line make people wonder. */
const silenceMs = 10_000

function describeActionEvent({ at, event }: TaskEvent, action: ActionProgress, kind: string): string {
  const name = nameAction(action)
  if (event.type === 'actionSent') return `${name}: ${action.attempt > 1 ? `runs again (attempt ${action.attempt})` : 'runs'}`
  if (event.type === 'actionRetryPlanned') return `${name}: tried again in ${formatDuration(Number(event['notBefore']) - at)}`
  const took = action.startedAt !== undefined && event.type === 'actionEnded' ? ` in ${formatDuration(at - action.startedAt)}` : ''
  const why = action.state === 'succeeded' ? '' : action.reason && `: ${firstLine(action.reason)}${action.result?.failure ? ` (${action.result.failure.code})` : ''}`
  return `${name}: ${describeState(action, kind)}${took}${why}`
}

function describeTaskEvent({ event }: TaskEvent, progress: Progress, engine: string): string | undefined {
  switch (event.type) {
    case 'taskAccepted':
      return 'task accepted'
    case 'taskClaimed':
      return engine !== '' && event['engine'] !== engine ? `engine ${String(event['engine'])} took over` : undefined
    case 'taskPlanned':
      return `planned: ${countOf(Number(event['actionCount']), 'action')}`
    case 'cancelRequested':
      return `cancel requested by ${String(event['by'])}${event['reason'] ? `: ${String(event['reason'])}` : ''}`
    case 'retryRequested':
      return `retry requested by ${String(event['by'])}`
    case 'taskEnded':
      return `task ${progress.outcome}${progress.reason ? `: ${firstLine(progress.reason)}` : ''}`
    default:
      return undefined
  }
}
