import type { Gate, Task, TaskDetail, TaskEvent } from '../api/tasks.js'
import { firstLine, sanitizeLine, type Terminal } from '../terminal.js'
import { formatDuration, formatTime } from '../text/duration.js'
import { buildNeedLines, listNeeds } from './needs.js'
import { findUntoldNeeds, type ToldNeeds } from './told-needs.js'
import type { ActionProgress, Progress } from './progress.js'
import type { View } from './view.js'
import { countOf, describeState, formatCount, isStep, nameAction } from './words.js'

/** A view for pipes and logs: one line with a time for each change, nothing ever overwritten. */
export function openPlainView(terminal: Terminal, task: Task, progress: Progress): View {
  let saidAt = Date.now()
  let saidWait = ''
  let engine = ''
  let unchanged = 0
  let gates: ReadonlyMap<string, Gate> | undefined
  let told: ToldNeeds = new Set()
  const say = (at: number, text: string) => {
    if (unchanged > 0) terminal.line(`${formatTime(at)} ${formatCount(unchanged)} unchanged: nothing about them is other than when they last succeeded`)
    unchanged = 0
    terminal.line(`${formatTime(at)} ${text}`)
    saidAt = Date.now()
  }
  const sayGates = (task: TaskDetail) => {
    const now = new Map(task.gates.filter(isStep).map((gate) => [gate.id, gate]))
    for (const gate of now.values()) {
      // What happened before the first look was told by the events of then, or is old.
      if (gates === undefined || gates.get(gate.id)?.state === gate.state) continue
      if (gate.state === 'open' && gate.approvedBy === null) say(gate.since, `${gate.meaning}: complete`)
      if (gate.state === 'failed') say(gate.since, `${gate.meaning}: failed${gate.reason ? `: ${firstLine(gate.reason)}` : ''}`)
    }
    gates = now
  }
  const sayNeeds = (task: TaskDetail) => {
    const needs = listNeeds(task)
    const untold = findUntoldNeeds(needs, told)
    told = untold.told
    for (const need of untold.needs) {
      const [text = '', ...commands] = buildNeedLines([need])
      say(Date.now(), `${text}${commands.length > 0 ? '; to type:' : ' (a person can help)'}`)
      for (const command of commands) terminal.line(command)
    }
  }
  return {
    event: (recorded, action) => {
      if (recorded.event.type === 'actionUnchanged') {
        unchanged++
        return
      }
      const text = action ? describeActionEvent(recorded, action, task.kind) : describeTaskEvent(recorded, progress, engine)
      if (recorded.event.type === 'taskClaimed') engine = String(recorded.event['engine'])
      if (text !== undefined) say(recorded.at, text)
    },
    log: (record, isWanted) => {
      if (isWanted) say(record.at, `${record.node} ${record.action.replace(/@[^@]*$/, '')} | ${sanitizeLine(record.text)}`)
    },
    detail: (now) => {
      sayGates(now)
      sayNeeds(now)
      // Work that goes on speaks for itself; only after a silence is it said, once, what it is that takes long.
      const [first] = now.waiting
      const wait = first ?? now.waitingFor
      const text = wait ? `${first?.action ?? 'the task'} waits: ${firstLine(wait.reason)}` : ''
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
  if (event.type === 'actionSettled') return `${name}: ${String(event['by'])} settled it as ${String(event['as'])}: ${firstLine(String(event['reason']))}`
  if (event.type === 'actionRunAgain') return `${name}: ${String(event['by'])} lets it run again: ${firstLine(String(event['reason']))}`
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
    case 'pauseRequested':
      return `paused by ${describeRequest(event)}`
    case 'resumeRequested':
      return `resumed by ${String(event['by'])}`
    case 'gateApproved':
      return `${String(event['gate'])} approved by ${describeRequest(event)}`
    case 'cancelRequested':
      return `cancel requested by ${describeRequest(event)}`
    case 'taskLimitReached':
      return `the time limit of the task is over: ${firstLine(String(event['reason']))}`
    case 'retryRequested':
      return `retry requested by ${String(event['by'])}${Array.isArray(event['nodes']) ? ` on ${event['nodes'].join(', ')}` : ''}${event['graphDigest'] ? ' with new parameters' : ''}`
    case 'taskEnded':
      return `task ${progress.outcome}${progress.reason ? `: ${firstLine(progress.reason)}` : ''}`
    default:
      return undefined
  }
}

const describeRequest = (event: TaskEvent['event']): string => `${String(event['by'])}${event['reason'] ? `: ${sanitizeLine(String(event['reason']))}` : ''}`
