import { Type } from '@sinclair/typebox'
import { nodeId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { LabelsChangeSchema, Named, NodeParams } from '../../schema/fields.js'
import { NodeSchema, toNodeAnswer, unknownNode } from './node-schema.js'

const Body = Type.Object(
  { labels: Type.Optional(LabelsChangeSchema), cordoned: Type.Optional(Type.Boolean({ description: 'Whether the node accepts nothing new.' })) },
  { additionalProperties: false, minProperties: 1, examples: [{ labels: { zone: 'b' } }, { cordoned: true }] },
)

/** Registers PATCH /v1/nodes/{id} and DELETE /v1/nodes/{id}. */
export function registerChangeNode(app: Api, { store, nodes, audit }: Context): void {
  app.patch(
    '/nodes/:id',
    {
      schema: {
        operationId: 'changeNode', tags: ['nodes'], summary: 'Change labels of a node, cordon or uncordon it', description: 'What is not named stays as it is (JSON merge patch, RFC 7396).',
        params: NodeParams, body: Body, response: { 200: Named(NodeSchema), ...problemAnswers(400, 404, 415) },
      },
    },
    async (request) => {
      const id = nodeId(request.params.id)
      const { labels, cordoned } = request.body
      const node = (await nodes.readFresh()).find((one) => one.id === id)
      if (node === undefined) throw unknownNode(id)
      const change = { ...(labels === undefined ? {} : { labels: mergeLabels(node.labels, labels) }), ...(cordoned === undefined ? {} : { cordoned }) }
      if (!(await store.nodes.setNode(id, change))) throw unknownNode(id)
      await audit.append(request, 'change node', id, JSON.stringify(request.body))
      const changed = (await nodes.readFresh()).find((one) => one.id === id)
      if (changed === undefined) throw unknownNode(id)
      return toNodeAnswer(changed)
    },
  )
  app.delete(
    '/nodes/:id',
    {
      schema: {
        operationId: 'deleteNode', tags: ['nodes'], summary: 'Remove a node',
        description: 'Its certificate is accepted no more and its name is free again. What was installed on it stays; destroy that first.',
        params: NodeParams, response: { 204: { type: 'null', description: 'Removed.' }, ...problemAnswers(400, 404) },
      },
    },
    async (request, reply) => {
      const id = nodeId(request.params.id)
      if (!(await store.nodes.deleteNode(id))) throw unknownNode(id)
      await audit.append(request, 'delete node', id)
      await nodes.readFresh()
      return reply.code(204).send(null as never)
    },
  )
}

function mergeLabels(labels: Readonly<Record<string, string>>, change: Readonly<Record<string, string | null>>): Record<string, string> {
  const merged = new Map(Object.entries(labels))
  for (const [key, value] of Object.entries(change)) {
    if (value === null) merged.delete(key)
    else merged.set(key, value)
  }
  return Object.fromEntries(merged)
}
