/** Every operation of the API, in the order of the document. */
import type { Api } from '../schema/type-provider.js'
import type { Context } from '../context.js'
import { registerReadBlueprints } from './blueprints/read-blueprints.js'
import { registerDeadLetters } from './dead-letters/dead-letters.js'
import { registerListEngines } from './engines/list-engines.js'
import { registerReadErrors } from './errors/read-errors.js'
import { registerCreateJoinToken } from './join-tokens/create-join-token.js'
import { registerListJoinTokens } from './join-tokens/list-join-tokens.js'
import { registerChangeNode } from './nodes/change-node.js'
import { registerReadNodes } from './nodes/list-nodes.js'
import { registerHealth } from './operations/health.js'
import { registerReadOutputs } from './outputs/read-outputs.js'
import { registerRunOperation } from './deployments/run-operation.js'
import { registerListOperations } from './deployments/list-operations.js'
import { registerSecrets } from './deployments/secrets.js'
import { registerIndexPage } from './operations/index-page.js'
import { registerCheckPlan } from './plans/check-plan.js'
import { registerCreatePreview } from './previews/create-preview.js'
import { registerApproveGate } from './tasks/approve-gate.js'
import { registerCancelTask } from './tasks/cancel-task.js'
import { registerListActions } from './tasks/list-actions.js'
import { registerListTasks } from './tasks/list-tasks.js'
import { registerPauseTask } from './tasks/pause-task.js'
import { registerReadDocuments } from './tasks/read-documents.js'
import { registerReadEvents } from './tasks/read-events.js'
import { registerReadLog } from './tasks/read-log.js'
import { registerReadTask } from './tasks/read-task.js'
import { registerRetryTask } from './tasks/retry-task.js'
import { registerSettleAction } from './tasks/settle-action.js'
import { registerSubmitTask } from './tasks/submit-task.js'

const operations = [
  registerCheckPlan, registerCreatePreview,
  registerSubmitTask, registerListTasks, registerReadTask, registerListActions, registerReadEvents, registerReadLog,
  registerPauseTask, registerApproveGate, registerSettleAction, registerCancelTask, registerRetryTask, registerReadDocuments, registerReadOutputs,
  registerRunOperation, registerListOperations, registerSecrets,
  registerReadNodes, registerChangeNode, registerCreateJoinToken, registerListJoinTokens, registerListEngines,
  registerReadBlueprints, registerDeadLetters,
]

/** Registers what needs a bearer token; `app` is the scope of /v1. */
export function registerOperations(app: Api, context: Context): void {
  for (const register of operations) register(app, context)
}

/** Registers what needs none: health, metrics, the table of errors and the index. */
export function registerPublicRoutes(app: Api, context: Context): void {
  registerIndexPage(app, context)
  registerHealth(app, context)
  registerReadErrors(app)
}
