/** Where a task needs a person, in words and with the commands to type. */
import type { Gate, TaskDetail, UnknownAction, Waiting } from '../api/tasks.js'
import { firstLine } from '../terminal.js'
import { countOf } from './words.js'

/** One thing that only a person can do for a task. */
export interface Need {
  readonly kind: 'resume' | 'approve' | 'settle' | 'help'
  /** The gate or action it is about; empty for the task as a whole. */
  readonly subject: string
  readonly text: string
  /** What to type; empty when no command of ours helps. */
  readonly commands: readonly string[]
}

/** Everything that waits for a person now, the task as a whole first; empty when it goes on by itself. */
export function listNeeds(task: TaskDetail): Need[] {
  if (task.state === 'ended' || task.state === 'cancelling') return []
  const needs: Need[] = []
  if (task.state === 'paused') needs.push({ kind: 'resume', subject: '', text: firstLine(/^paused/.test(task.reason) ? task.reason : (task.waitingFor?.reason ?? 'paused')), commands: [`lichen resume ${task.id}`] })
  for (const gate of task.gates) if (gate.state === 'waiting') needs.push(needOfGate(task.id, gate))
  for (const action of task.unknown) if (action.answers.length > 0) needs.push(needOfUnknown(task.id, action))
  if (needs.length === 0 && isForPerson(task.waitingFor)) needs.push({ kind: 'help', subject: '', text: firstLine(task.waitingFor.reason), commands: [] })
  return needs
}

/** Whether the wait can only be ended by a person. */
export const isForPerson = (waiting: Waiting | null): waiting is Waiting => waiting?.owner === 'operator'

const needOfGate = (task: string, { id, meaning }: Gate): Need => ({ kind: 'approve', subject: id, text: `${meaning} waits for approval`, commands: [`lichen approve ${task} ${id}`] })

const needOfUnknown = (task: string, { action, reason }: UnknownAction): Need => ({
  kind: 'settle',
  subject: action,
  text: `${action}: unknown whether it happened: ${firstLine(reason)}`,
  commands: ['succeeded', 'failed', 'run-again'].map((answer) => `lichen settle ${task} ${action} --as ${answer} --reason '…'`),
})

/** The needs as lines: what it is, and below it what to type. */
export const buildNeedLines = (needs: readonly Need[]): string[] => needs.flatMap(({ text, commands }) => [text, ...commands.map((command) => `    ${command}`)])

/** The needs in a few words: `waits for a person: 2 approvals, 1 unknown outcome`; empty when there are none. */
export function countNeeds(needs: readonly Need[]): string {
  const number = (kind: Need['kind']) => needs.filter((need) => need.kind === kind).length
  const parts = [number('resume') > 0 && 'paused', number('approve') > 0 && countOf(number('approve'), 'approval'), number('settle') > 0 && countOf(number('settle'), 'unknown outcome'), number('help') > 0 && needs[0]!.text].filter(Boolean)
  return parts.length === 0 ? '' : `waits for a person: ${parts.join(', ')}`
}
