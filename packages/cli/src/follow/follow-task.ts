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
import { isForPerson, listNeeds, type Need } from './needs.js'
import { openPlainView } from './plain-view.js'
import { addActions, applyEvent, buildProgress, type Progress } from './progress.js'
import type { View } from './view.js'

export interface Followed {
  readonly task: Task
  readonly progress: Progress
  /** The newest log lines of each action, as far as they were read. */
  readonly tail: LogTail
  /** Given up waiting for: what a person has to do before the task goes on. Empty when it ended. */
  readonly needs: readonly Need[]
}

export interface FollowOptions {
  /** Shows every line of the task log beside. */
  readonly wantsLogs: boolean
  /** Keeps quiet about what happened before. */
  readonly skipHistory: boolean
  /** Ends when the task goes no further without a person. */
  readonly exitsOnWait: boolean
}

/** Lines kept for each action, for the summary of a failure. */
const tailLimit = 15
/** How often waits, gates and needs are asked for: often enough to be believed, rarely enough not to matter to the server. */
const detailPauseMs = 1_500
/** After the end of a task its last lines are waited for this long when they were not asked for. */
const lastLinesMs = 1_000

/**
 * The task's picture at its end, or where it waits for a person.
 * @throws CliFailure `interrupted` at Ctrl-C, `unreachable` when the server stays away
 */
export async function followTask(context: Context, task: Task, options: FollowOptions): Promise<Followed> {
  const progress = buildProgress(task.createdAt)
  const tail = openLogTail(tailLimit)
  const view = context.isJson ? openJsonView(context.terminal) : context.terminal.isInteractive ? openLiveView(context.terminal, context.stdout, task, progress) : openPlainView(context.terminal, task, progress)
  const words = {
    message: `no longer following; the task ${task.id} goes on`,
    hint: `come back: lichen tasks follow ${task.id}    its log: lichen logs -f ${task.id}    stop it: lichen cancel ${task.id}`,
  }
  let needs: readonly Need[] = []
  try {
    needs = await runInterruptible((signal) => followUntilEnd({ context, task, progress, tail, view, options }, signal), words)
  } finally {
    view.close()
  }
  return { task, progress, tail, needs }
}

interface Following extends Omit<Followed, 'needs'> {
  readonly context: Context
  readonly view: View
  readonly options: FollowOptions
}

async function followUntilEnd(following: Following, signal: AbortSignal): Promise<readonly Need[]> {
  const isOver = new AbortController()
  const all = AbortSignal.any([signal, isOver.signal])
  const wantsTail = following.options.wantsLogs || (!following.context.isJson && following.context.terminal.isInteractive)
  const logs = wantsTail ? followLog(following, all) : Promise.resolve()
  let needs: readonly Need[] = []
  const details = followDetail(following, all, (found) => {
    needs = found
    isOver.abort()
  })
  // A failure of the side streams shows in the main one too: the same server is away.
  const side = Promise.allSettled([logs, details])
  try {
    await followEvents(following, all)
    if (following.progress.state === 'ended') needs = []
    if (following.options.wantsLogs && needs.length === 0) await logs
    else if (wantsTail) await Promise.race([logs, sleep(lastLinesMs, undefined, { ref: false })])
    return needs
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

/** `waits` is called when the task goes no further without a person, if that is to be the end. */
async function followDetail({ context, task, view, options }: Following, signal: AbortSignal, waits: (needs: readonly Need[]) => void): Promise<void> {
  while (!signal.aborted) {
    // Reasons are an extra: when they cannot be read now, the next round tries again.
    const now = await readTask(context.client(), task.id).catch(() => undefined)
    if (signal.aborted) return
    if (now && now.state !== 'ended') view.detail(now)
    if (now && options.exitsOnWait && isForPerson(now.waitingFor)) return waits(listNeeds(now))
    await sleep(detailPauseMs, undefined, { signal }).catch(() => undefined)
  }
}

/** The last lines that the commands of an action printed: from what was read while following, else from the server. Empty when they printed nothing or the server is away. */
export async function readLastLines(context: Context, followed: Followed, action: string, limit: number): Promise<readonly LogRecord[]> {
  const known = followed.tail.ofAction(action, limit)
  if (known.length > 0) return known
  const tail = openLogTail(limit)
  try {
    // The agent's own lines count too and repeat some of the output, and what stderr says may stand well before the end: with this many there are enough of both.
    for await (const record of readLog(context.client(), followed.task.id, { offset: 0, tail: 20 * limit, isFollowed: false, action })) tail.add(record)
  } catch {
    return []
  }
  return tail.ofAction(action)
}
