import { LichenError } from '@lichen/core'

/** The error for an id that no task has. */
export const unknownTask = (id: string): LichenError => new LichenError('REQUEST_NOT_FOUND', `there is no task ${id}`)
