import { Type, type Static } from '@sinclair/typebox'
import { LichenError, type Blueprint } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named } from '../../schema/fields.js'
import { cutPage, linkNext, pageQuery, PageSchema } from '../../schema/page.js'

const JsonSchemaAnswer = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true, description: 'A JSON Schema (2020-12).' })

export const BlueprintOverviewSchema = Type.Object(
  { name: Type.String(), summary: Type.String(), version: Type.String({ description: 'The highest.' }), versions: Type.Array(Type.String(), { description: 'All, highest first.' }) },
  { $id: 'BlueprintOverview', description: 'A blueprint with its versions.' },
)

const VersionSchema = Type.Object({
  version: Type.String(),
  summary: Type.String(),
  digest: Type.String({ description: 'Covers the blueprint and its templates.' }),
  parameters: JsonSchemaAnswer,
  rules: Type.Array(Type.Object({ expression: Type.String(), message: Type.String() }), { description: 'CEL rules that parameters must keep.' }),
  requires: Type.Record(Type.String(), Type.Object({ interface: Type.String(), optional: Type.Boolean() }), { description: 'Relations it needs: what `uses` binds.' }),
  provides: Type.Record(
    Type.String(),
    Type.Object({
      interface: Type.String(),
      inputs: JsonSchemaAnswer,
      outputs: Type.Record(Type.String(), Type.Object({ type: Type.String(), description: Type.Optional(Type.String()) })),
    }),
    { description: 'What other components can use.' },
  ),
  outputs: Type.Record(Type.String(), Type.Object({ type: Type.String(), secret: Type.Boolean(), description: Type.Optional(Type.String()) }), { description: 'What people get of it.' }),
  secrets: Type.Array(Type.String(), { description: 'Secrets that are generated for each component.' }),
  operations: Type.Record(Type.String(), Type.Object({ summary: Type.String(), parameters: JsonSchemaAnswer }), { description: 'What can be done with it once it is there: see POST /v1/deployments/{project}/{deployment}/operations.' }),
  actions: Type.Array(Type.String()),
})

export const BlueprintVersionsSchema = Type.Object({ name: Type.String(), versions: Type.Array(VersionSchema, { description: 'Highest first.' }) }, { $id: 'BlueprintVersions', description: 'All versions of a blueprint.' })

const Params = Type.Object({ name: Type.String({ pattern: '^[a-z0-9][-a-z0-9]*$', maxLength: 100, description: 'Name of a blueprint.', examples: ['keystone'] }) })
const Query = Type.Object(pageQuery(100, 1000), { additionalProperties: false })

/** Registers GET /v1/blueprints and GET /v1/blueprints/{name}. */
export function registerReadBlueprints(app: Api, { catalog }: Context): void {
  app.get(
    '/blueprints',
    { schema: { operationId: 'listBlueprints', tags: ['blueprints'], summary: 'List the blueprints of the catalog by name', querystring: Query, response: { 200: PageSchema(Named(BlueprintOverviewSchema), 'A page of blueprints.'), ...problemAnswers(400) } } },
    async (request, reply) => {
      const page = cutPage(listOverviews(catalog.list()), (overview) => overview.name, request.query.limit, request.query.after)
      return { items: [...page.items], next: linkNext(request, reply, page.next) }
    },
  )
  app.get(
    '/blueprints/:name',
    { schema: { operationId: 'readBlueprint', tags: ['blueprints'], summary: 'Read a blueprint: parameters, what it requires and provides', params: Params, response: { 200: Named(BlueprintVersionsSchema), ...problemAnswers(400, 404) } } },
    async (request) => {
      const { name } = request.params
      const versions = catalog.list().filter(({ document }) => document.name === name)
      if (versions.length === 0) throw new LichenError('REQUEST_NOT_FOUND', `there is no blueprint "${name}" in the catalog`)
      return { name, versions: versions.map(describeVersion) }
    },
  )
}

/** The catalog lists the versions of a blueprint together, the highest first. */
function listOverviews(blueprints: readonly Blueprint[]): Static<typeof BlueprintOverviewSchema>[] {
  const overviews = new Map<string, Static<typeof BlueprintOverviewSchema>>()
  for (const { document } of blueprints) {
    const known = overviews.get(document.name)
    if (known) known.versions.push(document.version)
    else overviews.set(document.name, { name: document.name, summary: document.summary, version: document.version, versions: [document.version] })
  }
  return [...overviews.values()].sort((left, right) => (left.name < right.name ? -1 : 1))
}

function describeVersion({ document, digest }: Blueprint): Static<typeof VersionSchema> {
  const mapValues = <From, To>(record: Readonly<Record<string, From>> | undefined, map: (value: From) => To): Record<string, To> => Object.fromEntries(Object.entries(record ?? {}).map(([key, value]) => [key, map(value)]))
  return {
    version: document.version,
    summary: document.summary,
    digest,
    parameters: document.parameters ?? {},
    rules: (document.rules ?? []).map(({ expression, message }) => ({ expression, message })),
    requires: mapValues(document.requires, (required) => ({ interface: required.interface, optional: required.optional ?? false })),
    provides: mapValues(document.provides, (provided) => ({
      interface: provided.interface,
      inputs: provided.inputs ?? {},
      outputs: mapValues(provided.outputs, (output) => ({ type: output.type, ...(output.description === undefined ? {} : { description: output.description }) })),
    })),
    outputs: mapValues(document.outputs, ({ type, secret = false, description }) => ({ type, secret, ...(description === undefined ? {} : { description }) })),
    secrets: Object.keys(document.secrets ?? {}),
    operations: mapValues(document.operations, ({ summary, parameters }) => ({ summary, parameters: parameters ?? {} })),
    actions: Object.keys(document.actions),
  }
}
