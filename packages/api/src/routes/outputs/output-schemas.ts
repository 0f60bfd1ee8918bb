import { Type } from '@sinclair/typebox'
import { Choice, NameText, OrNull, outputTypes } from '../../schema/fields.js'

const common = {
  component: Type.String({ description: 'Component of the plan.' }),
  name: Type.String({ description: 'Name in its blueprint.', examples: ['kubeconfig'] }),
  type: Choice(outputTypes, 'Of the value.'),
  description: Type.String({ description: 'What it is, in the words of the blueprint; may be empty.' }),
  isSecret: Type.Boolean({ description: 'Its value is told only to who asks for it by name.' }),
}

/** An output in a list. */
export const OutputSchema = Type.Object(
  {
    ...common,
    isReady: Type.Boolean({ description: 'Whether an apply got as far as giving it.' }),
    value: Type.Unsafe<unknown>({ description: 'Null for secret ones, and for those that are not there yet.' }),
    task: OrNull(Type.String(), 'The newest apply that gave it; null while it is not there.'),
    reason: Type.String({ description: 'Why it is not there yet; empty when it is.' }),
  },
  { $id: 'Output', description: 'What people get of a component.' },
)

/** An output with its value. */
export const OutputValueSchema = Type.Object(
  { ...common, value: Type.Unsafe<unknown>({ description: 'The value, byte for byte as the action gave it where it is one: of a file with its last newline, of stdout without white space around it.' }), task: Type.String({ description: 'The newest apply that gave it.' }) },
  { $id: 'OutputValue', description: 'An output with its value, also a secret one.' },
)

export const DeploymentParams = Type.Object({ project: NameText('Project of the deployment; `default` where the plan names none.'), deployment: NameText('Name of the deployment: `metadata.name` of its plan.') })
export const OutputParams = Type.Object({
  ...DeploymentParams.properties,
  component: NameText('Component of the plan.'),
  name: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9]*$', maxLength: 200, description: 'Name of the output.', examples: ['kubeconfig'] }),
})
