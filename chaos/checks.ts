/**
 * What must hold after a run, whatever was killed: one function each, numbered. They compare what the system says with what the ledgers and the processes of the
 * machine say; none of them takes the system's word for anything. Each gives back what is wrong, in sentences.
 *
 *  1. Every accepted submission is exactly one task, and there is no other: none lost, none doubled.
 *  2. Every task has ended; a failed one names a failed action.
 *  3. What is reported as succeeded has happened.
 *  4. A checkable effect happened at most once, however often its command was interrupted.
 *  5. An uncheckable command began at most once, and once more for each time that the operator said it may run again.
 *  6. What is reported as never begun did not begin.
 *  7. Nothing began before what it comes after had succeeded.
 *  8. No two runs of a command overlapped in time.
 *  9. Printed lines are in the task log once and in order; all of them where the command came to its end.
 * 10. Events are numbered without a hole, the first is the acceptance, the last is the end that the task's row shows, and no attempt ended twice.
 * 11. No lease of an ended task is held, the outbox is empty, there are no dead letters.
 * 12. Every node is registered once and ready.
 * 13. No process of a command is left on any node.
 * 14. The API answered each request rightly or with 503 and Retry-After.
 * 15. No program ended by a defect of its own (an error that nobody caught).
 * 16. The run proved something: most actions succeeded, and each kind of effect is among them.
 */
import type { Action, ApiNode, LogLine, RecordedEvent, Task } from './api.js'
import { groupBy } from './group-by.js'
import { executionsOf, type Execution, type Ledger } from './ledger.js'
import type { Submission } from './load.js'
import type { Settlement } from './operator.js'
import type { Effect, PlannedComponent, PlannedTask } from './plans.js'

/** A task with everything that the API says of it, beside what was asked for. */
export interface TaskEvidence {
  readonly task: Task
  readonly planned: PlannedTask
  readonly actions: readonly Action[]
  readonly events: readonly RecordedEvent[]
  readonly log: readonly LogLine[]
}

export interface Evidence {
  readonly submissions: readonly Submission[]
  /** Every task of the store, of this run or not. */
  readonly allTasks: readonly Task[]
  readonly tasks: readonly TaskEvidence[]
  readonly ledgers: ReadonlyMap<string, Ledger>
  readonly settlements: readonly Settlement[]
  readonly nodes: readonly ApiNode[]
  readonly expectedNodes: readonly string[]
  readonly deadLetters: readonly { readonly reason: string; readonly body: string }[]
  /** Rows of the database. */
  readonly outboxRows: number
  readonly heldLeases: readonly { readonly task: string; readonly owner: string }[]
  /** Processes that commands left, in words. */
  readonly orphans: readonly string[]
  readonly wrongAnswers: readonly string[]
  /** Lines of programs that only a defect prints. */
  readonly defects: readonly string[]
}

export interface Check {
  readonly number: number
  readonly name: string
  find(evidence: Evidence): readonly string[]
}

/** An action with what it should have left in the ledger of its node. */
interface ActionEvidence {
  readonly evidence: TaskEvidence
  readonly action: Action
  readonly component: PlannedComponent
  readonly ledger: Ledger
  /** What the operator answered about it, oldest first. */
  readonly settlements: readonly Settlement[]
}

const nameOf = ({ evidence, action }: ActionEvidence): string => `${evidence.task.deployment} (${evidence.task.id}) ${action.id}`

function listActions({ tasks, ledgers, settlements }: Evidence): readonly ActionEvidence[] {
  return tasks.flatMap((evidence) =>
    evidence.actions.flatMap((action) => {
      const component = evidence.planned.components.find(({ name }) => name === action.component)
      const ledger = ledgers.get(action.node)
      return component && ledger ? [{ evidence, action, component, ledger, settlements: settlements.filter((one) => one.task === evidence.task.id && one.action === action.id) }] : []
    }),
  )
}

/** When the effect was there; undefined when it is not. */
function effectTime(ledger: Ledger, { mark, command }: Effect): number | undefined {
  const executions = executionsOf(ledger, mark)
  if (command === 'creates') return ledger.made.get(mark)
  return executions.find(({ effectAt }) => effectAt !== undefined)?.effectAt
}

const isSettled = ({ settlements }: ActionEvidence): boolean => settlements.some(({ answer }) => answer !== 'runAgain')

function findLost({ submissions, allTasks }: Evidence): string[] {
  const known = new Set(submissions.flatMap(({ ids }) => [...ids]))
  const byDeployment = groupBy(allTasks, ({ deployment }) => deployment)
  return [
    ...submissions.flatMap(({ planned: { deployment }, ids, refusal }) => {
      if (refusal !== undefined) return [`${deployment} was not accepted: ${refusal}`]
      const tasks = byDeployment.get(deployment) ?? []
      if (ids.size === 1 && tasks.length === 1 && ids.has(tasks[0]!.id)) return []
      return [`${deployment} was answered with ${[...ids].join(' and ') || 'nothing'}, and the store has ${tasks.map(({ id }) => id).join(' and ') || 'no task'}`]
    }),
    ...allTasks.filter(({ id }) => !known.has(id)).map(({ id, deployment }) => `task ${id} of ${deployment} was never submitted`),
  ]
}

function findUnended({ tasks }: Evidence): string[] {
  return tasks.flatMap(({ task, actions }) => {
    if (task.state !== 'ended') return [`${task.deployment} (${task.id}) is ${task.state}: ${task.reason}`]
    const failed = actions.filter(({ state }) => state !== 'succeeded')
    if (task.outcome === 'succeeded' && failed.length > 0) return [`${task.deployment} (${task.id}) succeeded, but ${failed.map(({ id, state }) => `${id} is ${state}`).join(', ')}`]
    if (task.outcome === 'failed' && !failed.some(({ state }) => state === 'failed' || state === 'timedOut' || state === 'unknown')) return [`${task.deployment} (${task.id}) failed, and no action did`]
    return task.outcome === 'succeeded' || task.outcome === 'failed' ? [] : [`${task.deployment} (${task.id}) ended ${task.outcome}: ${task.reason}`]
  })
}

function findFalseSuccess(evidence: Evidence): string[] {
  return listActions(evidence).flatMap((one) => {
    // Of a settled action the operator is the one who said it.
    if (one.action.state !== 'succeeded' || isSettled(one)) return []
    return one.component.effects.filter((effect) => effectTime(one.ledger, effect) === undefined).map(({ mark }) => `${nameOf(one)} is reported as succeeded, and the ledger has no effect ${mark}`)
  })
}

function findDoubles(evidence: Evidence): string[] {
  return listActions(evidence).flatMap((one) =>
    one.component.effects.filter(({ command }) => command !== 'uncheckable').flatMap(({ mark, command }) => {
      const executions = executionsOf(one.ledger, mark)
      const count = command === 'creates' ? executions.filter(({ isDouble }) => isDouble).length + (one.ledger.made.has(mark) ? 1 : 0) : executions.filter(({ effectAt }) => effectAt !== undefined).length
      return count > 1 ? [`${nameOf(one)}: the effect ${mark} happened ${count} times (${executions.map(({ id }) => id).join(', ')})`] : []
    }),
  )
}

function findRepeats(evidence: Evidence): string[] {
  return listActions(evidence).flatMap((one) =>
    one.component.effects.filter(({ command }) => command === 'uncheckable').flatMap(({ mark }) => {
      const count = executionsOf(one.ledger, mark).length
      const allowed = 1 + one.settlements.filter(({ answer }) => answer === 'runAgain').length
      return count > allowed ? [`${nameOf(one)}: the uncheckable command ${mark} began ${count} times, and ${allowed} was allowed`] : []
    }),
  )
}

function findFalseFailure(evidence: Evidence): string[] {
  return listActions(evidence).flatMap((one) => {
    const { action, component, ledger } = one
    const failure = action.result?.failure
    const isNeverBegun = action.state === 'skipped' || action.state === 'pending' || (action.attempt === 1 && /^(ORDER_|ACTION_NODE_LOST|ACTION_QUEUED)/.test(failure?.code ?? ''))
    if (!isNeverBegun || one.settlements.length > 0) return []
    return component.effects.filter(({ mark }) => executionsOf(ledger, mark).length > 0).map(({ mark }) => `${nameOf(one)} is ${action.state} (${failure?.code ?? action.reason}), and ${mark} began`)
  })
}

function findEarly(evidence: Evidence): string[] {
  const actions = listActions(evidence)
  const byComponent = groupBy(actions, ({ evidence: { task }, component }) => `${task.id} ${component.name}`)
  return actions.flatMap((one) => {
    const begun = one.component.effects.flatMap(({ mark }) => executionsOf(one.ledger, mark)).map(({ beganAt }) => beganAt)
    if (begun.length === 0) return []
    return one.component.after.flatMap((name) => byComponent.get(`${one.evidence.task.id} ${name}`) ?? []).flatMap((earlier) => {
      if (earlier.action.state !== 'succeeded') return [`${nameOf(one)} began, and ${earlier.action.id} before it is ${earlier.action.state}`]
      if (isSettled(earlier)) return []
      const last = Math.max(...earlier.component.effects.map((effect) => effectTime(earlier.ledger, effect) ?? Infinity))
      return Math.min(...begun) < last ? [`${nameOf(one)} began ${Math.round(last - Math.min(...begun))} ms before ${earlier.action.id} was done`] : []
    })
  })
}

function findOverlaps({ ledgers }: Evidence): string[] {
  return [...ledgers.values()].flatMap(({ node, executions }) =>
    [...groupBy(executions, ({ mark }) => mark)].flatMap(([mark, runs]) =>
      runs.slice(1).flatMap((run, index) => {
        const before = runs[index]!
        return before.endedAt !== undefined && before.endedAt > run.beganAt ? [`${mark} on ${node}: ${run.id} began while ${before.id} ran`] : []
      }),
    ),
  )
}

const linePattern = /^(\S+) (\d+-\d+) line (\d+) of (\d+)$/
/** What an agent writes where output was cut, for want of room or beyond a limit. */
const isCutMarker = ({ text, stream }: LogLine): boolean => stream === 'agent' && / bytes cut|the output is longer than/.test(text)

/** The texts of these lines, those that were let out in pieces put together again: a line that stays open for a moment is not kept back (agent.md). */
function joinPieces(lines: readonly LogLine[]): readonly string[] {
  const texts: string[] = []
  let open: string | undefined
  for (const { text } of lines) {
    const whole = open !== undefined && text.startsWith('⋯ ') ? open + text.slice(2) : text
    open = whole.endsWith(' ⋯') ? whole.slice(0, -2) : undefined
    if (open === undefined) texts.push(whole)
  }
  return texts
}

function findLogHoles(evidence: Evidence): string[] {
  return listActions(evidence).flatMap((one) => {
    const lines = one.evidence.log.filter(({ action }) => action === one.action.id)
    // A marker says that something is missing: then the log does not lie, wherever it is.
    const isCut = lines.some(isCutMarker)
    const byExecution = new Map<string, number[]>()
    for (const text of joinPieces(lines.filter(({ stream }) => stream === 'stdout'))) {
      const match = linePattern.exec(text)
      if (match) byExecution.set(match[2]!, [...(byExecution.get(match[2]!) ?? []), Number(match[3])])
    }
    return one.component.effects.flatMap((effect) => executionsOf(one.ledger, effect.mark).flatMap((execution) => describeHole(one, effect, execution, byExecution.get(execution.id) ?? [], isCut)))
  })
}

function describeHole(one: ActionEvidence, { lines }: Effect, { id, mark, endedAt }: Execution, numbers: readonly number[], isCut: boolean): string[] {
  const where = `${nameOf(one)}: the log of ${mark} (${id})`
  const wrong = numbers.findIndex((number, index) => (isCut ? index > 0 && number <= numbers[index - 1]! : number !== index + 1))
  if (wrong >= 0) return [`${where} has line ${numbers[wrong]} after ${wrong === 0 ? 'nothing' : `line ${numbers[wrong - 1]}`}`]
  return endedAt !== undefined && !isCut && numbers.length < lines ? [`${where} ends with line ${numbers.length} of ${lines}, and the command printed all`] : []
}

function findEventFaults({ tasks }: Evidence): string[] {
  return tasks.flatMap(({ task, events }) => {
    const where = `${task.deployment} (${task.id})`
    const hole = events.findIndex(({ seq }, index) => seq !== index + 1)
    if (hole >= 0) return [`${where}: event ${events[hole]!.seq} stands where ${hole + 1} should`]
    const last = events.at(-1)?.event
    const ends = events.filter(({ event }) => event.type === 'actionEnded').map(({ event }) => `${String(event['action'])} attempt ${String(event['attempt'])}`)
    return [
      ...(events[0]?.event.type === 'taskAccepted' ? [] : [`${where}: its first event is ${events[0]?.event.type}`]),
      ...(task.seq === events.length ? [] : [`${where}: its row says ${task.seq} events, there are ${events.length}`]),
      ...(task.state !== 'ended' || (last?.type === 'taskEnded' && last['outcome'] === task.outcome) ? [] : [`${where} is ${task.outcome}, and its last event is ${JSON.stringify(last)}`]),
      ...ends.filter((end, index) => ends.indexOf(end) !== index).map((end) => `${where}: ${end} ended twice`),
    ]
  })
}

function findStuck({ heldLeases, outboxRows, deadLetters }: Evidence): string[] {
  return [
    ...heldLeases.map(({ task, owner }) => `${owner} holds the lease of ${task}, which has ended`),
    ...(outboxRows > 0 ? [`${outboxRows} rows are in the outbox`] : []),
    ...deadLetters.map(({ reason, body }) => `a dead letter: ${reason}: ${body.slice(0, 200)}`),
  ]
}

function findNodeFaults({ nodes, expectedNodes }: Evidence): string[] {
  const found = nodes.map(({ id }) => id).sort().join(', ')
  const wanted = [...expectedNodes].sort().join(', ')
  return [...(found === wanted ? [] : [`the nodes are ${found}, and should be ${wanted}`]), ...nodes.filter(({ state }) => state !== 'ready').map(({ id, state }) => `node ${id} is ${state}`)]
}

function findVacuity(evidence: Evidence): string[] {
  const actions = listActions(evidence)
  const succeeded = actions.filter(({ action, settlements }) => action.state === 'succeeded' && settlements.length === 0)
  const missing = (['unless', 'creates', 'flaky', 'uncheckable'] as const).filter((command) => !succeeded.some(({ component }) => component.effects.some((effect) => effect.command === command)))
  return [
    ...(succeeded.length >= actions.length * 0.6 && actions.length > 0 ? [] : [`only ${succeeded.length} of ${actions.length} actions succeeded by themselves`]),
    ...missing.map((command) => `no ${command} action succeeded`),
  ]
}

/** All checks, in the order of their numbers. */
export const checks: readonly Check[] = [
  { number: 1, name: 'every accepted submission is exactly one task', find: findLost },
  { number: 2, name: 'every task has ended, and says rightly how', find: findUnended },
  { number: 3, name: 'what is reported as succeeded has happened', find: findFalseSuccess },
  { number: 4, name: 'a checkable effect happened at most once', find: findDoubles },
  { number: 5, name: 'an uncheckable command began at most once, unless told to run again', find: findRepeats },
  { number: 6, name: 'what is reported as never begun did not begin', find: findFalseFailure },
  { number: 7, name: 'nothing began before what it comes after', find: findEarly },
  { number: 8, name: 'no two runs of a command overlapped', find: findOverlaps },
  { number: 9, name: 'printed lines are in the log once and in order', find: findLogHoles },
  { number: 10, name: 'events are whole and agree with the task', find: findEventFaults },
  { number: 11, name: 'no stuck lease, outbox row or dead letter', find: findStuck },
  { number: 12, name: 'every node is registered once and ready', find: findNodeFaults },
  { number: 13, name: 'no process of a command is left', find: ({ orphans }) => orphans },
  { number: 14, name: 'the API answered rightly, or 503 with Retry-After', find: ({ wrongAnswers }) => wrongAnswers },
  { number: 15, name: 'no program ended by a defect', find: ({ defects }) => defects },
  { number: 16, name: 'the run proved something', find: findVacuity },
]

export interface CheckResult {
  readonly number: number
  readonly name: string
  readonly problems: readonly string[]
}

/** What every check found; nothing where it holds. */
export const runChecks = (evidence: Evidence): readonly CheckResult[] => checks.map(({ number, name, find }) => ({ number, name, problems: find(evidence) }))
