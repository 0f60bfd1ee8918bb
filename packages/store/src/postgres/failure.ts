/** What PostgreSQL's error codes and broken connections mean for callers of the store. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html */
import { LichenError } from '@lichen/core'
import pg from 'pg'

// Classes of codes that say: not now, through no fault of the statement. 08 connection, 53 resources (disk, memory, connections), 57 operator (shutdown, cancel, crash), 58 system, XX001 and XX002 damage.
const unavailable = /^(08|28|53|57|58|25006|25P03|3D000|42501|55P03|XX00[12])/
const words: Readonly<Record<string, string>> = {
  '25006': 'the server is read-only',
  '28P01': 'the server refuses the password',
  '3D000': 'the server has no such database',
  '42501': 'the user of the store lacks a privilege',
  '53100': 'the disk of the server is full',
  '53300': 'the server has too many connections',
  '55P03': 'a lock was not given in time',
  '57014': 'the server took too long',
  '57P01': 'the server is shutting down',
  '57P02': 'the server crashed',
  '57P03': 'the server is starting or stopping',
}

const codeOf = (error: unknown): string => (error instanceof pg.DatabaseError ? (error.code ?? '') : '')

/** True when the server rolled the transaction back for the sake of another one (deadlock, serialization): the same again may go through. */
export const isCollision = (error: unknown): boolean => codeOf(error) === '40P01' || codeOf(error) === '40001'

/** True when the reason lies in the write itself, its data or a row that it wants, so that other writes may still succeed; false when the database is not usable now. */
export function isFaultOfWrite(error: unknown): boolean {
  if (error instanceof LichenError) return false
  const code = codeOf(error)
  return code === '55P03' || (code !== '' && !unavailable.test(code))
}

// What the server says last before it closes the connection. The severity would tell, but it is translated into the language of the server.
const farewell = /^(08|28|25P03|3D000|53300|57P)/

/** True when the server answered with an error and the connection can go on; false when the connection is lost, or nothing is known of it. */
export const isAnswer = (error: unknown): boolean => codeOf(error) !== '' && !farewell.test(codeOf(error))

/** All messages of an error that stands for several, such as one for each address of a host. */
const describe = (error: unknown): string => (error instanceof AggregateError && error.message === '' ? error.errors.map(describe).join('; ') : error instanceof Error ? error.message : String(error))

/**
 * The error to throw for `error`: STORE_UNAVAILABLE, STORE_CONFLICT for a broken constraint, INTERNAL for what the server finds wrong with a statement; a LichenError stays itself. `attempt` says
 * what was tried. All that the server did not say itself comes from a connection, and is STORE_UNAVAILABLE.
 */
export function explainFailure(error: unknown, attempt: string): LichenError {
  if (error instanceof LichenError) return error
  const code = codeOf(error)
  const detail = describe(error)
  if (code.startsWith('23')) return new LichenError('STORE_CONFLICT', `${attempt}: ${detail}`, { cause: error })
  if (code !== '' && !unavailable.test(code) && !isCollision(error)) return new LichenError('INTERNAL', `${attempt}: ${detail}`, { cause: error })
  const shown = words[code] === undefined ? detail : `${words[code]} (${detail})`
  return new LichenError('STORE_UNAVAILABLE', `${attempt}: ${shown}`, { cause: error, retryAfterS: 1 })
}
