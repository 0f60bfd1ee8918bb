/** GET /v1/tasks/{id}/log: what the commands of a task printed, from an offset on, as text, NDJSON or server-sent events; to the end of now, or followed. */
import { Type, type Static } from '@sinclair/typebox'
import { actionId, LichenError, nodeId, taskId, type TaskId } from '@lichen/core'
import type { FastifyReply } from 'fastify'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Flag, NodeIdText, readFlag, TaskParams } from '../../schema/fields.js'
import { chooseFormat } from '../../tail/accepted-format.js'
import type { LogFormat } from '../../tail/log-lines.js'
import { findLastLines } from '../../tail/log-start.js'
import { sendLog, type LogTail } from '../../tail/log-tail.js'
import { unknownTask } from './unknown-task.js'

const Query = Type.Object(
  {
    format: Type.Optional(Choice(['text', 'ndjson', 'sse'], 'Goes before the Accept header. Default: text.')),
    follow: Flag('Go on sending lines until the task has ended. Default: only for server-sent events.'),
    offset: Type.Optional(Type.Integer({ minimum: 0, description: 'Where to begin: an `offset`, `id` or `Lichen-Next-Offset` that was given before. Default: 0; with `Last-Event-ID`: that.' })),
    tail: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000, description: 'Begin with the last so many lines. Not together with `offset`.' })),
    node: Type.Optional(Type.Unsafe<string>({ ...NodeIdText, description: 'Only lines of this node.' })),
    action: Type.Optional(Type.String({ minLength: 1, maxLength: 400, description: 'Only lines of this action.', examples: ['keystone/install@node-2'] })),
    raw: Flag('Text without the prefix that names node and action.'),
  },
  { additionalProperties: false },
)
const Headers = Type.Object({ 'last-event-id': Type.Optional(Type.Integer({ minimum: 0, description: 'The `id` of the last line seen; sent by browsers when they reconnect. Goes before `offset` and `tail`.' })) })

const mediaTypes = { 'text/plain': 'text', 'application/x-ndjson': 'ndjson', 'text/event-stream': 'sse' } as const
const contentTypes: Readonly<Record<LogFormat, string>> = { text: 'text/plain; charset=utf-8', ndjson: 'application/x-ndjson; charset=utf-8', sse: 'text/event-stream; charset=utf-8' }
// Text has no sign of life that a reader would not take for output.
const heartbeats: Readonly<Record<LogFormat, string | undefined>> = { text: undefined, ndjson: '\n', sse: ': alive\n\n' }

/** Registers GET /v1/tasks/{id}/log. */
export function registerReadLog(app: Api, context: Context): void {
  app.get(
    '/tasks/:id/log',
    {
      schema: {
        operationId: 'readLog',
        tags: ['tasks'],
        summary: 'Read or follow the log of a task',
        description:
          'Every line has an offset that never changes its meaning; who goes on from an offset misses nothing and sees nothing twice, with a filter too. Server-sent events carry the offset after the line as `id`; when the task has ended and all is sent, the event `end` comes last.',
        params: TaskParams,
        querystring: Query,
        headers: Headers,
        response: {
          200: {
            description: 'Lines in the order in which they were stored.',
            headers: { 'lichen-next-offset': { schema: Type.Integer({ description: 'Where to go on, for reads that do not follow.' }) } },
            content: {
              'text/plain': { schema: Type.String({ examples: ['node-2 keystone/install | Setting up keystone (2:22.0.0-2) ...\n'] }) },
              'application/x-ndjson': {
                schema: Type.String({
                  description: 'One line on each line; `offset` is the one after it.',
                  examples: ['{"offset":39,"at":1764000000000,"node":"node-2","action":"keystone/install@node-2","attempt":1,"command":0,"stream":"stdout","text":"Setting up keystone (2:22.0.0-2) ..."}\n'],
                }),
              },
              'text/event-stream': { schema: Type.String({ description: 'One message for each line, with the same JSON as `data`.' }) },
            },
          },
          ...problemAnswers(400, 404),
        },
      },
    },
    async (request, reply) => {
      const id = taskId(request.params.id)
      const [summary, end] = await Promise.all([context.store.tasks.readSummary(id), context.store.logs.logEnd(id)])
      if (summary === undefined) throw unknownTask(id)
      const format = chooseFormat(request, request.query.format, mediaTypes, 'text')
      const tail = await describeTail(context, id, end, request.query, request.headers['last-event-id'], format)
      return streamLog(context, reply, tail)
    },
  )
}

async function describeTail({ store, limits }: Context, task: TaskId, end: number, query: Static<typeof Query>, lastEventId: number | undefined, format: LogFormat): Promise<LogTail> {
  if (query.offset !== undefined && query.tail !== undefined) throw new LichenError('REQUEST_SHAPE', 'query.tail: not together with `offset`')
  const filter = { ...(query.node === undefined ? {} : { node: nodeId(query.node) }), ...(query.action === undefined ? {} : { action: actionId(query.action) }) }
  const asked = lastEventId ?? query.offset
  const from = asked ?? (query.tail === undefined ? 0 : await findLastLines(store, task, end, query.tail, filter))
  return { store, task, from, until: end, isFollowing: readFlag(query.follow, format === 'sse'), filter, format, isRaw: readFlag(query.raw, false), pageBytes: limits.logPageBytes }
}

async function streamLog({ store, streams }: Context, reply: FastifyReply, tail: LogTail): Promise<FastifyReply> {
  const { format, isFollowing } = tail
  const heartbeat = isFollowing ? heartbeats[format] : undefined
  const head = {
    contentType: contentTypes[format],
    ...(isFollowing ? {} : { headers: { 'lichen-next-offset': String(Math.max(tail.from, tail.until)) } }),
    ...(heartbeat === undefined ? {} : { heartbeat }),
  }
  await streams.run(reply, head, async (stream) => {
    const offset = await sendLog(tail, stream)
    if (format !== 'sse' || stream.signal.aborted) return
    const summary = await store.tasks.readSummary(tail.task)
    await stream.write(`event: end\ndata: ${JSON.stringify({ offset, state: summary?.state ?? null, outcome: summary?.outcome ?? null })}\n\n`)
  })
  return reply
}
