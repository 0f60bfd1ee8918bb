/**
 * Following a task to its end: events into a picture, the picture to the screen, and a summary. Owns the streams while it follows.
 *
 * 1. The task does not depend on being followed: leaving early changes nothing at the server.
 * 2. The end is an event. A task that was retried has an older end in its history; only an end at or after the task's newest event counts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { readLog, type LogRecord } from '../api/logs.js'
import { readResumed } from '../api/resumed-stream.js'
import { readActions, readTask, type Task, type TaskEvent } from '../api/tasks.js'
import type { Context } from '../context.js'
import { runInterruptible } from '../interrupt.js'
import { openJsonView } from './json-view.js'
import { openLiveView } from './live-view.js'
import { openLogTail, type LogTail } from './log-tail.js'
import { openPlainView } from './plain-view.js'
import { addActions, applyEvent, buildProgress, type Progress } from './progress.js'
import type { View } from './view.js'

export interface Followed {
  readonly task: Task
  readonly progress: Progress
  /** The newest log lines of each action, as far as they were read. */
  readonly tail: LogTail
}

/** Lines kept for each action, for the summary of a failure. */
const tailLimit = 15
/** How often the reasons of waiting are asked for: often enough to be believed, rarely enough not to matter to the server. */
const waitsPauseMs = 1_500
/** After the end of a task its last lines are waited for this long when they were not asked for. */
const lastLinesMs = 1_000

/**
 * The task's picture at its end. `wantsLogs` shows every line of its log beside; `skipHistory` keeps quiet about what happened before.
 * @throws CliFailure `interrupted` at Ctrl-C, `unreachable` when the server stays away
 */
export async function followTask(context: Context, task: Task, options: { readonly wantsLogs: boolean; readonly skipHistory: boolean }): Promise<Followed> {
  const progress = buildProgress(task.createdAt)
  const tail = openLogTail(tailLimit)
  const view = context.isJson ? openJsonView(context.terminal) : context.terminal.isInteractive ? openLiveView(context.terminal, context.stdout, task, progress) : openPlainView(context.terminal, task, progress)
  const words = {
    message: `no longer following; the task ${task.id} goes on`,
    hint: `come back: lichen tasks follow ${task.id}    its log: lichen logs -f ${task.id}    stop it: lichen tasks cancel ${task.id}`,
  }
  try {
    await runInterruptible((signal) => followUntilEnd({ context, task, progress, tail, view, options }, signal), words)
  } finally {
    view.close()
  }
  return { task, progress, tail }
}

interface Following extends Followed {
  readonly context: Context
  readonly view: View
  readonly options: { readonly wantsLogs: boolean; readonly skipHistory: boolean }
}

async function followUntilEnd(following: Following, signal: AbortSignal): Promise<void> {
  const isOver = new AbortController()
  const all = AbortSignal.any([signal, isOver.signal])
  const wantsTail = following.options.wantsLogs || (!following.context.isJson && following.context.terminal.isInteractive)
  const logs = wantsTail ? followLog(following, all) : Promise.resolve()
  const waits = following.context.isJson ? Promise.resolve() : followWaits(following, all)
  // A failure of the side streams shows in the main one too: the same server is away.
  const side = Promise.allSettled([logs, waits])
  try {
    await followEvents(following, signal)
    if (following.options.wantsLogs) await logs
    else if (wantsTail) await Promise.race([logs, sleep(lastLinesMs, undefined, { ref: false })])
  } finally {
    isOver.abort()
    await side
  }
}

async function followEvents({ context, task, progress, view, options }: Following, signal: AbortSignal): Promise<void> {
  const events = readResumed<TaskEvent>(context.client(), {
    path: `/v1/tasks/${encodeURIComponent(task.id)}/events`,
    query: { follow: true },
    positionName: 'after',
    position: 0,
    positionAfter: (recorded) => recorded.seq,
    isEnded: async (position) => {
      const now = await readTask(context.client(), task.id)
      return now.state === 'ended' && position >= now.seq
    },
    onConnection: (state, failure) => view.connection(state, failure),
    signal,
  })
  for await (const recorded of events) {
    if (recorded.event.type === 'taskPlanned') addActions(progress, await readActions(context.client(), task.id))
    const action = applyEvent(progress, recorded)
    if (!options.skipHistory || recorded.seq > task.seq) view.event(recorded, action)
    if (progress.state === 'ended' && recorded.seq >= task.seq) return
  }
}

async function followLog({ context, task, tail, view, options }: Following, signal: AbortSignal): Promise<void> {
  for await (const record of readLog(context.client(), task.id, { offset: 0, isFollowed: true, signal })) {
    tail.add(record)
    view.log(record, options.wantsLogs)
  }
}

async function followWaits({ context, task, view }: Following, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(waitsPauseMs, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return
    // Reasons are an extra: when they cannot be read now, the next round tries again.
    const now = await readTask(context.client(), task.id).catch(() => undefined)
    if (now) view.waiting(now.waitingFor, new Map(now.waiting.map((waiting) => [waiting.action, waiting])))
  }
}

/** The last lines that the commands of an action printed: from what was read while following, else from the server. Empty when they printed nothing or the server is away. */
export async function readLastLines(context: Context, followed: Followed, action: string, limit: number): Promise<readonly LogRecord[]> {
  const known = followed.tail.ofAction(action)
  if (known.length > 0) return known.slice(-limit)
  const tail = openLogTail(limit)
  try {
    // The agent's own lines count too and repeat some of the output: with this many there are enough others among them.
    for await (const record of readLog(context.client(), followed.task.id, { offset: 0, tail: 5 * limit, isFollowed: false, action })) tail.add(record)
  } catch {
    return []
  }
  return tail.ofAction(action)
}
