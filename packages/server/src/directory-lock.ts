/**
 * The right to serve from a data directory, held through the kernel's lock on a small SQLite file: it is gone with its process however that
 * ends, so there is no stale lock to explain. Node.js has no flock(2) of its own, and SQLite is here anyway.
 *
 * 1. The lock is an exclusive transaction that stays open and writes nothing (so no journal is needed on disk).
 * 2. The file is never removed: removing a lock file that another process is about to open gives two owners.
 */
import sqlite3 from 'sqlite3'

export interface DirectoryLock {
  close(): Promise<void>
}

/** The lock on this file (made when missing), or undefined when another owner has it, in this process or another. */
export async function openDirectoryLock(path: string): Promise<DirectoryLock | undefined> {
  const database = await new Promise<sqlite3.Database>((resolve, reject) => {
    const opened: sqlite3.Database = new sqlite3.Database(path, (error) => (error ? reject(error) : resolve(opened)))
  })
  const close = () => new Promise<void>((resolve, reject) => database.close((error) => (error ? reject(error) : resolve())))
  try {
    await new Promise<void>((resolve, reject) => database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE', (error) => (error ? reject(error) : resolve())))
    return { close }
  } catch (error) {
    await close()
    if ((error as { code?: string }).code === 'SQLITE_BUSY') return undefined
    throw error
  }
}
