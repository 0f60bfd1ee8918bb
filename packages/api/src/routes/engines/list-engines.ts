import { Type, type Static } from '@sinclair/typebox'
import type { EngineRecord } from '@lichen/store'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, Time } from '../../schema/fields.js'
import { cutPage, linkNext, pageQuery, PageSchema } from '../../schema/page.js'

export const EngineSchema = Type.Object(
  {
    name: Type.String({ description: 'Stays over restarts.', examples: ['engine-1'] }),
    isAlive: Type.Boolean({ description: 'False when it has not been heard of for longer than it may be silent. Rows of engines that are gone stay for a day.' }),
    gateway: Type.String({ description: '`host:port` at which agents reach its gateway.', examples: ['10.0.0.5:8471'] }),
    nodes: Type.Integer({ description: 'Number of nodes whose stream ends at it.' }),
    startedAt: Time('When the process started.'),
    until: Time('Until when it counts as alive without being heard of.'),
  },
  { $id: 'Engine', description: 'A process that drives tasks and holds the streams of nodes.' },
)

const Query = Type.Object(pageQuery(100, 1000), { additionalProperties: false })

/** Registers GET /v1/engines. */
export function registerListEngines(app: Api, { store, nodes, now }: Context): void {
  app.get(
    '/engines',
    {
      schema: {
        operationId: 'listEngines', tags: ['operations'], summary: 'List engines by name', description: 'All that run or did during the last day.',
        querystring: Query, response: { 200: PageSchema(Named(EngineSchema), 'A page of engines.'), ...problemAnswers(400) },
      },
    },
    async (request, reply) => {
      const at = now()
      const [engines, records] = await Promise.all([store.engines.listEngines(at), nodes.readRecent()])
      const { limit, after } = request.query
      const page = cutPage(engines, (engine) => engine.name, limit, after)
      const streams = new Map<string | null, number>()
      for (const { engine } of records) streams.set(engine, (streams.get(engine) ?? 0) + 1)
      return { items: page.items.map((engine) => describeEngine(engine, streams.get(engine.name) ?? 0, at)), next: linkNext(request, reply, page.next) }
    },
  )
}

const describeEngine = ({ name, gateway, startedAt, until }: EngineRecord, nodes: number, at: number): Static<typeof EngineSchema> => ({ name, isAlive: until > at, gateway, nodes, startedAt, until })
