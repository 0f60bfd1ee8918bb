import { Type } from '@sinclair/typebox'
import { LichenError } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, Time } from '../../schema/fields.js'

export const DeadLetterSchema = Type.Object(
  {
    id: Type.String(),
    queue: Type.String({ description: 'The queue it was on.' }),
    body: Type.String({ description: 'The message as it was published.' }),
    reason: Type.String({ description: 'Why it was put aside.' }),
    diedAt: Time('When it was put aside.'),
  },
  { $id: 'DeadLetter', description: 'A message that could not be read or was given out too often.' },
)
const Query = Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'How many at most.' }) }, { additionalProperties: false })
// As long as AMQP allows.
const Params = Type.Object({ id: Type.String({ minLength: 1, maxLength: 255, description: 'Id of a dead letter.' }) })

const notFound = (id: string): LichenError => new LichenError('REQUEST_NOT_FOUND', `there is no dead letter ${id}`)

/** Registers GET /v1/dead-letters, GET /v1/dead-letters/{id} and POST /v1/dead-letters/{id}/replay. */
export function registerDeadLetters(app: Api, { broker, audit }: Context): void {
  app.get(
    '/dead-letters',
    { schema: { operationId: 'listDeadLetters', tags: ['operations'], summary: 'List messages that were put aside, oldest first', querystring: Query, response: { 200: Type.Object({ items: Type.Array(Named(DeadLetterSchema)) }, { description: 'Dead letters.' }), ...problemAnswers(400) } } },
    async (request) => ({ items: [...(await broker.listDeadLetters(request.query.limit))] }),
  )
  app.get(
    '/dead-letters/:id',
    { schema: { operationId: 'readDeadLetter', tags: ['operations'], summary: 'Read a message that was put aside', params: Params, response: { 200: Named(DeadLetterSchema), ...problemAnswers(400, 404) } } },
    async (request) => {
      const letter = await broker.readDeadLetter(request.params.id)
      if (letter === undefined) throw notFound(request.params.id)
      return letter
    },
  )
  app.post(
    '/dead-letters/:id/replay',
    { schema: { operationId: 'replayDeadLetter', tags: ['operations'], summary: 'Put a dead letter back on its queue', params: Params, response: { 204: { type: 'null', description: 'It is on its queue again.' }, ...problemAnswers(400, 404) } } },
    async (request, reply) => {
      const { id } = request.params
      if (!(await broker.replayDeadLetter(id))) throw notFound(id)
      await audit.append(request, 'replay dead letter', id)
      return reply.code(204).send(null as never)
    },
  )
}
