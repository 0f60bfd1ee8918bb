import { Type, type Static } from '@sinclair/typebox'
import { taskId, type TaskId } from '@lichen/core'
import type { TaskSummary } from '@lichen/store'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Named, NameText, TaskIdText } from '../../schema/fields.js'
import { linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { needsPerson } from './person-needed.js'
import { taskOutcomes, taskStates, TaskSchema, toTaskAnswer } from './task-schemas.js'

const Query = Type.Object(
  {
    ...pageQuery(50, 500),
    after: Type.Optional(Type.Unsafe<string>({ ...TaskIdText, description: 'Cursor: `next` of the page before. Tasks accepted meanwhile do not shift the pages.' })),
    project: Type.Optional(NameText('Only tasks of this project.')),
    deployment: Type.Optional(NameText('Only tasks of this deployment.')),
    state: Type.Optional(Choice(taskStates, 'Only tasks in this state.')),
    outcome: Type.Optional(Choice(taskOutcomes, 'Only tasks that ended so.')),
    waiting: Type.Optional(Choice(['operator'], 'Only tasks that wait for a person: paused, at an approval, or with an action whose outcome is unknown. A page may have fewer items than `limit` and a next one all the same.')),
  },
  { additionalProperties: false },
)
type Filter = Omit<Static<typeof Query>, 'limit' | 'after' | 'waiting'>

// Each of them is folded from its events unless it is known: some milliseconds for most tasks, and nobody has more that run at once.
const lookedAtOnce = 200

/** Registers GET /v1/tasks. */
export function registerListTasks(app: Api, { store, views }: Context): void {
  app.get(
    '/tasks',
    {
      schema: {
        operationId: 'listTasks',
        tags: ['tasks'],
        summary: 'List tasks, newest first',
        querystring: Query,
        response: { 200: PageSchema(Named(TaskSchema), 'A page of tasks.'), ...problemAnswers(400) },
      },
    },
    async (request, reply) => {
      const { limit, after, waiting, ...filter } = request.query
      const before = after === undefined ? undefined : taskId(after)
      const { page, next } = waiting === undefined ? await listPage(store, filter, before, limit) : await listNeedingPerson({ store, views }, filter, before, limit)
      return { items: page.map(toTaskAnswer), next: linkNext(request, reply, next) }
    },
  )
}

interface TaskPage {
  readonly page: readonly TaskSummary[]
  readonly next: TaskId | null
}

async function listPage(store: Context['store'], filter: Filter, before: TaskId | undefined, limit: number): Promise<TaskPage> {
  const found = await store.tasks.list({ ...filter, limit: limit + 1, ...(before === undefined ? {} : { before }) })
  return cut(found, limit)
}

const cut = (found: readonly TaskSummary[], limit: number): TaskPage => {
  const page = found.slice(0, limit)
  return { page, next: found.length > limit ? (page.at(-1)?.id ?? null) : null }
}

/** Rows say nothing of gates, so the tasks are looked at: those alone that run or are paused, and a bounded number of them for one page. */
async function listNeedingPerson({ store, views }: Pick<Context, 'store' | 'views'>, filter: Filter, before: TaskId | undefined, limit: number): Promise<TaskPage> {
  const states = (['running', 'paused'] as const).filter((state) => filter.state === undefined || filter.state === state)
  const lists = filter.outcome === undefined ? await Promise.all(states.map((state) => store.tasks.list({ ...filter, state, limit: lookedAtOnce + 1, ...(before === undefined ? {} : { before }) }))) : []
  const rows = cut(lists.flat().sort((a, b) => (a.id < b.id ? 1 : -1)), lookedAtOnce)
  const found: TaskSummary[] = []
  for (const row of rows.page) {
    const reading = await views.read(row.id)
    if (reading !== undefined && needsPerson(reading.view)) found.push(row)
    if (found.length > limit) return cut(found, limit)
  }
  return { page: found, next: rows.next }
}
