/** Schemas that several resources use. */
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { namePattern } from '@lichen/core'

/** One of these words. Written as `enum`, which serializes and reads better than a union of constants. */
export const Choice = <const Word extends string>(words: readonly Word[], description: string) => Type.Unsafe<Word>({ type: 'string', enum: [...words], description })

/** The same schema, or null. Written as a list of types (JSON Schema 2020-12), which serializes without trying each. */
export const OrNull = <Schema extends TSchema>(schema: Schema, description?: string) =>
  Type.Unsafe<Static<Schema> | null>({ ...schema, type: [schema['type'] as string, 'null'], ...(description === undefined ? {} : { description }) })

/** What kinds of values outputs have. */
export const outputTypes = ['string', 'integer', 'boolean', 'list'] as const

/** Milliseconds since the epoch. */
export const Time = (description: string) => Type.Integer({ description: `${description} Milliseconds since the epoch.`, examples: [1_764_000_000_000] })

/** A switch in a query: `?follow`, `?follow=true`, `?follow=1` are on, `=false` and `=0` off. Read it with `readFlag`. */
export const Flag = (description: string) => Type.Optional(Choice(['', 'true', '1', 'false', '0'], description))

/** What a flag of the query says; `absent` when it is not there. */
export const readFlag = (text: string | undefined, absent: boolean): boolean => (text === undefined ? absent : text !== 'false' && text !== '0')

export const TaskIdText = Type.String({ pattern: '^t-[0-9A-Za-z][0-9A-Za-z-]{0,63}$', description: 'Id of a task.', examples: ['t-01JD8Z3Q4V5W6X7Y8Z9A0B1C2D'] })
export const NodeIdText = Type.String({ pattern: namePattern, description: 'Id of a node: its name.', examples: ['node-1'] })
/** Id of an action or a gate. */
export const ActionIdText = (description: string, example: string) => Type.String({ minLength: 1, maxLength: 400, description, examples: [example] })
/** A name as plans have it. */
export const NameText = (description: string) => Type.String({ pattern: namePattern, description })
/** A SHA-256 digest, lower-case hex. */
export const DigestText = (description: string) => Type.String({ pattern: '^[0-9a-f]{64}$', description: `${description} SHA-256, lower-case hex.` })

export const TaskParams = Type.Object({ id: TaskIdText })
export const NodeParams = Type.Object({ id: NodeIdText })

const labelKeyPattern = '^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$'

/** Labels of nodes, plans and join tokens in requests. */
export const LabelsSchema = Type.Record(Type.String({ pattern: labelKeyPattern }), Type.String({ maxLength: 253 }), {
  additionalProperties: false,
  description: 'Labels: keys of letters, digits and `-_./`, at most 63 characters; values of at most 253.',
  examples: [{ zone: 'a', role: 'control' }],
})

/** A change of labels (RFC 7396): a text sets a label, null takes it away, what is not named stays. */
export const LabelsChangeSchema = Type.Record(Type.String({ pattern: labelKeyPattern }), OrNull(Type.String({ maxLength: 253 })), {
  additionalProperties: false,
  description: 'Labels to set; null takes one away; what is not named stays.',
  examples: [{ zone: 'b', old: null }],
})

/** Labels in answers. */
export const LabelsAnswer = Type.Record(Type.String(), Type.String(), { description: 'Labels.' })

/** A reference to a schema that is registered by its `$id`, with the type of that schema. */
export const Named = <Schema extends TSchema>(schema: Schema) => Type.Unsafe<Static<Schema>>({ $ref: `${schema.$id}#` })
