/** Where the engine tells what it does; the shape of pino's methods. error: an operator must act now; warn: later; info: the life of tasks and nodes; debug: us. */
export interface EngineLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
