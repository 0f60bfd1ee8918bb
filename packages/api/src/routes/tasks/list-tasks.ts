import { Type } from '@sinclair/typebox'
import { taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Named, NameText, TaskIdText } from '../../schema/fields.js'
import { linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { taskStates, TaskSchema, toTaskAnswer } from './task-schemas.js'

const Query = Type.Object(
  {
    ...pageQuery(50, 500),
    after: Type.Optional(Type.Unsafe<string>({ ...TaskIdText, description: 'Cursor: `next` of the page before. Tasks accepted meanwhile do not shift the pages.' })),
    project: Type.Optional(NameText('Only tasks of this project.')),
    deployment: Type.Optional(NameText('Only tasks of this deployment.')),
    state: Type.Optional(Choice(taskStates, 'Only tasks in this state.')),
  },
  { additionalProperties: false },
)

/** Registers GET /v1/tasks. */
export function registerListTasks(app: Api, { store }: Context): void {
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
      const { limit, after, ...filter } = request.query
      const found = await store.tasks.list({ ...filter, limit: limit + 1, ...(after === undefined ? {} : { before: taskId(after) }) })
      const page = found.slice(0, limit)
      const last = page.at(-1)
      return { items: page.map(toTaskAnswer), next: linkNext(request, reply, found.length > limit && last !== undefined ? last.id : null) }
    },
  )
}
