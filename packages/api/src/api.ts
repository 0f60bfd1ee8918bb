/** The API as one Fastify instance: who builds it listens, injects or closes it. */
import Fastify, { type FastifyInstance } from 'fastify'
import { PlanSchema, type Catalog } from '@lichen/core'
import { Type } from '@sinclair/typebox'
import type { Broker } from '@lichen/broker'
import type { Store } from '@lichen/store'
import type { Registry } from 'prom-client'
import type { Announcer } from './announcer.js'
import type { ApiLog } from './api-log.js'
import { buildAudit } from './auth/audit.js'
import { buildAuthenticator } from './auth/authenticate.js'
import { registerContentParsers } from './body/content-parsers.js'
import type { Context } from './context.js'
import { buildLimits, type ApiLimits } from './limits.js'
import { buildApiMetrics } from './metrics/api-metrics.js'
import { registerDocument, registerDocumentRoute } from './openapi.js'
import { buildNodeList } from './planning/node-list.js'
import { registerErrorAnswers, sendProblem } from './problem/error-answers.js'
import { ProblemDocumentSchema, ProblemSchema } from './problem/problem-document.js'
import type { Unseal } from './outputs/deployment-outputs.js'
import { registerOperations, registerPublicRoutes } from './routes/register-routes.js'
import { answerSchemas } from './routes/answer-schemas.js'
import { buildRequestValidators } from './schema/request-validators.js'
import type { Api, TypeBoxProvider } from './schema/type-provider.js'
import { buildOpenStreams } from './stream/open-streams.js'
import { buildTaskViews } from './tail/task-views.js'

export interface ApiInput {
  readonly store: Store
  readonly broker: Broker
  readonly announcer: Announcer
  readonly catalog: Catalog
  /** Opens what the store keeps sealed: for an output that somebody asks for by name. */
  readonly unseal: Unseal
  /** SHA-256 of the certificate authority's certificate, hex. */
  readonly caDigest: string
  /** `host:port` at which nodes reach the gateway. */
  readonly gatewayAddress: string
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly log: ApiLog
  /** Gets the metrics of this API; one registry for each API. */
  readonly registry: Registry
  readonly version: string
  readonly limits?: Partial<ApiLimits>
}

// A client that needs longer to send 5 MiB holds a connection for nothing.
const requestTimeoutMs = 120_000
// A client that vanished without a word is found by its socket, also where no sign of life can be sent: text that follows a log.
const keepAliveProbeMs = 30_000

// A client that stopped reading keeps its connection open for ever; a stopping server gives it this long to take what was sent.
const closeGraceMs = 2000

/**
 * The API over these ports, not listening yet. Closing it ends open streams first and leaves store, broker and announcer open: they are the
 * caller's.
 */
export function buildApi(input: ApiInput): FastifyInstance {
  const limits = buildLimits(input.limits)
  const app = Fastify({ logger: false, bodyLimit: limits.bodyBytes, requestTimeout: requestTimeoutMs, http: { keepAlive: true, keepAliveInitialDelay: keepAliveProbeMs }, routerOptions: { maxParamLength: 500 }, exposeHeadRoutes: false, frameworkErrors: (error, request, reply) => void sendProblem(request, reply, 'REQUEST_SHAPE', error.message) }).withTypeProvider<TypeBoxProvider>() as unknown as Api
  const context = buildContext(input, limits)
  app.setValidatorCompiler(buildRequestValidators())
  for (const schema of [ProblemSchema, ProblemDocumentSchema, PlanSchema, ...answerSchemas]) app.addSchema(schema)
  registerContentParsers(app)
  registerErrorAnswers(app, input.log)
  registerObservation(app, context)
  registerDocument(app, input.version)
  void app.register(async (scope) => registerPublicRoutes(scope as Api, context))
  void app.register(async (scope) => registerVersion1(scope as Api, context), { prefix: '/v1' })
  void app.register(async (scope) => registerDocumentRoute(scope as Api))
  app.addHook('preClose', async () => {
    context.streams.close()
    const timer = setTimeout(() => app.server.closeAllConnections(), closeGraceMs)
    app.server.once('close', () => clearTimeout(timer))
  })
  app.addHook('onClose', () => context.audit.settle())
  return app as unknown as FastifyInstance
}

function buildContext(input: ApiInput, limits: ApiLimits): Context {
  const { registry, limits: _limits, ...ports } = input
  const { store, now, log } = ports
  const metrics = buildApiMetrics(registry)
  return {
    ...ports, limits, metrics,
    authenticator: buildAuthenticator({ store, now, ageMs: limits.tokenAgeMs }),
    audit: buildAudit({ store, now, log }),
    nodes: buildNodeList({ store, now, ageMs: limits.nodesAgeMs }),
    views: buildTaskViews({ store }),
    streams: buildOpenStreams({ limit: limits.streams, heartbeatMs: limits.heartbeatMs, metrics, log }),
  }
}

function registerVersion1(app: Api, context: Context): void {
  app.addHook('onRequest', async (request) => {
    request.caller = await context.authenticator.authenticate(request.headers.authorization)
  })
  // A query parameter that a route does not know is a mistake of the caller, and silence would hide it.
  app.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, querystring: route.schema?.querystring ?? Type.Object({}, { additionalProperties: false }) }
  })
  registerOperations(app, context)
}

function registerObservation(app: Api, { metrics, log }: Context): void {
  app.decorateRequest('caller', undefined)
  app.addHook('onResponse', async (request, reply) => {
    const { url } = request.routeOptions
    const code = reply.statusCode
    // A stream lasts as long as its task; it would say nothing about speed.
    if (!reply.sent || reply.raw.getHeader('x-accel-buffering') === undefined) metrics.requestSeconds.observe({ method: request.method, route: url ?? 'none', code }, reply.elapsedTime / 1000)
    log.debug({ method: request.method, url: request.url, code, elapsedMs: Math.round(reply.elapsedTime), caller: request.caller?.name }, 'answered')
  })
}
