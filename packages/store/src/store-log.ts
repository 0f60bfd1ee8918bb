/** Where the store tells what an operator should know; the shape of pino's methods. */
export interface StoreLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** A log that keeps nothing. */
export const silentLog: StoreLog = { info: () => undefined, warn: () => undefined }
