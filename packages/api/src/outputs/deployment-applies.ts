/** The applies of a deployment that may have brought about what is there now. */
import { LichenError, type TaskId } from '@lichen/core'
import type { Store, TaskSummary } from '@lichen/store'

const pageSize = 100
/** So many applies are looked back on for a value. Each may cost a fold of its events; after so many that all failed before the same action, an older value is hardly that of the nodes. */
const maxApplies = 50

/**
 * The planned applies of the deployment since it was last destroyed, the newest first; what never got a graph has no effect and is left out.
 * @throws DEPLOYMENT_UNKNOWN when there is no task of it, OUTPUT_GONE when it was destroyed since the newest apply, OUTPUT_NOT_READY when none was planned yet
 */
export async function listApplies(tasks: Pick<Store['tasks'], 'list'>, project: string, deployment: string): Promise<readonly TaskSummary[]> {
  const applies: TaskSummary[] = []
  let hasTasks = false
  for (let before: TaskId | undefined; ; ) {
    const page = await tasks.list({ project, deployment, limit: pageSize, ...(before === undefined ? {} : { before }) })
    hasTasks ||= page.length > 0
    for (const task of page) {
      if (task.kind === 'check' || task.kind === 'operation' || !isPlanned(task)) continue
      if (task.kind === 'destroy') return applies.length > 0 ? applies : refuseDestroyed(task)
      applies.push(task)
      // What was complete then is not older than that.
      if (task.outcome === 'succeeded' || applies.length === maxApplies) return applies
    }
    before = page.at(-1)?.id
    if (before !== undefined && page.length === pageSize) continue
    if (applies.length > 0) return applies
    if (!hasTasks) throw new LichenError('DEPLOYMENT_UNKNOWN', `there is no deployment "${deployment}" in project "${project}"`)
    throw new LichenError('OUTPUT_NOT_READY', `deployment "${deployment}" in project "${project}" has no outputs yet: no apply of it has been planned`)
  }
}

/** The row counts the actions of the graph, from when there is one. */
const isPlanned = ({ counts, outcome }: TaskSummary): boolean => outcome === 'succeeded' || Object.values(counts).some((count) => count > 0)

function refuseDestroyed({ id, project, deployment, state }: TaskSummary): never {
  throw new LichenError('OUTPUT_GONE', `deployment "${deployment}" in project "${project}" ${state === 'ended' ? 'was' : 'is being'} destroyed (task ${id}), and its outputs are gone with it`)
}
