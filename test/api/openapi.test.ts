import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { startTestApi } from './api-fixture.js'

type Operation = { readonly operationId: string; readonly summary: string; readonly tags: string[]; readonly security?: unknown[]; readonly responses: Record<string, { content?: Record<string, unknown> }>; readonly requestBody?: { content: Record<string, unknown> } }

t.test('the document is valid OpenAPI 3.1 and describes every route', async (t) => {
  const app = await startTestApi(t)
  const routes: string[] = []
  const answer = await app.api.inject('/openapi.json')
  const document = answer.json() as { openapi: string; paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, object> } }
  t.equal(document.openapi, '3.1.0')
  const result = await new Validator().validate(JSON.parse(answer.body))
  t.ok(result.valid, JSON.stringify(result.errors, null, 1)?.slice(0, 3000))

  for (const [path, operations] of Object.entries(document.paths)) for (const method of Object.keys(operations)) routes.push(`${method.toUpperCase()} ${path}`)
  t.same(routes.sort(), [
    'DELETE /v1/join-tokens/{id}', 'DELETE /v1/nodes/{id}',
    'GET /', 'GET /errors', 'GET /errors/{code}', 'GET /healthz', 'GET /metrics', 'GET /readyz',
    'GET /v1/blueprints', 'GET /v1/blueprints/{name}', 'GET /v1/dead-letters', 'GET /v1/dead-letters/{id}', 'GET /v1/deployments/{project}/{deployment}/outputs', 'GET /v1/deployments/{project}/{deployment}/outputs/{component}/{name}', 'GET /v1/engines', 'GET /v1/join-tokens', 'GET /v1/nodes', 'GET /v1/nodes/{id}',
    'GET /v1/deployments/{project}/{deployment}/operations', 'GET /v1/deployments/{project}/{deployment}/secrets',
    'GET /v1/tasks', 'GET /v1/tasks/{id}', 'GET /v1/tasks/{id}/actions', 'GET /v1/tasks/{id}/events', 'GET /v1/tasks/{id}/graph', 'GET /v1/tasks/{id}/log', 'GET /v1/tasks/{id}/plan',
    'PATCH /v1/nodes/{id}',
    'POST /v1/dead-letters/{id}/replay', 'POST /v1/deployments/{project}/{deployment}/operations', 'POST /v1/deployments/{project}/{deployment}/operations/preview', 'POST /v1/deployments/{project}/{deployment}/secrets/rotate', 'POST /v1/deployments/{project}/{deployment}/secrets/rotate/preview', 'POST /v1/join-tokens', 'POST /v1/plans/check', 'POST /v1/previews', 'POST /v1/tasks', 'POST /v1/tasks/{id}/approve', 'POST /v1/tasks/{id}/cancel', 'POST /v1/tasks/{id}/pause', 'POST /v1/tasks/{id}/resume', 'POST /v1/tasks/{id}/retry', 'POST /v1/tasks/{id}/settle',
  ].sort())

  const listed = [...(await readFile('docs/api.md', 'utf8')).matchAll(/^\| `([A-Z]+ \/\S*)` \|/gm)].map((match) => match[1])
  t.same(listed.sort(), routes, 'docs/api.md lists the same')

  const operations = Object.entries(document.paths).flatMap(([path, byMethod]) => Object.values(byMethod).map((operation) => ({ path, operation })))
  t.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length, 'operation ids are unique')
  for (const { path, operation } of operations) {
    t.ok(operation.summary && operation.tags?.length === 1, `${path} has a summary and a tag`)
    if (path.startsWith('/v1/')) for (const code of ['401', '503']) t.ok(operation.responses[code]?.content?.['application/problem+json'], `${operation.operationId} answers ${code} as a problem`)
    else t.same(operation.security, [], `${path} needs no token`)
  }
  for (const name of ['Problem', 'ProblemDocument', 'DeploymentPlan', 'Task', 'TaskDetail', 'Action', 'RecordedEvent', 'ActionGraph', 'Preview', 'Node', 'Engine']) t.ok(document.components.schemas[name], `${name} is a schema with a name`)
  for (const verb of ['pause', 'approve', 'settle', 'cancel', 'retry']) {
    const body = document.paths[`/v1/tasks/{id}/${verb}`]!['post']!.requestBody!.content['application/json'] as { examples?: object; example?: object }
    t.ok(body.example ?? body.examples, `${verb} shows an example of its body`)
  }
  const submit = document.paths['/v1/tasks']!['post']!
  t.same(Object.keys(submit.requestBody!.content), ['application/json', 'application/yaml', 'text/yaml', 'application/x-yaml', 'text/x-yaml'])
  t.same(Object.keys(submit.responses).sort(), ['202', '400', '401', '404', '409', '413', '415', '422', '503'])
})
