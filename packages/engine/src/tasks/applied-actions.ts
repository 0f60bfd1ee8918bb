/** What a task leaves behind that later tasks of its deployment may rely on: see `AppliedAction` and docs/decisions/0015-unchanged-actions.md. */
import type { TaskId, TrackedTask } from '@lichen/core'
import type { AppliedAction } from '@lichen/store'

/**
 * The actions of an apply that ran and succeeded, to be recorded when the task ends, however it ends. Those that were unchanged are recorded already. What ran without success was
 * taken from the record when the task was planned. Empty for other kinds of tasks, and for what a person settled: nobody saw the node.
 */
export function listApplied(task: TaskId, view: TrackedTask): readonly AppliedAction[] {
  if (view.kind !== 'apply' || view.graph === null) return []
  return view.graph.actions.flatMap((action) => {
    const state = view.actions.get(action.id)
    if (state?.state !== 'succeeded' || state.isUnchanged || state.result === null || action.verifies.length > 0) return []
    // What a person settled lacks commands that the node saw succeed.
    if (state.result.commands.filter(({ outcome }) => outcome === 'succeeded').length !== action.commands.length) return []
    return [{ action: action.id, node: action.node, key: action.key, task, outputs: state.result.outputs }]
  })
}
