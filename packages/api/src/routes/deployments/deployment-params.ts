import { Type } from '@sinclair/typebox'
import { namePattern } from '@lichen/core'

/** Which deployment a path speaks of. */
export const DeploymentParams = Type.Object({
  project: Type.String({ pattern: namePattern, description: 'Its project.', examples: ['default'] }),
  deployment: Type.String({ pattern: namePattern, description: 'Its name.', examples: ['shop'] }),
})
