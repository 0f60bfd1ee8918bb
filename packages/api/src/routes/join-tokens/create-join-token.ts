import { createHash, randomBytes } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { encodeJoinToken } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import { callerOf } from '../../auth/authenticate.js'
import { fillMissingBody } from '../../body/optional-body.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { LabelsSchema, Time } from '../../schema/fields.js'
import { buildCloudInit, buildGatewayLine } from './cloud-init.js'
import { joinTokenFields } from './join-token-schema.js'

const Body = Type.Object(
  {
    ttlS: Type.Integer({ minimum: 1, maximum: 30 * 86_400, default: 3600, description: 'Seconds until it expires.' }),
    uses: Type.Unsafe<number | null>({ type: ['integer', 'null'], minimum: 1, maximum: 100_000, default: 1, description: 'How many nodes may join with it; null: any number until it expires.' }),
    labels: Type.Optional(LabelsSchema),
  },
  { additionalProperties: false, examples: [{ ttlS: 3600, uses: 3, labels: { role: 'control' } }] },
)

const Answer = Type.Object(
  {
    ...joinTokenFields,
    token: Type.String({ description: 'The token: shown this once and kept nowhere.', examples: ['lichen1.k3v9x2q7.…'] }),
    gateway: Type.String({ description: '`host:port` at which nodes reach a gateway.' }),
    gateways: Type.Array(Type.String(), { description: 'Every gateway that runs now; an agent goes to another when one does not answer.' }),
    agentConfig: Type.String({ description: 'Content for /etc/lichen/agent.yaml.' }),
    cloudInit: Type.String({ description: 'User data for a machine whose image has the agent.' }),
    createdAt: Time('When it was made.'),
  },
  { description: 'A join token with all that a node needs.' },
)

/** Registers POST /v1/join-tokens. */
export function registerCreateJoinToken(app: Api, { store, now, caDigest, gatewayAddress, audit }: Context): void {
  app.post(
    '/join-tokens',
    {
      preValidation: fillMissingBody as never,
      schema: { operationId: 'createJoinToken', tags: ['nodes'], summary: 'Make a join token', description: 'A node that shows it is let in and gets the labels.', body: Body, response: { 201: Answer, ...problemAnswers(400, 415) } },
    },
    async (request, reply) => {
      const { ttlS, uses, labels = {} } = request.body
      const id = randomBytes(6).toString('hex')
      const secret = randomBytes(32).toString('base64url')
      const createdAt = now()
      const record = { id, labels, usesLeft: uses, createdAt, expiresAt: createdAt + ttlS * 1000, createdBy: callerOf(request).name }
      await store.nodes.putJoinToken({ ...record, secretDigest: createHash('sha256').update(secret).digest('hex') })
      await audit.append(request, 'make join token', id, `uses ${uses ?? 'unlimited'}, ttlS ${ttlS}`)
      const token = encodeJoinToken({ id, secret, caDigest })
      const gateways = await listGateways(store, createdAt, gatewayAddress)
      const agentConfig = `${buildGatewayLine(gateways)}\ntoken: ${JSON.stringify(token)}\n`
      return reply
        .code(201)
        .header('location', `/v1/join-tokens/${id}`)
        .send({ ...record, token, gateway: gateways[0] ?? gatewayAddress, gateways: [...gateways], agentConfig, cloudInit: buildCloudInit({ gateways, token, labels }) })
    },
  )
}

/** The gateways of the engines that run, by name of engine; `fallback` alone when none is known (an API that was started first). */
async function listGateways(store: Pick<Context['store'], 'engines'>, now: number, fallback: string): Promise<readonly string[]> {
  const running = (await store.engines.listEngines(now)).filter((engine) => engine.until > now && engine.gateway !== '').map((engine) => engine.gateway)
  return running.length === 0 ? [fallback] : [...new Set(running)]
}
