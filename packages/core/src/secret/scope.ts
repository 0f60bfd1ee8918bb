/** Scopes of the secret store, each a name space of its own. */
import type { TaskId } from '../ids.js'

/** Where the generated secrets of a deployment are kept. */
export const scopeOfDeployment = (project: string, deployment: string): string => `deployment/${project}/${deployment}`

/** Where the secret outputs of a task's actions are kept, each under `nameOfOutput`. */
export const scopeOfTask = (task: TaskId): string => `task/${task}`

/** The name of an action's output within its scope. */
export const nameOfOutput = (action: string, output: string): string => `${action}#${output}`
