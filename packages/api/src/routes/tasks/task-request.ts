/** The body of POST /v1/tasks: what is to be done with which plan. */
import { Type, type TSchema } from '@sinclair/typebox'
import { LichenError, maxPlanSizeBytes, taskId, type Plan, type TaskKind } from '@lichen/core'
import type { Store } from '@lichen/store'
import { isBarePlan, readPlan, rejectPlan } from '../../planning/plan-input.js'
import { DigestText, TaskIdText } from '../../schema/fields.js'
import { examplePlan, PlanInput } from '../../schema/plan-body.js'
import { buildBodyCheck } from '../../schema/request-validators.js'
import { PlanKindField } from './task-schemas.js'
import { unknownTask } from './unknown-task.js'

const requestSchema = (plan: TSchema) =>
  Type.Object(
    {
      kind: PlanKindField,
      plan: Type.Optional(plan),
      task: Type.Optional(Type.Unsafe<string>({ ...TaskIdText, description: 'Take the plan of this earlier task, instead of `plan`.' })),
      previewDigest: Type.Optional(DigestText('Digest of a preview: the task is refused when the preview would be another one now.')),
    },
    { additionalProperties: false, description: 'Exactly one of `plan` and `task`.', examples: [{ kind: 'apply', plan: examplePlan }] },
  )

/** For the document. A plan by itself is taken too. */
export const TaskRequestSchema = Type.Union([requestSchema(PlanInput), Type.Ref('DeploymentPlan#')])

export const TaskRequestQuery = Type.Object(
  {
    kind: Type.Optional(Type.Unsafe<PlanKind>({ ...PlanKindField, description: 'For a body that is a plan by itself. Default: `apply`.' })),
    previewDigest: Type.Optional(DigestText('For a body that is a plan by itself: as in the JSON body.')),
  },
  { additionalProperties: false },
)

const checkBody = buildBodyCheck(requestSchema(Type.Unknown()))

/** What can be done with a plan that is sent. */
export type PlanKind = Exclude<TaskKind, 'operation'>

/** What a client asks for, with a plan of the right shape. */
export interface TaskRequest {
  readonly kind: PlanKind
  readonly plan: Plan
  /** JSON of the plan, as it is stored. */
  readonly planText: string
  readonly previewDigest: string | undefined
}

/**
 * The request in this body and query.
 * @throws REQUEST_SHAPE, PLAN_SYNTAX, PLAN_TOO_LARGE, PLAN_SHAPE; REQUEST_NOT_FOUND when `task` names none
 */
export async function readTaskRequest(store: Pick<Store, 'tasks'>, body: unknown, query: { readonly kind?: PlanKind; readonly previewDigest?: string }): Promise<TaskRequest> {
  if (isBarePlan(body)) return build(query.kind ?? 'apply', body, query.previewDigest)
  const request = checkBody(body)
  for (const name of ['kind', 'previewDigest'] as const) if (query[name] !== undefined) throw rejectField(`query.${name}`, 'belongs into the body here: the query is for a body that is a plan by itself')
  if ((request.plan === undefined) === (request.task === undefined)) throw rejectField('plan', 'exactly one of `plan` and `task` must be given')
  const input = request.task === undefined ? request.plan : await readEarlierPlan(store, request.task)
  return build(request.kind, input, request.previewDigest)
}

function rejectField(path: string, message: string): LichenError {
  return new LichenError('REQUEST_SHAPE', `${path}: ${message}`, { problems: [{ code: 'REQUEST_SHAPE', path, message }] })
}

async function readEarlierPlan(store: Pick<Store, 'tasks'>, id: string): Promise<unknown> {
  const earlier = await store.tasks.read(taskId(id))
  if (earlier === undefined) throw unknownTask(id)
  return JSON.parse(earlier.plan)
}

function build(kind: PlanKind, input: unknown, previewDigest: string | undefined): TaskRequest {
  const plan = readPlan(input)
  if (!plan.ok) throw rejectPlan(plan.problems)
  const planText = JSON.stringify(plan.value)
  const sizeBytes = Buffer.byteLength(planText)
  if (sizeBytes > maxPlanSizeBytes) throw new LichenError('PLAN_TOO_LARGE', `the plan has ${sizeBytes} bytes of JSON; at most ${maxPlanSizeBytes} are taken`)
  return { kind, plan: plan.value, planText, previewDigest }
}
