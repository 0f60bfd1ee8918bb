/** GET /v1/tasks/{id}/events: the events of a task as a page of JSON, as NDJSON, or as server-sent events that follow the task. */
import { Type } from '@sinclair/typebox'
import { LichenError, taskId } from '@lichen/core'
import type { FastifyReply } from 'fastify'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Flag, Named, readFlag, TaskParams } from '../../schema/fields.js'
import { linkNext, PageSchema } from '../../schema/page.js'
import { chooseFormat } from '../../tail/accepted-format.js'
import { sendEvents } from '../../tail/event-tail.js'
import { RecordedEventSchema } from './task-schemas.js'
import { unknownTask } from './unknown-task.js'

const Query = Type.Object(
  {
    after: Type.Optional(Type.Integer({ minimum: 0, description: 'Only events after this sequence number. Default: 0; with `Last-Event-ID`: that.' })),
    limit: Type.Integer({ minimum: 1, maximum: 5000, default: 500, description: 'Of a JSON page.' }),
    follow: Flag('Go on sending events until the task has ended. Default: only for server-sent events.'),
    format: Type.Optional(Choice(['json', 'ndjson', 'sse'], 'Goes before the Accept header.')),
  },
  { additionalProperties: false },
)
const Headers = Type.Object({ 'last-event-id': Type.Optional(Type.Integer({ minimum: 0, description: 'Sequence number of the last event seen; sent by browsers when they reconnect. Goes before `after`.' })) })

const mediaTypes = { 'application/json': 'json', 'application/x-ndjson': 'ndjson', 'text/event-stream': 'sse' } as const

/** Registers GET /v1/tasks/{id}/events. */
export function registerReadEvents(app: Api, context: Context): void {
  const { store } = context
  app.get(
    '/tasks/:id/events',
    {
      schema: {
        operationId: 'readEvents',
        tags: ['tasks'],
        summary: 'Read or follow the events of a task',
        description: 'Server-sent events carry the sequence number as `id`, so a client that reconnects with `Last-Event-ID` misses nothing and sees nothing twice. When the task has ended, the event `end` comes last.',
        params: TaskParams,
        querystring: Query,
        headers: Headers,
        response: {
          200: {
            description: 'Events in order.',
            content: {
              'application/json': { schema: PageSchema(Named(RecordedEventSchema), 'A page of events; `next` is a sequence number.') },
              'application/x-ndjson': { schema: Type.String({ description: 'One event on each line.' }) },
              'text/event-stream': { schema: Type.String({ description: 'One message for each event.' }) },
            },
          },
          ...problemAnswers(400, 404),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const format = chooseFormat(request, request.query.format, mediaTypes, 'json')
      const after = request.headers['last-event-id'] ?? request.query.after ?? 0
      const isFollowing = readFlag(request.query.follow, format === 'sse')
      if ((await store.tasks.readSummary(taskId(id))) === undefined) throw unknownTask(id)
      if (format !== 'json') return streamEvents(context, reply, { task: taskId(id), after, isFollowing, format })
      if (isFollowing) throw new LichenError('REQUEST_SHAPE', 'query.follow: JSON pages cannot follow; ask for application/x-ndjson or text/event-stream')
      const events = await store.tasks.readEvents(taskId(id), after, request.query.limit + 1)
      const items = events.slice(0, request.query.limit)
      return { items, next: linkNext(request, reply, events.length > items.length ? String(items.at(-1)?.seq) : null) }
    },
  )
}

async function streamEvents({ store, streams }: Context, reply: FastifyReply, tail: Omit<Parameters<typeof sendEvents>[0], 'store'>): Promise<FastifyReply> {
  const isSse = tail.format === 'sse'
  const head = { contentType: isSse ? 'text/event-stream; charset=utf-8' : 'application/x-ndjson; charset=utf-8', ...(tail.isFollowing ? { heartbeat: isSse ? ': alive\n\n' : '\n' } : {}) }
  await streams.run(reply, head, async (stream) => {
    const summary = await sendEvents({ ...tail, store }, stream)
    if (isSse && summary !== undefined && !stream.signal.aborted) await stream.write(`event: end\ndata: ${JSON.stringify({ seq: summary.seq, state: summary.state, outcome: summary.outcome })}\n\n`)
  })
  return reply
}
