/** The OpenAPI document, made from the schemas of the routes, and the pages that show it. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { Api } from './schema/type-provider.js'

const description = `Submit a deployment plan, get a task, follow it to its end.

Everything under \`/v1\` needs a bearer token. Errors are problem details (RFC 9457) with a \`code\` that is never renamed and every mistake found in \`problems\`.
Lists are paged with \`?limit\` and \`?after\`; the next page is in \`next\` and in the \`Link\` header. Times are milliseconds since the epoch.`

/** Registers the document at /openapi.json and its pages at /docs. Must come before the routes. */
export function registerDocument(app: Api, version: string): void {
  void app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Lichen', version, description, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [{ url: '/' }],
      tags: [
        { name: 'plans', description: 'Check and preview deployment plans; nothing happens on any node.' },
        { name: 'tasks', description: 'Runs of plans: submit, follow, pause, approve, settle, cancel, retry.' },
        { name: 'deployments', description: 'What deployments give to their users, and operations on them.' },
        { name: 'nodes', description: 'Machines with the agent, and the tokens they join with.' },
        { name: 'blueprints', description: 'The catalog.' },
        { name: 'operations', description: 'Engines, health, metrics, messages that were put aside.' },
      ],
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'A token of the API; the server prints where it put the first one.' } } },
      security: [{ bearer: [] }],
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => (typeof json.$id === 'string' && json.$id !== '' ? json.$id : `schema-${index}`) },
  })
  void app.register(swaggerUi, { routePrefix: '/docs', uiConfig: { docExpansion: 'list', deepLinking: true } })
}

/** Registers GET /openapi.json. Must come after the routes. */
export function registerDocumentRoute(app: Api): void {
  let text: string | undefined
  app.get('/openapi.json', { schema: { hide: true } as never }, async (_request, reply) => {
    text ??= JSON.stringify(app.swagger())
    return reply.type('application/json; charset=utf-8').send(text as never)
  })
}
