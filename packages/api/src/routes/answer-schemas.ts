import { OperationsSchema } from './deployments/list-operations.js'
import { SecretsSchema } from './deployments/secrets.js'
import { ActionGraphSchema, PreviewSchema } from './previews/action-graph-schema.js'
import { BlueprintOverviewSchema, BlueprintVersionsSchema } from './blueprints/read-blueprints.js'
import { DeadLetterSchema } from './dead-letters/dead-letters.js'
import { EngineSchema } from './engines/list-engines.js'
import { ErrorCodeSchema } from './errors/read-errors.js'
import { JoinTokenSchema } from './join-tokens/join-token-schema.js'
import { NodeSchema } from './nodes/node-schema.js'
import { OutputSchema, OutputValueSchema } from './outputs/output-schemas.js'
import { ActionSchema, RecordedEventSchema, TaskDetailSchema, TaskSchema } from './tasks/task-schemas.js'

/** Schemas that routes refer to by their name; they are the components of the OpenAPI document. */
export const answerSchemas = [TaskSchema, TaskDetailSchema, ActionSchema, RecordedEventSchema, ActionGraphSchema, NodeSchema, EngineSchema, JoinTokenSchema, BlueprintOverviewSchema, BlueprintVersionsSchema, DeadLetterSchema, ErrorCodeSchema, PreviewSchema, OutputSchema, OutputValueSchema, OperationsSchema, SecretsSchema]
