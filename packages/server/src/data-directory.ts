/**
 * The directory in which a server keeps what must outlive it. Owns the directory itself, the locks and `server.json`; the database, the
 * master key and the administrator's token are files in it that others own.
 *
 * 1. One process for each role: a second one is refused before it touches anything.
 * 2. Nobody but the owner may look in: it holds the master key.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { openDirectoryLock, type DirectoryLock } from './directory-lock.js'

/** `api`: HTTP. `engine`: plans and drives tasks. `gateway`: where agents connect. */
export type Role = 'api' | 'engine' | 'gateway'

/** What a running server says of itself in `server.json`, for the CLI on the same machine. */
export interface ServerNote {
  readonly pid: number
  readonly apiUrl: string
  readonly gatewayAddress: string
}

export interface DataDirectory {
  readonly path: string
  writeNote(note: ServerNote): Promise<void>
  /** Takes the note away and gives the locks back. */
  close(): Promise<void>
}

const notePath = (directory: string): string => join(directory, 'server.json')

/**
 * The data directory, made when missing, locked for these roles.
 * @throws SERVER_LOCKED when another server has one of the roles here.
 */
export async function openDataDirectory(path: string, roles: readonly Role[]): Promise<DataDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  const locks: DirectoryLock[] = []
  for (const role of [...roles].sort()) {
    const lock = await openDirectoryLock(join(path, `${role}.lock`))
    if (lock) {
      locks.push(lock)
      continue
    }
    await Promise.all(locks.map((held) => held.close()))
    throw new LichenError('SERVER_LOCKED', `another server${await describeOwner(path)} is running on ${path}; stop it, or set LICHEN_DATA_DIRECTORY`)
  }
  let hasNote = false
  return {
    path,
    writeNote: async (note) => {
      await writeFile(`${notePath(path)}.new`, `${JSON.stringify(note)}\n`, { mode: 0o644 })
      await rename(`${notePath(path)}.new`, notePath(path))
      hasNote = true
    },
    close: async () => {
      if (hasNote) await rm(notePath(path), { force: true })
      await Promise.all(locks.map((lock) => lock.close()))
    },
  }
}

async function describeOwner(path: string): Promise<string> {
  try {
    const note = JSON.parse(await readFile(notePath(path), 'utf8')) as Partial<ServerNote>
    return ` (process ${note.pid}, ${note.apiUrl})`
  } catch {
    return ''
  }
}
