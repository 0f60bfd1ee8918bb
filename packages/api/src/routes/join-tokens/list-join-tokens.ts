import { Type } from '@sinclair/typebox'
import { LichenError } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named } from '../../schema/fields.js'
import { cutPage, linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { JoinTokenSchema } from './join-token-schema.js'

const Params = Type.Object({ id: Type.String({ pattern: '^[a-z0-9]{8,32}$', description: 'Id of a join token.' }) })
const Query = Type.Object(pageQuery(100, 1000), { additionalProperties: false })

/** Registers GET /v1/join-tokens and DELETE /v1/join-tokens/{id}. */
export function registerListJoinTokens(app: Api, { store, audit }: Context): void {
  app.get(
    '/join-tokens',
    { schema: { operationId: 'listJoinTokens', tags: ['nodes'], summary: 'List join tokens by id', description: 'Expired and used ones too.', querystring: Query, response: { 200: PageSchema(Named(JoinTokenSchema), 'A page of join tokens.'), ...problemAnswers(400) } } },
    async (request, reply) => {
      const tokens = (await store.nodes.listJoinTokens()).map(({ secretDigest: _secretDigest, labels, ...token }) => ({ ...token, labels: { ...labels } }))
      const sorted = tokens.sort((left, right) => (left.id < right.id ? -1 : 1))
      const page = cutPage(sorted, (token) => token.id, request.query.limit, request.query.after)
      return { items: [...page.items], next: linkNext(request, reply, page.next) }
    },
  )
  app.delete(
    '/join-tokens/:id',
    { schema: { operationId: 'deleteJoinToken', tags: ['nodes'], summary: 'Delete a join token', description: 'Nodes that joined with it stay.', params: Params, response: { 204: { type: 'null', description: 'Deleted.' }, ...problemAnswers(400, 404) } } },
    async (request, reply) => {
      const { id } = request.params
      if (!(await store.nodes.deleteJoinToken(id))) throw new LichenError('REQUEST_NOT_FOUND', `there is no join token ${id}`)
      await audit.append(request, 'delete join token', id)
      return reply.code(204).send(null as never)
    },
  )
}
