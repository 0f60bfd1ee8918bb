/** Users and groups of the node, by name. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** A user of the node. */
export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
  readonly shell: string
}

/** The user of this name or number; undefined when the node has none. Asks the files first, then the name services (LDAP and the like). */
export function findAccount(nameOrUid: string): Account | undefined {
  const fields = findEntry('passwd', nameOrUid)
  if (!fields) return undefined
  const [name, , uid, gid, , home, shell] = fields
  return { name: name!, uid: Number(uid), gid: Number(gid), home: home ?? '/', shell: shell ?? '' }
}

/** Number of the group of this name or number; undefined when the node has none. */
export function findGroup(nameOrGid: string): number | undefined {
  const fields = findEntry('group', nameOrGid)
  return fields && Number(fields[2])
}

/** Names of the groups that list the user as a member. */
export function groupsOf(user: string): string[] {
  return readEntries('/etc/group')
    .filter((fields) => fields[3]?.split(',').includes(user))
    .map((fields) => fields[0]!)
}

function findEntry(database: 'passwd' | 'group', key: string): string[] | undefined {
  const local = readEntries(`/etc/${database}`).find((fields) => fields[0] === key || fields[2] === key)
  if (local) return local
  try {
    return execFileSync('getent', [database, key], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 5000 }).trim().split(':')
  } catch {
    return undefined
  }
}

function readEntries(path: string): string[][] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(':'))
}
