/** A plan carried out by Lichen, to the end of its task. */
import { setTimeout as sleep } from 'node:timers/promises'
import { reservedComponent } from '@lichen/core'
import { callApi, type ServerAddress } from '@lichen/demo'
import type { Ran } from './making.js'
import { placeOf } from './plain-script.js'

interface Task {
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
  readonly timing: { readonly durationMs: number; readonly acceptedAt: number; readonly criticalPath: readonly { readonly id: string; readonly beganAt: number; readonly endedAt: number; readonly waitedMs: number }[] }
}

interface Action {
  readonly id: string
  readonly component: string
  readonly node: string
  readonly attempt: number
  readonly begunAt: number | null
  readonly endedAt: number | null
  readonly result: { readonly commands: readonly { readonly changed: boolean }[] } | null
}

export interface PlanRun extends Ran {
  /** In words, how the task ended. */
  readonly reason: string
  readonly actions: readonly Action[]
}

export interface RunOptions {
  /** What takes longer is not measured any more. */
  readonly limitMs: number
  readonly log: (line: string) => void
}

/** From its acceptance to its recorded end; its critical path is logged. @throws when it did not succeed in time */
export async function runPlan(server: ServerAddress, request: object, { limitMs, log }: RunOptions): Promise<PlanRun> {
  const { id } = await callApi<{ readonly id: string }>(server, 'POST', '/v1/tasks', request)
  const until = performance.now() + limitMs
  let task: Task
  do {
    // Its times are the task's own, so nothing is gained by asking more often.
    await sleep(1000)
    task = await callApi<Task>(server, 'GET', `/v1/tasks/${id}`)
    if (performance.now() > until) throw new Error(`task ${id} has not ended within ${limitMs / 1000} s: ${task.reason}`)
  } while (task.state !== 'ended')
  if (task.outcome !== 'succeeded') throw new Error(`task ${id} ${task.outcome}: ${task.reason}`)
  const { durationMs, acceptedAt, criticalPath } = task.timing
  for (const step of criticalPath) log(`critical path: ${step.id}, waited ${step.waitedMs} ms, took ${step.endedAt - step.beganAt} ms`)
  const { items } = await callApi<{ readonly items: readonly Action[] }>(server, 'GET', `/v1/tasks/${id}/actions?limit=1000`)
  const actions = items.filter(({ component }) => component !== reservedComponent)
  for (const action of actions) if (action.attempt > 1) log(`${action.id} took ${action.attempt} attempts`)
  const spans = actions.filter(({ begunAt, endedAt }) => begunAt !== null && endedAt !== null).map(({ id: action, begunAt, endedAt }) => [action, { beganMs: begunAt! - acceptedAt, endedMs: endedAt! - acceptedAt }] as const)
  return { wallS: durationMs / 1000, spans: new Map(spans), reason: task.reason, actions }
}

/** Places of commands that had nothing to do. What another attempt found may be what the one before had made. */
export const findUnchanged = (actions: readonly Action[]): string[] =>
  actions.filter(({ attempt }) => attempt === 1).flatMap(({ id, result }) => (result?.commands ?? []).flatMap(({ changed }, index) => (changed ? [] : [placeOf(id, index)])))
