/**
 * The moving picture on a terminal. Owns the lower part of the screen while it is open.
 *
 * 1. Changes are drawn by a timer, not one by one: a task with thousands of events costs ten frames a second at most.
 * 2. Log lines that were asked for, and what a person can do, scroll above the picture and stay: the commands are whole there, to be copied. The picture itself
 *    stays once, as it was at the end.
 */
import { createLogUpdate } from 'log-update'
import type { LogRecord } from '../api/logs.js'
import type { Task, TaskDetail } from '../api/tasks.js'
import { sanitizeLine, type Terminal } from '../terminal.js'
import { buildFrame } from './frame.js'
import { openLogTail } from './log-tail.js'
import { buildNeedLines, listNeeds } from './needs.js'
import { findUntoldNeeds, type ToldNeeds } from './told-needs.js'
import type { Progress } from './progress.js'
import type { View } from './view.js'

/** Ten frames a second: seconds run smoothly, and a slow connection to a far terminal keeps up. */
const frameMs = 100

/** A live view on stdout, drawing until it is closed. */
export function openLiveView(terminal: Terminal, stdout: NodeJS.WriteStream, task: Task, progress: Progress): View {
  const update = createLogUpdate(stdout)
  const tail = openLogTail(10)
  const above: string[] = []
  let detail: TaskDetail | undefined
  let told: ToldNeeds = new Set()
  let trouble = ''
  const draw = (lines: readonly LogRecord[]) => {
    if (above.length > 0) {
      update.clear()
      stdout.write(`${above.splice(0).join('\n')}\n`)
    }
    update(buildFrame({ task, progress, detail, tail: lines, trouble, now: Date.now(), columns: terminal.columns(), rows: terminal.rows(), style: terminal.style }).join('\n'))
  }
  const timer = setInterval(() => draw(tail.newest()), frameMs)
  draw([])
  return {
    event: () => undefined,
    log: (record, isWanted) => {
      if (isWanted) above.push(`${terminal.style('dim', `${record.node} ${record.action.replace(/@[^@]*$/, '')} |`)} ${sanitizeLine(record.text)}`)
      else tail.add(record)
    },
    detail: (now) => {
      detail = now
      const untold = findUntoldNeeds(listNeeds(now), told)
      told = untold.told
      above.push(...buildNeedLines(untold.needs).map((line) => terminal.style('yellow', line)))
    },
    connection: (state, failure) => {
      trouble = state === 'lost' ? `connection lost (${failure?.message ?? ''}); trying again` : ''
    },
    close: () => {
      clearInterval(timer)
      // The tail was for watching; what matters of it is in the summary.
      draw([])
      update.done()
    },
  }
}
