/** Where the agent writes about itself (not the task log). Shaped as pino's logger, so that either fits. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
