/** The clients: plans submitted at a steady rate whatever is up or down, each with an Idempotency-Key, some of them twice. */
import { type Client, Refused, type Task } from './api.js'
import { pause } from './patience.js'
import { makeRandomPlan, type NodeSet, type PlannedTask } from './plans.js'
import type { Random } from './random.js'

export interface Submission {
  readonly planned: PlannedTask
  /** Every id that was answered: one, or the key did not hold. Empty while nothing was answered. */
  readonly ids: ReadonlySet<string>
  /** Why it was refused for good. */
  readonly refusal: string | undefined
  readonly isTwice: boolean
}

export interface Load {
  readonly submissions: readonly Submission[]
  /** Submits one more plan; resolves when it has its answer. */
  submitOne(): Promise<void>
  /** From now on one plan each `intervalMs`. */
  start(intervalMs: number): void
  /** No further plans; resolves when every submission has its answer. */
  finish(): Promise<void>
}

/** How long a client goes on trying. An outage here lasts seconds. */
const clientPatienceMs = 180_000

/** Submits a plan; gives back what becomes of it, and when that is known. */
export function submitPlan(client: Client, planned: PlannedTask, isTwice: boolean): { readonly submission: Submission; readonly answered: Promise<void> } {
  const ids = new Set<string>()
  const submission = { planned, ids, refusal: undefined as string | undefined, isTwice }
  const submitOnce = async (): Promise<void> => {
    for (const end = Date.now() + clientPatienceMs; ; await pause(500)) {
      try {
        ids.add((await client.call<Task>('POST', '/v1/tasks', { kind: 'apply', plan: planned.plan }, { 'idempotency-key': planned.deployment }, clientPatienceMs)).id)
        return
      } catch (error) {
        // A node that is lost at the moment is no mistake of the plan: later.
        if (error instanceof Refused && error.message.includes('PLAN_TOO_FEW_NODES') && Date.now() < end) continue
        submission.refusal = error instanceof Refused ? error.message : `never answered: ${String(error)}`
        return
      }
    }
  }
  // The second one as from a client that was not sure whether it had been heard.
  const answered = Promise.all([submitOnce(), isTwice ? pause(50).then(submitOnce) : undefined]).then(() => undefined)
  return { submission, answered }
}

/** Clients: idle, until `start`. */
export function openLoad(client: Client, random: Random, sets: readonly NodeSet[]): Load {
  const submissions: Submission[] = []
  const answers: Promise<void>[] = []
  let timer: NodeJS.Timeout | undefined
  const submitOne = (): Promise<void> => {
    const { submission, answered } = submitPlan(client, makeRandomPlan(random, `d${submissions.length + 1}`, sets), random.next() < 0.15)
    submissions.push(submission)
    answers.push(answered)
    return answered
  }
  return {
    submissions,
    submitOne,
    start: (intervalMs) => void (timer = setInterval(() => void submitOne(), intervalMs)),
    async finish() {
      clearInterval(timer)
      await Promise.all(answers)
    },
  }
}
