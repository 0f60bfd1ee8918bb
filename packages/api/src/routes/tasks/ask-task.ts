/** From what a person asks of a task to the event that records it: core decides, this writes. */
import { answerRequest, describeCounts, LichenError, summarizeTask, type ActionState, type Problem, type TaskEvent, type TaskId, type TaskRequest, type TrackedTask } from '@lichen/core'
import type { SummaryChange } from '@lichen/store'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { describeProblems } from '../../problem/error-answers.js'
import { appendRequest, type Change } from './append-request.js'
import { toTaskAnswer, type TaskAnswer } from './task-schemas.js'

type Asked = Exclude<TaskRequest, { type: 'retry' }>

/**
 * Records what is asked of the task and answers 202 with its row. `audit`: what the audit trail says was done, and more of it.
 * @throws what core refuses it with, with every problem
 */
export async function askTask(context: Context, request: FastifyRequest, reply: FastifyReply, id: TaskId, ask: (by: string) => Asked, audit: { readonly what: string; readonly detail: string }): Promise<TaskAnswer> {
  const asked = ask(callerOf(request).name)
  const summary = await appendRequest(context, id, (view) => decideChange(view, asked))
  await context.audit.append(request, audit.what, id, audit.detail)
  reply.code(202).header('location', `/v1/tasks/${id}`)
  return toTaskAnswer(summary)
}

function decideChange(view: TrackedTask, asked: Asked): Change | undefined {
  const event = eventFor(view, asked)
  return event === null ? undefined : { event, summary: summarizeAfter(view, event) }
}

/** The event that records the request; null when what is asked for is so already. @throws the refusal of core */
export function eventFor(view: TrackedTask, request: TaskRequest): TaskEvent | null {
  const answer = answerRequest(view, request)
  if (answer.ok) return answer.event
  throw refuse(answer.problems)
}

/** The error for a request with these problems. One that is about the whole says all that there is to say by itself. */
function refuse(problems: readonly Problem[]): LichenError {
  const isWhole = problems.length === 1 && problems[0]?.path === ''
  return new LichenError(problems[0]?.code ?? 'REQUEST_CONFLICT', describeProblems(problems), isWhole ? {} : { problems })
}

/**
 * The row after the event. The view is shared and stays as it is, so this is told rather than folded; with its next event the engine writes what the fold says,
 * which is the same.
 */
function summarizeAfter(view: TrackedTask, event: TaskEvent): SummaryChange {
  const now = summarizeTask(view)
  switch (event.type) {
    case 'pauseRequested':
      return { ...now, state: 'paused', reason: `paused by ${event.by}${because(event.reason)}` }
    case 'resumeRequested':
      return view.graph === null ? { ...now, state: 'accepted', reason: `resumed by ${event.by}` } : { ...now, state: 'running', reason: describeCounts(view.counts) }
    case 'cancelRequested':
      return { ...now, state: 'cancelling', reason: `cancel requested by ${event.by}${because(event.reason)}` }
    case 'actionSettled':
      return moveCount(now, event.as)
    case 'actionRunAgain':
      return moveCount(now, 'pending')
    default:
      return now
  }
}

function moveCount(now: ReturnType<typeof summarizeTask>, to: ActionState): SummaryChange {
  const counts = { ...now.counts, unknown: now.counts.unknown - 1, [to]: now.counts[to] + 1 }
  return { ...now, counts, reason: now.state === 'running' ? describeCounts(counts) : now.reason }
}

const because = (reason: string): string => (reason === '' ? '' : `: ${reason}`)
