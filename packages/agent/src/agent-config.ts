/** The agent's configuration file: YAML, checked as a whole, every problem at once. Imported only by who reads the file: the YAML library is not for an idle agent's memory. */
import { hostname } from 'node:os'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { parse } from 'yaml'
import { LichenError, type Problem } from '@lichen/core'

const Address = Type.String({ pattern: '^(\\[[0-9a-fA-F:.%]+\\]|[^:\\s]+):[0-9]{1,5}$' })
const AgentConfigSchema = Type.Object(
  {
    gateway: Type.Union([Address, Type.Array(Address, { minItems: 1 })], { description: 'host:port of a gateway, or a list of several.' }),
    token: Type.Optional(Type.String({ description: 'Join token.' })),
    tokenFile: Type.Optional(Type.String({ pattern: '^/', description: 'A file that holds the join token; removed after joining.' })),
    name: Type.Optional(Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', description: 'Name of the node. Default: the host name up to its first dot.' })),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    dataDirectory: Type.Optional(Type.String({ pattern: '^/', description: 'Default: /var/lib/lichen-agent.' })),
    address: Type.Optional(Type.String({ description: 'Address others reach the node at, if it is not the source of its way to the gateway.' })),
    confine: Type.Optional(Type.String({ pattern: '^/', description: 'Only effects inside this directory are allowed; for local demos.' })),
    concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 64, description: 'Attempts that run at the same time. Default: 4.' })),
    spoolLimitBytes: Type.Optional(Type.Integer({ minimum: 1024 * 1024, description: 'Log that may wait for the engine. Default: 1 GiB, or a tenth of the disk.' })),
  },
  { additionalProperties: false },
)

/** The configuration with its defaults put in. */
export type AgentConfig = Static<typeof AgentConfigSchema> & { readonly name: string; readonly dataDirectory: string }

/**
 * The configuration in this text.
 * @throws AGENT_CONFIG with every problem found.
 */
export function parseAgentConfig(text: string, path: string): AgentConfig {
  let document: unknown
  try {
    document = parse(text)
  } catch (error) {
    throw new LichenError('AGENT_CONFIG', `${path}: ${(error as Error).message}`)
  }
  // Fields that are there without a value are as good as not there: the packaged file has them so.
  const given = Object.fromEntries(Object.entries((document ?? {}) as object).filter(([, value]) => value !== null))
  const problems: Problem[] = [...Value.Errors(AgentConfigSchema, given)].map((error) => ({ code: 'AGENT_CONFIG', path: error.path.slice(1).replaceAll('/', '.'), message: error.message }))
  if (problems.length > 0) throw new LichenError('AGENT_CONFIG', `${path}: ${problems.map((problem) => `${problem.path || 'document'}: ${problem.message}`).join('; ')}`, { problems })
  const config = given as Static<typeof AgentConfigSchema>
  return { ...config, name: config.name ?? defaultName(), dataDirectory: config.dataDirectory ?? '/var/lib/lichen-agent' }
}

const defaultName = (): string => hostname().toLowerCase().split('.')[0]!.replace(/[^a-z0-9-]/g, '-')
