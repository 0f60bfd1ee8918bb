/** What load balancers and supervisors ask, without a token. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'

// A supervisor asks every few seconds and gives up after one or two by default.
const storeAnswersWithinMs = 1_000

const ReadySchema = Type.Object({ ready: Type.Boolean(), store: Type.String({ description: '`reachable`, or what is wrong.' }), broker: Type.String({ description: '`connected` or `disconnected`. Tasks are accepted either way.' }) }, { description: 'Whether requests can be served.' })

/** Registers GET /healthz, /readyz and /metrics. */
export function registerHealth(app: Api, { store, broker, metrics, version }: Context): void {
  app.get(
    '/healthz',
    { schema: { operationId: 'health', tags: ['operations'], summary: 'Whether the process lives', security: [], response: { 200: Type.Object({ alive: Type.Boolean(), version: Type.String() }, { description: 'It does.' }) } } },
    async () => ({ alive: true, version }),
  )
  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readiness', tags: ['operations'], summary: 'Whether requests can be served', security: [],
        description: 'The store must answer. The broker is reported and not needed: accepted tasks wait in the store until it is back.',
        response: { 200: ReadySchema, 503: ReadySchema },
      },
    },
    async (_request, reply) => {
      const problem = await findStoreProblem(store)
      return reply.code(problem === undefined ? 200 : 503).send({ ready: problem === undefined, store: problem ?? 'reachable', broker: broker.isConnected() ? 'connected' : 'disconnected' })
    },
  )
  app.get(
    '/metrics',
    { schema: { operationId: 'metrics', tags: ['operations'], summary: 'Metrics in the text format of Prometheus', description: 'Needs no token and says nothing of plans, nodes or secrets.', security: [], response: { 200: { description: 'Metrics.', content: { 'text/plain': { schema: Type.String() } } } } } },
    async (_request, reply) => reply.type(metrics.registry.contentType).send((await metrics.registry.metrics()) as never),
  )
}

async function findStoreProblem(store: Context['store']): Promise<string | undefined> {
  const limit = new AbortController()
  const silence = sleep(storeAnswersWithinMs, `no answer within ${storeAnswersWithinMs} ms`, { signal: limit.signal }).catch(() => undefined)
  try {
    return await Promise.race([store.ping().then(() => undefined), silence])
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    limit.abort()
  }
}
