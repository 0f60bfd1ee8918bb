/**
 * The frame around every command: check → do → check again, or the check alone; its time limit; what a crash in the middle means. Gives a result, always.
 *
 * | before                    | mode do                                  | mode check            |
 * | effect there              | succeeded, unchanged                     | succeeded, unchanged  |
 * | not there                 | do, verify, succeeded, changed           | succeeded, changed    |
 * | interrupted, there        | succeeded, changed, settledByCheck       |                       |
 * | interrupted, not there    | do, verify: as if it had not begun       |                       |
 * | …, and its time is over   | timedOut                                 |                       |
 * | interrupted, uncheckable  | unknown                                  |                       |
 * | resumed                   | the rest of do, verify: as if nothing had happened |             |
 */
import type { Command, CommandResult, Failure, Outcome } from '@lichen/core'
import { effectOf, type Effect } from '../primitives/index.js'
import type { CommandContext, Outputs } from '../primitives/primitive.js'
import { isNoSpace } from '../disk/disk.js'
import type { CommandEnd } from '../journal/journal.js'

/** Longest diff in a result. */
const maxDiffBytes = 64 * 1024
const noOutputs: Outputs = { plain: {}, secret: {} }

interface Course {
  readonly outcome: Outcome
  readonly changed: boolean
  readonly settledByCheck?: boolean
  readonly exitCode?: number | undefined
  readonly difference?: string | undefined
  readonly failure?: Failure | undefined
  readonly outputs?: Outputs | undefined
}

/**
 * Whether the command may have begun in an earlier run of the agent. `overdue`: it may, and there is no time left to do it again. `resumed`: it has, and its program
 * was followed to its end: what `acting.run` gives back first is that.
 */
export type Beginning = 'fresh' | 'interrupted' | 'overdue' | 'resumed'

/** What a command's parts may use: its checks run programs as children, its doing runs them supervised. */
export interface CommandContexts {
  readonly looking: CommandContext
  readonly acting: CommandContext
}

/** Runs the command to its end. `begin` records that it begins; when that is not possible, nothing is run and it has failed. */
export async function runCommand(command: Command, { looking: context, acting }: CommandContexts, beginning: Beginning, begin?: () => Promise<void>): Promise<CommandEnd> {
  const { clock } = context.deadline
  const began = clock.elapsed()
  let course: Course
  try {
    await begin?.()
    course = await follow(effectOf(command), { looking: context, acting }, beginning)
  } catch (error) {
    course = { outcome: 'failed', changed: false, failure: toFailure(error) }
  }
  const { reason, message } = acting.deadline.reason ? acting.deadline : context.deadline
  if (course.outcome !== 'succeeded' && course.outcome !== 'unknown' && (reason === 'timedOut' || reason === 'cancelled')) {
    course = { ...course, outcome: reason, failure: { code: reason === 'timedOut' ? 'COMMAND_TIMED_OUT' : 'COMMAND_CANCELLED', message } }
  }
  return toEnd(command, course, context, clock.elapsed() - began)
}

async function follow(effect: Effect, contexts: CommandContexts, beginning: Beginning): Promise<Course> {
  if (beginning === 'resumed') return await bringAbout(effect, contexts, undefined)
  const { looking: context } = contexts
  const isInterrupted = beginning !== 'fresh'
  if (isInterrupted) effect.recover()
  if (!effect.isCheckable && isInterrupted) return unknown
  const before = await effect.check(context)
  if ('failure' in before) return { outcome: 'failed', changed: false, failure: before.failure }
  if (before.isThere) return { outcome: 'succeeded', changed: isInterrupted && effect.hasEffect, outputs: before.outputs, ...(isInterrupted && effect.hasEffect && { settledByCheck: true }) }
  if (context.mode === 'check') return { outcome: 'succeeded', changed: true, difference: before.difference }
  if (context.deadline.reason) return { outcome: 'failed', changed: false }
  if (beginning === 'overdue') return overdue
  return await bringAbout(effect, contexts, before.difference)
}

async function bringAbout(effect: Effect, { looking, acting }: CommandContexts, expected: string | undefined): Promise<Course> {
  const done = await effect.do(acting)
  const difference = done.difference ?? expected
  if (done.failure) return { outcome: 'failed', changed: true, exitCode: done.exitCode, difference, failure: done.failure }
  const after = await effect.verify(looking)
  const base = { changed: true, exitCode: done.exitCode, difference }
  if ('failure' in after) return { ...base, outcome: 'failed', failure: after.failure }
  if (!after.isThere) return { ...base, outcome: 'failed', failure: { code: 'COMMAND_NOT_VERIFIED', message: `done without an error, but the effect is not there: ${after.difference}` } }
  return { outcome: 'succeeded', outputs: done.outputs ?? after.outputs, ...base }
}

const unknown: Course = {
  outcome: 'unknown',
  changed: false,
  failure: { code: 'COMMAND_INTERRUPTED', message: 'the agent or the node stopped while the command ran, and the command cannot be checked: whether it took effect is unknown' },
}

const overdue: Course = {
  outcome: 'timedOut',
  changed: true,
  failure: { code: 'COMMAND_TIMED_OUT', message: 'the agent or the node stopped while the command ran; its effect is not there, and the time of the attempt is over' },
}

function toEnd(command: Command, course: Course, { log: { masker } }: CommandContext, durationMs: number): CommandEnd {
  const { exitCode, difference, outputs = noOutputs } = course
  const failure = course.failure && { ...course.failure, message: masker.maskText(course.failure.message), command: command.name }
  const result: CommandResult = {
    name: command.name,
    kind: command.kind,
    outcome: course.outcome,
    changed: course.changed,
    ...(course.settledByCheck && { settledByCheck: true }),
    durationMs: Math.round(durationMs),
    ...(exitCode !== undefined && { exitCode }),
    ...(difference !== undefined && difference !== '' && { diff: cutDiff(masker.maskText(difference)) }),
    ...(failure && { failure }),
  }
  const plain = Object.fromEntries(Object.entries(outputs.plain).map(([name, value]) => [name, masker.maskText(value)]))
  return { result, outputs: plain, secretOutputs: outputs.secret }
}

function cutDiff(diff: string): string {
  const bytes = Buffer.from(diff, 'utf8')
  if (bytes.length <= maxDiffBytes) return diff
  const marker = `\n… ${bytes.length} bytes in all, the rest is cut …`
  // `toString` makes a half character at the cut U+FFFD; it is taken away again.
  return bytes.toString('utf8', 0, maxDiffBytes - Buffer.byteLength(marker) - 4).replace(/\ufffd+$/, '') + marker
}

/** An error that a primitive let through: of the file system, with its code; anything else is a defect that must not end the agent. */
function toFailure(error: unknown): Failure {
  const { code, message } = error as NodeJS.ErrnoException
  if (isNoSpace(error)) return { code: 'COMMAND_DISK_FULL', message: `the disk is full: ${message}` }
  if (typeof code === 'string') return { code: 'COMMAND_FAILED', message }
  return { code: 'COMMAND_FAILED', message: `the agent failed in a way it should not: ${error instanceof Error ? error.message : String(error)}` }
}
