/** One numbered step of the tables. Once released, its SQL never changes: a correction is a new migration. */
export interface Migration {
  readonly version: number
  readonly name: string
  readonly sql: string
}
