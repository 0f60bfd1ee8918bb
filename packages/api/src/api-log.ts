/** Where the API tells what an operator should know; the shape of pino's methods. */
export interface ApiLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
