import { Type, type Static } from '@sinclair/typebox'
import { FactsSchema, LichenError, type NodeRecord } from '@lichen/core'
import type { ConnectedNode } from '../../planning/node-list.js'
import { Choice, LabelsAnswer, OrNull, Time } from '../../schema/fields.js'

const { $id: _id, ...facts } = FactsSchema

export const NodeSchema = Type.Object(
  {
    id: Type.String({ description: 'Its name.' }),
    state: Choice(['ready', 'lost'], '`ready`: its stream to the gateway is open. `lost`: it has been silent for longer than the limit.'),
    engine: OrNull(Type.String(), 'Name of the engine at which its stream ends; null while it has none.'),
    cordoned: Type.Boolean({ description: 'It accepts nothing new.' }),
    labels: LabelsAnswer,
    facts: Type.Unsafe<NodeRecord['facts']>({ ...facts, description: 'What the machine says of itself; empty values until it has connected for the first time.' }),
    agentVersion: Type.String(),
    joinedAt: Time('When it joined.'),
    lastSeenAt: Time('When it was last heard of.'),
  },
  { $id: 'Node', description: 'A machine with our agent on it.' },
)

/** A node as the API shows it. */
export const toNodeAnswer = ({ id, state, engine, cordoned, labels, facts, agentVersion, joinedAt, lastSeenAt }: ConnectedNode): Static<typeof NodeSchema> => ({
  id, state, engine, cordoned, labels: { ...labels }, facts, agentVersion, joinedAt, lastSeenAt,
})

/** The error for an id that no node has. */
export const unknownNode = (id: string): LichenError => new LichenError('REQUEST_NOT_FOUND', `there is no node ${id}`)
