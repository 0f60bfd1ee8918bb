import { Type, type Static } from '@sinclair/typebox'
import { taskId, waitingFor, type ActionState, type TrackedTask, type WaitingSurroundings } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Flag, Named, NameText, NodeIdText, readFlag, TaskParams } from '../../schema/fields.js'
import { linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { answersOf } from './person-needed.js'
import { actionStates, ActionSchema } from './task-schemas.js'
import { findTaskBefore } from './task-before.js'
import { unknownTask } from './unknown-task.js'

const Query = Type.Object(
  {
    ...pageQuery(100, 1000),
    state: Type.Optional(Choice(actionStates, 'Only actions in this state.')),
    node: Type.Optional(Type.Unsafe<string>({ ...NodeIdText, description: 'Only actions on this node.' })),
    component: Type.Optional(NameText('Only actions of this component.')),
    action: Type.Optional(Type.String({ minLength: 1, maxLength: 400, description: 'Only the action with this id.' })),
    unchanged: Flag('Only actions that did not run because nothing about them changed; with `=false` only the others.'),
  },
  { additionalProperties: false },
)
type Filter = Omit<Static<typeof Query>, 'limit' | 'after'>

/** Registers GET /v1/tasks/{id}/actions. */
export function registerListActions(app: Api, { store, views, nodes, now }: Context): void {
  app.get(
    '/tasks/:id/actions',
    {
      schema: {
        operationId: 'listActions',
        tags: ['tasks'],
        summary: 'List the actions of a task with their results',
        description: 'In the order of the action graph: each action after those it depends on. Empty before the task is planned.',
        params: TaskParams,
        querystring: Query,
        response: { 200: PageSchema(Named(ActionSchema), 'A page of actions.'), ...problemAnswers(400, 404) },
      },
    },
    async (request, reply) => {
      const records = new Map((await nodes.readRecent()).map((node) => [node.id, node]))
      const id = taskId(request.params.id)
      const reading = await views.read(id)
      if (reading === undefined) throw unknownTask(id)
      const surroundings = { nodes: records, now: now(), behind: await findTaskBefore(store, id, reading) }
      const { limit, after, ...filter } = request.query
      const { items, hasMore } = selectActions(reading.view, filter, after, limit)
      const last = items.at(-1)
      return {
        items: items.map((vertex) => describeAction(reading.view, vertex, surroundings)),
        next: linkNext(request, reply, hasMore && last !== undefined ? last.action.id : null),
      }
    },
  )
}

type Vertex = TrackedTask['index']['vertices'][number]

/** The graph of a task never changes, so the id of an action is a cursor that stays. */
function selectActions({ index }: TrackedTask, filter: Filter, after: string | undefined, limit: number): { readonly items: readonly Vertex[]; readonly hasMore: boolean } {
  const start = after === undefined ? 0 : (index.byId.get(after as never)?.position ?? index.vertices.length) + 1
  const items: Vertex[] = []
  for (let at = start; at < index.vertices.length; at++) {
    const vertex = index.vertices[at]!
    if (!isWanted(vertex, filter)) continue
    if (items.length === limit) return { items, hasMore: true }
    items.push(vertex)
  }
  return { items, hasMore: false }
}

function isWanted({ action, view }: Vertex, filter: Filter): boolean {
  return (
    (filter.state === undefined || view.state === (filter.state satisfies ActionState)) &&
    (filter.node === undefined || action.node === filter.node) &&
    (filter.component === undefined || action.component === filter.component) &&
    (filter.action === undefined || action.id === filter.action) &&
    (filter.unchanged === undefined || view.isUnchanged === readFlag(filter.unchanged, false))
  )
}

function describeAction(task: TrackedTask, { action, view }: Vertex, surroundings: WaitingSurroundings): Static<typeof ActionSchema> {
  return {
    id: action.id, component: action.component, name: action.name, node: action.node, group: action.group, mode: action.mode,
    state: view.state, isUnchanged: view.isUnchanged, unchangedSince: view.isUnchanged ? (action.unchanged?.since ?? null) : null,
    attempt: view.attempt, begunAt: view.begunAt, sentAt: view.sentAt, deadline: view.deadline, notBefore: view.notBefore, endedAt: view.endedAt, reason: view.reason,
    answers: answersOf(task, view), after: [...action.after], timeoutMs: action.timeoutMs, limitMs: action.limitMs,
    waitingFor: waitingFor(task, action.id, surroundings),
    result: view.result as Static<typeof ActionSchema>['result'],
  }
}
