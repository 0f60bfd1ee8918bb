import { Type } from '@sinclair/typebox'
import { LabelsAnswer, OrNull, Time } from '../../schema/fields.js'

/** What is known of a join token; its secret part is not. */
export const joinTokenFields = {
  id: Type.String({ description: 'The public part of the token.' }),
  labels: LabelsAnswer,
  usesLeft: OrNull(Type.Integer(), 'How many nodes may still join with it; null: any number.'),
  expiresAt: Time('When it expires.'),
  createdAt: Time('When it was made.'),
  createdBy: Type.String(),
}

export const JoinTokenSchema = Type.Object(joinTokenFields, { $id: 'JoinToken', description: 'A join token, without its secret.' })
