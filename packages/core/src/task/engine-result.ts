import type { AttemptResult } from '../command/result.js'

/** The result of an attempt that no node reported: the engine ended it by itself, for the reason given. `at`: ms since the epoch. */
export const buildEngineResult = (outcome: 'failed' | 'timedOut' | 'unknown', code: string, message: string, at: number): AttemptResult => ({
  outcome, changed: false, commands: [], outputs: {}, failure: { code, message }, startedAt: at, endedAt: at,
})
