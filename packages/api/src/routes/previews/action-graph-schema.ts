import { Type } from '@sinclair/typebox'
import { Choice, outputTypes } from '../../schema/fields.js'

const SpecSchema = Type.Unsafe<unknown>({ type: 'object', additionalProperties: true, description: 'What the command does, by its kind. Secrets and outputs of earlier actions stand here as references: `⟦secret:NAME⟧`, `⟦output:ACTION#NAME⟧`.' })

const Limit = (description: string) => Type.Union([Type.Integer(), Type.Null()], { description })

/** The fields of an action graph. */
export const graphFields = {
  kind: Choice(['apply', 'check', 'destroy', 'operation'], 'What the task does.'),
  project: Type.String(),
  deployment: Type.String(),
  actions: Type.Array(
    Type.Object({
      id: Type.String(),
      component: Type.String({ description: '`lichen` for the actions that look after unchanged ones.' }),
      name: Type.String(),
      node: Type.String(),
      group: Type.String({ description: 'Node group of the component.' }),
      mode: Choice(['do', 'check'], 'How its commands run.'),
      after: Type.Array(Type.String(), { description: 'Actions that must have succeeded, and gates that must be open, before.' }),
      commands: Type.Array(Type.Object({ name: Type.String(), kind: Type.String(), timeoutMs: Type.Integer(), spec: SpecSchema })),
      timeoutMs: Type.Integer({ description: 'Limit of one attempt.' }),
      limitMs: Limit('Limit of all attempts together, from the first on; null: none.'),
      retry: Type.Object({ attempts: Type.Integer(), backoffMs: Type.Number() }),
      maxParallel: Type.Optional(Type.Integer({ description: 'How many of the same action of its component may be begun and not ended at once.' })),
      key: Type.String({ description: 'Content key: the same key, the same effect on the same node.' }),
      unchanged: Type.Union(
        [
          Type.Object({
            since: Type.String({ description: 'The task in which it last succeeded, with this key.' }),
            outputs: Type.Record(Type.String(), Type.String()),
            check: Type.Union([Type.String(), Type.Null()], { description: 'The action that looks whether its effect is still there.' }),
          }),
          Type.Null(),
        ],
        { description: 'Why it is left out, unless its effect is gone or something that it comes after changes. Null: it runs.' },
      ),
      verifies: Type.Array(Type.Object({ action: Type.String(), commands: Type.Integer() }), { description: 'Whose effects it looks after, and with how many of its commands, in their order.' }),
      isDeparture: Type.Optional(Type.Literal(true, { description: 'It takes away what no longer belongs to the deployment.' })),
      isAddition: Type.Optional(Type.Literal(true, { description: 'Its group got the node since the last apply.' })),
      isPreflight: Type.Optional(Type.Literal(true, { description: 'Looks whether its node can be what it is to be, before anything else begins.' })),
    }),
    { description: 'Each action after those it depends on.' },
  ),
  gates: Type.Array(
    Type.Object({
      id: Type.String(),
      component: Type.String(),
      after: Type.Array(Type.String(), { description: 'Actions and gates that must be settled before it opens.' }),
      approve: Type.Boolean({ description: 'A person must approve before it opens.' }),
      maxFailures: Type.Integer({ description: 'How many of the actions before it may fail.' }),
      meaning: Type.String({ description: 'What it stands for: a wave, an approval, or all of a component.', examples: ['wave 1 of 3 of etcd (canary: node-1)'] }),
      isOrderOnly: Type.Optional(Type.Literal(true, { description: 'It says what goes first, and no more.' })),
    }),
    { description: 'What opens between actions: waves, approvals, and barriers that stand for many actions.' },
  ),
  departures: Type.Optional(
    Type.Array(
      Type.Object({
        departures: Type.Array(
          Type.Object({
            component: Type.String(),
            nodes: Type.Array(Type.String(), { description: 'The nodes that it leaves.' }),
            isWhole: Type.Boolean({ description: 'It leaves them because the plan does not have it any more.' }),
            actions: Type.Array(Type.String(), { description: 'All that takes it away, in earlier tasks too.' }),
            done: Type.Array(Type.String(), { description: 'Of these: what succeeded in earlier tasks, and is not in this graph.' }),
          }),
        ),
      }),
      { description: 'What leaves the deployment, by the plan that it was applied with, newest first. Absent: nothing.' },
    ),
  ),
  secrets: Type.Array(Type.Object({ name: Type.String(), length: Type.Integer() }), { description: 'Secrets that are generated once for the deployment; their names alone.' }),
  outputs: Type.Optional(
    Type.Array(
      Type.Object({
        component: Type.String(),
        name: Type.String(),
        type: Choice(outputTypes, 'Of its value.'),
        description: Type.String(),
        isSecret: Type.Boolean(),
        value: Type.Unsafe<unknown>({ description: 'With references in place of secrets and of what actions will give.' }),
        needs: Type.Array(Type.String(), { description: 'Actions that must have succeeded for it to be there.' }),
      }),
      { description: 'What people will get of it; missing where there is nothing, and when it is no apply.' },
    ),
  ),
  placement: Type.Record(Type.String(), Type.Array(Type.String()), { description: 'Node group → nodes chosen.' }),
  rollout: Type.Object({
    maxParallelNodes: Type.Integer(),
    maxFailures: Limit('Of the whole plan; null: only groups and waves limit them.'),
    groups: Type.Record(Type.String(), Type.Object({ maxFailures: Limit('Null: as the whole plan.'), maxParallelNodes: Limit('Null: as the whole plan.') }), { description: 'Limits of single node groups.' }),
  }),
  limits: Type.Object({ queuedMs: Limit('How long an action that could begin may wait.'), taskMs: Limit('How long the task may take.') }),
  digest: Type.String({ description: 'SHA-256 over all of it: name it as `previewDigest` when submitting.' }),
}

/** An action graph as answers carry it. */
export const ActionGraphSchema = Type.Object(graphFields, { $id: 'ActionGraph', description: 'What a plan means on these nodes, in full.' })

/** A preview: an action graph, and what it comes to. */
export const PreviewSchema = Type.Object(
  {
    counts: Type.Object(
      {
        toRun: Type.Integer({ description: 'Actions that run in any case.' }),
        unchanged: Type.Integer({ description: 'Actions that are left out, unless their effect is gone or something that they come after changes.' }),
        verifying: Type.Integer({ description: 'Actions that look whether the effects of unchanged ones are still there.' }),
        approvals: Type.Integer({ description: 'Gates at which a person is asked.' }),
        toRunAfterApproval: Type.Integer({ description: 'Of the actions that run: those that come after such a gate.' }),
        departing: Type.Integer({ description: 'Of the actions that run: those that take away what leaves.' }),
      },
      { description: 'The graph in numbers.' },
    ),
    ...graphFields,
  },
  { $id: 'Preview', description: 'What a task would do, in full and in numbers.' },
)
