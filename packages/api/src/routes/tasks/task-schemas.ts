/** What the API says of tasks, actions and events. */
import { Type, type Static } from '@sinclair/typebox'
import type { GateState, TaskId } from '@lichen/core'
import type { TaskSummary } from '@lichen/store'
import { Choice, OrNull, Time } from '../../schema/fields.js'

export const taskStates = ['accepted', 'running', 'paused', 'cancelling', 'ended'] as const
export const taskOutcomes = ['succeeded', 'failed', 'timedOut', 'cancelled', 'rejected'] as const
/** What a person can answer where an outcome is unknown. */
export const settleAnswers = ['succeeded', 'failed', 'runAgain'] as const
export const gateStates = ['closed', 'waiting', 'open', 'failed'] as const satisfies readonly GateState[]
export const actionStates = ['pending', 'sent', 'waitingRetry', 'skipped', 'succeeded', 'failed', 'timedOut', 'cancelled', 'unknown'] as const
export const planKinds = ['apply', 'check', 'destroy'] as const
export const KindField = Choice([...planKinds, 'operation'], '`apply` makes it so, `check` says what would change, `destroy` takes it away, `operation` does what its blueprints declare for later.')
/** Of what is done with a plan; an operation has a request of its own. */
export const PlanKindField = Choice(planKinds, '`apply` makes it so, `check` says what would change, `destroy` takes it away.')
const OutcomeField = Choice(['succeeded', 'failed', 'timedOut', 'cancelled', 'unknown'], 'How it ended; `unknown`: it cannot be known whether the effect happened.')

/** Why somebody asks; may be left out. */
export const ReasonField = (example: string) => Type.String({ maxLength: 1000, default: '', description: 'Why, for those who look later.', examples: [example] })

/** A body that holds the reason and nothing else. */
export const ReasonBody = (example: string) => Type.Object({ reason: ReasonField(example) }, { additionalProperties: false, examples: [{ reason: example }] })

export const FailureSchema = Type.Object(
  { code: Type.String({ description: 'Code for machines.' }), message: Type.String(), command: Type.Optional(Type.String({ description: 'The command that did not succeed.' })) },
  { description: 'What went wrong.' },
)

const summaryFields = {
  id: Type.String(),
  kind: KindField,
  project: Type.String(),
  deployment: Type.String(),
  state: Choice(taskStates, 'Where in its life the task is. `paused`: nothing new is begun until somebody resumes it.'),
  outcome: OrNull(Choice(taskOutcomes, 'How it ended; null before. `timedOut`: its own time limit was over; `rejected`: the plan no longer fitted when its turn came.')),
  reason: Type.String({ description: 'In words: why it ended so, or what it does.' }),
  counts: Type.Record(Type.String(), Type.Integer(), { description: 'Number of actions by state; empty before the task is planned.', examples: [{ pending: 2, sent: 1, succeeded: 9 }] }),
  seq: Type.Integer({ description: 'Sequence number of the newest event.' }),
  createdAt: Time('When it was accepted.'),
  updatedAt: Time('When its newest event was recorded.'),
}

export const TaskSchema = Type.Object(summaryFields, { $id: 'Task', description: 'A task: one run of a plan.' })

export const WaitingSchema = Type.Object(
  {
    reason: Type.String({ description: 'Why it waits, in words.' }),
    since: Time('Since when.'),
    until: OrNull(Type.Integer(), 'When the wait ends by itself, milliseconds since the epoch; null when only a person can end it.'),
    owner: Type.String({ description: 'Who can help: `engine`, `operator`, `node <id>`, `task <id>`.', examples: ['operator'] }),
  },
  { description: 'What it waits for.' },
)

const AnswersField = Type.Array(Choice(settleAnswers, 'See POST /v1/tasks/{id}/settle.'), { description: 'What a person can answer now; empty when nothing is asked.', examples: [settleAnswers] })

export const GateSchema = Type.Object(
  {
    id: Type.String({ examples: ['etcd/wave-1'] }),
    component: Type.String(),
    meaning: Type.String({ description: 'What it stands for, in words.', examples: ['wave 1 of 3 of etcd (node-1)'] }),
    state: Choice(gateStates, '`closed`: what it comes after is not complete. `waiting`: for the approval of a person. `open`: what comes after it may begin. `failed`: too much of what it comes after failed.'),
    approve: Type.Boolean({ description: 'Whether a person must approve it.' }),
    since: Time('Since when it is in this state.'),
    approvedBy: OrNull(Type.String(), 'Who approved it; null when nobody did.'),
    reason: Type.String({ description: 'Who approved it and why, or why it failed; else empty.' }),
  },
  { description: 'What the rollout waits for between two steps: a wave, a barrier, an approval.' },
)

export const UnknownActionSchema = Type.Object(
  {
    action: Type.String({ examples: ['keystone/migrate@node-2'] }),
    node: Type.String(),
    attempt: Type.Integer({ description: 'Number of the attempt.' }),
    since: Time('When it became unknown.'),
    reason: Type.String({ description: 'Why it cannot be known.' }),
    answers: AnswersField,
  },
  { description: 'An action of which nobody but a person can tell whether its effect happened.' },
)

export const TaskDetailSchema = Type.Object(
  {
    ...summaryFields,
    engine: OrNull(Type.String(), 'Name of the engine that drives it; null when none does.'),
    by: Type.String({ description: 'Who submitted it.' }),
    planDigest: Type.String({ description: 'Of the plan as it was accepted. A retry with new parameters changes the plan, not this.' }),
    previewDigest: OrNull(Type.String(), 'The preview that it must be equal to, if one was named.'),
    graphDigest: OrNull(Type.String(), 'Digest of its action graph; null before it is planned.'),
    actionCount: Type.Integer({ description: 'Number of actions; 0 before it is planned.' }),
    unchanged: Type.Integer({ description: 'How many of the succeeded actions did not run: they succeeded before, and nothing about them changed.' }),
    gates: Type.Array(GateSchema, { description: 'Gates in the order of the graph; at most 100, and those that wait for a person or failed are always among them.' }),
    gateCounts: Type.Record(Type.String(), Type.Integer(), { description: 'Number of gates by state.', examples: [{ open: 2, waiting: 1, closed: 3 }] }),
    unknown: Type.Array(UnknownActionSchema, { description: 'Actions whose outcome is unknown; at most 20, `counts.unknown` has their number.' }),
    failure: OrNull(FailureSchema, 'The first failure, of a task that did not succeed.'),
    problems: Type.Array(Type.Ref('Problem#'), { description: 'Of a rejected task: what was wrong.' }),
    waitingFor: OrNull(WaitingSchema, 'What the task as a whole waits for; null when it has ended.'),
    waiting: Type.Array(Type.Object({ action: Type.String(), node: Type.String(), state: Type.String(), ...WaitingSchema.properties }), {
      description: 'Actions that wait and why, the nearest to running first; at most 20.',
    }),
    waitingCount: Type.Integer({ description: 'How many actions have not ended.' }),
    timing: Type.Object({
      acceptedAt: Time('When it was accepted.'),
      startedAt: OrNull(Type.Integer(), 'When its first action was sent to a node, milliseconds since the epoch.'),
      endedAt: OrNull(Type.Integer(), 'When it ended, milliseconds since the epoch.'),
      durationMs: Type.Integer({ description: 'From acceptance to the end, or until now.' }),
      criticalPath: Type.Array(
        Type.Object({
          id: Type.String({ description: 'An action, or a gate that a person approved.', examples: ['keystone/install@node-2'] }),
          node: OrNull(Type.String(), 'Null of a gate.'),
          beganAt: Time('When its first attempt was sent.'),
          endedAt: Time('When it ended; of a gate: when it was approved.'),
          waitedMs: Type.Integer({ description: 'How long nothing but its turn, its node or a person held it back.' }),
        }),
        { description: 'The chain of what ended last and what it waited for, first step first: the task could not have ended sooner without one of these taking less. Since the last retry.' },
      ),
    }),
  },
  { $id: 'TaskDetail', description: 'A task with its progress, what it waits for and why it ended.' },
)

const CommandResultSchema = Type.Object(
  {
    name: Type.String(),
    kind: Type.String({ description: 'Kind of the command: `package`, `file`, `run`, …' }),
    outcome: OutcomeField,
    changed: Type.Boolean({ description: 'Something on the node was changed; in a check: would be.' }),
    settledByCheck: Type.Optional(Type.Boolean({ description: 'The command was interrupted, and its check said afterwards what had become of it.' })),
    durationMs: Type.Number(),
    exitCode: Type.Optional(Type.Integer()),
    diff: Type.Optional(Type.String({ description: 'What changed or would change: a unified diff or a sentence; secrets are masked.' })),
    failure: Type.Optional(FailureSchema),
  },
  { description: 'What came of one command.' },
)

export const AttemptResultSchema = Type.Object(
  {
    outcome: OutcomeField,
    changed: Type.Boolean(),
    commands: Type.Array(CommandResultSchema),
    outputs: Type.Record(Type.String(), Type.String(), { description: 'Outputs that are not secret.' }),
    failure: Type.Optional(FailureSchema),
    startedAt: Time('By the clock of the node.'),
    endedAt: Time('By the clock of the node.'),
  },
  { description: 'The result of the newest attempt.' },
)

export const ActionSchema = Type.Object(
  {
    id: Type.String({ examples: ['keystone/install@node-2'] }),
    component: Type.String(),
    name: Type.String({ description: 'Name of the action in its blueprint.' }),
    node: Type.String(),
    group: Type.String({ description: 'Node group of its component.' }),
    mode: Choice(['do', 'check'], '`do`: check, do, verify. `check`: the check alone.'),
    state: Choice(actionStates, 'Where in its life the action is, or how its newest attempt ended.'),
    attempt: Type.Integer({ description: 'Number of the newest attempt, from 1; 0 before the first.' }),
    isUnchanged: Type.Boolean({ description: 'It counts as succeeded without having run: it succeeded before, and nothing about it changed.' }),
    unchangedSince: OrNull(Type.String(), 'The task in which an action that `isUnchanged` last ran.'),
    begunAt: OrNull(Type.Integer(), 'When its first attempt since the task began, or was last retried, was sent.'),
    sentAt: OrNull(Type.Integer(), 'When the newest attempt was sent, milliseconds since the epoch.'),
    deadline: OrNull(Type.Integer(), 'When the engine stops waiting for the live attempt.'),
    notBefore: OrNull(Type.Integer(), 'When the next attempt may begin.'),
    endedAt: OrNull(Type.Integer()),
    reason: Type.String({ description: 'Why it was skipped, failed or is tried again.' }),
    answers: AnswersField,
    after: Type.Array(Type.String(), { description: 'Actions that must have succeeded, and gates that must be open, before.' }),
    timeoutMs: Type.Integer({ description: 'Limit of one attempt, on the clock of the node.' }),
    limitMs: OrNull(Type.Integer(), 'Limit of all attempts together, with the pauses between them; null for none.'),
    waitingFor: OrNull(WaitingSchema, 'Null when it waits for nothing.'),
    result: OrNull(AttemptResultSchema, 'Null before an attempt has ended.'),
  },
  { $id: 'Action', description: 'One vertex of the action graph with what became of it.' },
)

export const RecordedEventSchema = Type.Object(
  {
    seq: Type.Integer({ description: 'Counts from 1 without a hole.' }),
    at: Time('When it was recorded.'),
    event: Type.Unsafe<unknown>({ type: 'object', required: ['type'], properties: { type: { type: 'string' } }, additionalProperties: true, description: 'The event: `type` and the fields of that type.' }),
  },
  { $id: 'RecordedEvent', description: 'A fact about a task; appended and never changed.', examples: [{ seq: 4, at: 1_764_000_000_000, event: { type: 'actionSent', action: 'hello/greet@node-1', attempt: 1, node: 'node-1', epoch: 1, timeoutMs: 300_000, deadline: 1_764_000_600_000 } }] },
)

export type TaskAnswer = Static<typeof TaskSchema>

const untakenReason = 'accepted; it has not begun'

/** The row of a task as the API shows it. */
export const toTaskAnswer = (summary: TaskSummary): TaskAnswer => ({ ...summary, counts: { ...summary.counts }, reason: summary.state === 'accepted' && summary.reason === '' ? untakenReason : summary.reason })

/** The row of a task that was accepted a moment ago. */
export const buildAcceptedTask = (task: { readonly id: TaskId; readonly kind: TaskAnswer['kind']; readonly project: string; readonly deployment: string; readonly at: number }): TaskAnswer => ({
  id: task.id, kind: task.kind, project: task.project, deployment: task.deployment, state: 'accepted', outcome: null, reason: untakenReason, counts: {}, seq: 1, createdAt: task.at, updatedAt: task.at,
})
