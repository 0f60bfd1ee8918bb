import { Type } from '@sinclair/typebox'
import { LichenError } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Choice, Named, NodeIdText, NodeParams } from '../../schema/fields.js'
import { cutPage, linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { NodeSchema, toNodeAnswer, unknownNode } from './node-schema.js'

const Query = Type.Object(
  {
    ...pageQuery(100, 1000),
    after: Type.Optional(Type.Unsafe<string>({ ...NodeIdText, description: 'Cursor: `next` of the page before.' })),
    state: Type.Optional(Choice(['ready', 'lost'], 'Only nodes in this state.')),
    label: Type.Optional(Type.String({ maxLength: 2000, description: 'Only nodes with these labels: `key=value`, several with commas between them.', examples: ['zone=a,role=control'] })),
  },
  { additionalProperties: false },
)

/** Registers GET /v1/nodes and GET /v1/nodes/{id}. */
export function registerReadNodes(app: Api, { nodes }: Context): void {
  app.get(
    '/nodes',
    { schema: { operationId: 'listNodes', tags: ['nodes'], summary: 'List nodes by name', querystring: Query, response: { 200: PageSchema(Named(NodeSchema), 'A page of nodes.'), ...problemAnswers(400) } } },
    async (request, reply) => {
      const { limit, after, state, label } = request.query
      const labels = parseSelector(label)
      const wanted = (await nodes.readFresh()).filter((node) => (state === undefined || node.state === state) && labels.every(([key, value]) => node.labels[key] === value))
      const page = cutPage(wanted, (node) => node.id, limit, after)
      return { items: page.items.map(toNodeAnswer), next: linkNext(request, reply, page.next) }
    },
  )
  app.get(
    '/nodes/:id',
    { schema: { operationId: 'readNode', tags: ['nodes'], summary: 'Read a node', params: NodeParams, response: { 200: Named(NodeSchema), ...problemAnswers(400, 404) } } },
    async (request) => {
      const node = (await nodes.readFresh()).find(({ id }) => id === request.params.id)
      if (node === undefined) throw unknownNode(request.params.id)
      return toNodeAnswer(node)
    },
  )
}

function parseSelector(text: string | undefined): readonly (readonly [string, string])[] {
  if (text === undefined) return []
  return text.split(',').map((part) => {
    const [key, value] = part.split(/=(.*)/s, 2)
    if (!key || value === undefined) throw new LichenError('REQUEST_SHAPE', `query.label: must be key=value, several with commas between them; found ${JSON.stringify(part)}`)
    return [key, value]
  })
}
