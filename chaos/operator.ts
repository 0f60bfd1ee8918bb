/**
 * A person who answers for actions whose outcome is unknown, as a person would: looks at the node (its ledger), then says `succeeded`, `failed` or
 * `runAgain`.
 */
import type { Action, Client, Task, TaskDetail, UnknownAction } from './api.js'
import { executionsOf, type Ledger } from './ledger.js'
import { pause } from './patience.js'
import type { PlannedTask } from './plans.js'

export type OperatorAnswer = 'succeeded' | 'failed' | 'runAgain'

export interface Settlement {
  readonly task: string
  readonly action: string
  readonly attempt: number
  readonly answer: OperatorAnswer
}

export interface Operator {
  /** Every answer that was tried, also where the answer of the API was lost. */
  readonly settlements: readonly Settlement[]
  /** Looks once at all tasks that have not ended and answers what is asked. Gives back how many have not ended. */
  look(): Promise<number>
  stop(): Promise<void>
}

export interface OperatorOptions {
  readonly client: Client
  readonly plannedOf: (deployment: string) => PlannedTask | undefined
  readonly readLedger: (node: string) => Ledger
  readonly intervalMs: number
}

/** An operator at work, who looks each `intervalMs`. */
export function startOperator(options: OperatorOptions): Operator {
  const { client, plannedOf, intervalMs } = options
  const settlements: Settlement[] = []
  let isStopped = false

  async function answer(task: TaskDetail, asked: UnknownAction, planned: PlannedTask): Promise<void> {
    const settlement = { task: task.id, action: asked.action, attempt: asked.attempt, answer: chooseAnswer(options.readLedger(asked.node), planned, asked.action) }
    settlements.push(settlement)
    await client.ask('POST', `/v1/tasks/${task.id}/settle`, { action: asked.action, answer: settlement.answer, reason: 'as the ledger of the node says' })
  }

  async function look(): Promise<number> {
    const tasks = (await client.list<Task>('/v1/tasks?project=chaos&limit=200')).filter(({ state }) => state !== 'ended')
    for (const { id, counts } of tasks) {
      if (!counts['unknown']) continue
      const detail = await client.call<TaskDetail>('GET', `/v1/tasks/${id}`)
      const planned = plannedOf(detail.deployment)
      if (planned) for (const asked of detail.unknown) if (asked.answers.length > 0) await answer(detail, asked, planned)
    }
    return tasks.length
  }

  const working = (async () => {
    while (!isStopped) {
      await pause(intervalMs)
      // The API may be down: next time.
      if (!isStopped) await look().catch(() => undefined)
    }
  })()
  return {
    settlements, look,
    async stop() {
      isStopped = true
      await working
    },
  }
}

/** What the ledger says of the action that nobody else can tell about. */
function chooseAnswer(ledger: Ledger, planned: PlannedTask, action: Action['id']): OperatorAnswer {
  const component = planned.components.find(({ name }) => action.startsWith(`${name}/`))
  const mark = component?.effects.find(({ command }) => command === 'uncheckable')?.mark
  // Not one of those that cannot be checked: that is for checks.ts to say; let the task end.
  if (mark === undefined) return 'failed'
  const [execution] = executionsOf(ledger, mark)
  if (execution === undefined) return 'runAgain'
  return execution.effectAt === undefined ? 'failed' : 'succeeded'
}
