import { Type } from '@sinclair/typebox'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'

/** Registers GET /: what is here, for whoever opens the address of the server. */
export function registerIndexPage(app: Api, { version }: Context): void {
  const places = { documentation: '/docs', openapi: '/openapi.json', api: '/v1', errors: '/errors', health: '/healthz', readiness: '/readyz', metrics: '/metrics' }
  const lines = [`Lichen ${version}`, '', ...Object.entries(places).map(([name, path]) => `${name.padEnd(15)}${path}`), '', 'Everything under /v1 needs a bearer token.', '']
  app.get(
    '/',
    {
      schema: {
        operationId: 'index', tags: ['operations'], summary: 'What is where', security: [],
        response: { 200: { description: 'Paths, as JSON or text.', content: { 'application/json': { schema: Type.Object({ name: Type.String(), version: Type.String(), ...Object.fromEntries(Object.keys(places).map((name) => [name, Type.String()])) }) }, 'text/plain': { schema: Type.String() } } } },
      },
    },
    async (request, reply) => {
      if ((request.headers.accept ?? '').includes('application/json')) return { name: 'Lichen', version, ...places } as never
      return reply.type('text/plain; charset=utf-8').send(lines.join('\n') as never)
    },
  )
}
