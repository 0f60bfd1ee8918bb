import { buildInheritance, type Neighbour } from '@lichen/core'
import type { TaskStore } from './ports/task-store.js'

/** What is there of every other deployment. What was leaving one and has gone completely is left out. */
export async function readNeighbours(tasks: Pick<TaskStore, 'readOtherFootprints' | 'readApplied'>, project: string, deployment: string): Promise<readonly Neighbour[]> {
  const footprints = await tasks.readOtherFootprints(project, deployment)
  return await Promise.all(footprints.map(async ({ project, deployment, ...footprint }): Promise<Neighbour> => {
    const applied = footprint.departures.length === 0 ? [] : await tasks.readApplied(project, deployment)
    return { project, deployment, inheritance: buildInheritance(footprint, new Set(applied.map(({ action }) => action))) }
  }))
}
