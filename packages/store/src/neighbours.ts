import { asksForNeighbours, buildInheritance, type Catalog, type Neighbour, type Plan, type TaskKind } from '@lichen/core'
import type { TaskStore } from './ports/task-store.js'

export interface NeighboursQuery {
  readonly plan: Plan
  readonly catalog: Catalog
  readonly kind: TaskKind
  /** Whose the plan is. */
  readonly project: string
  readonly deployment: string
}

/** What is there of every other deployment, where that matters to a task of this plan; else nothing is read. What was leaving one and has gone completely is left out. */
export async function readNeighbours(tasks: Pick<TaskStore, 'readOtherFootprints' | 'readApplied'>, { plan, catalog, kind, project, deployment }: NeighboursQuery): Promise<readonly Neighbour[]> {
  if (!asksForNeighbours(plan, catalog, kind)) return []
  const footprints = await tasks.readOtherFootprints(project, deployment)
  return await Promise.all(footprints.map(async ({ project, deployment, ...footprint }): Promise<Neighbour> => {
    const applied = footprint.departures.length === 0 ? [] : await tasks.readApplied(project, deployment)
    return { project, deployment, inheritance: buildInheritance(footprint, new Set(applied.map(({ action }) => action))) }
  }))
}
