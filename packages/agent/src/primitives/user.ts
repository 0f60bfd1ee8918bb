/** A user of the system with its primary group, made and changed by the distribution's own programs. */
import type { CommandSpec } from '@lichen/core'
import { type Account, findAccount, groupsOf } from '../run/account.js'
import { checkConfinedKind } from './confinement.js'
import { type CommandContext, failure, type Primitive } from './primitive.js'

type Spec = CommandSpec<'user'>

/** The home directory is made for a new user that is not a system user. Removing a user keeps its files. */
export const user: Primitive<'user'> = {
  check(spec, { confine }) {
    const confined = checkConfinedKind(`user ${spec.user}`, confine)
    if (confined) return Promise.resolve({ failure: confined })
    const account = findAccount(spec.user)
    if (spec.state === 'absent') return Promise.resolve(account ? { isThere: false, difference: `- user ${spec.user}` } : { isThere: true })
    if (!account) return Promise.resolve({ isThere: false, difference: `+ user ${spec.user}` })
    const lines = compare(spec, account)
    return Promise.resolve(lines.length === 0 ? { isThere: true } : { isThere: false, difference: `user ${spec.user}: ${lines.join(', ')}` })
  },

  async do(spec, context) {
    const account = findAccount(spec.user)
    if (spec.state === 'absent') return await change(['userdel', spec.user], context)
    return await change(account ? changeArgv(spec, account) : createArgv(spec), context)
  },
}

function compare(spec: Spec, account: Account): string[] {
  const missing = missingGroups(spec)
  return [
    ...(spec.home !== undefined && spec.home !== account.home ? [`home ${account.home} → ${spec.home}`] : []),
    ...(spec.shell !== undefined && spec.shell !== account.shell ? [`shell ${account.shell} → ${spec.shell}`] : []),
    ...(missing.length > 0 ? [`groups + ${missing.join(' ')}`] : []),
  ]
}

function missingGroups(spec: Spec): string[] {
  const present = groupsOf(spec.user)
  return (spec.groups ?? []).filter((group) => !present.includes(group))
}

function createArgv(spec: Spec): string[] {
  return [
    'useradd', '--user-group',
    ...(spec.system ? ['--system', '--no-create-home'] : ['--create-home']),
    ...(spec.home === undefined ? [] : ['--home-dir', spec.home]),
    ...(spec.shell === undefined ? (spec.system ? ['--shell', '/usr/sbin/nologin'] : ['--shell', '/bin/bash']) : ['--shell', spec.shell]),
    ...(spec.groups?.length ? ['--groups', spec.groups.join(',')] : []),
    spec.user,
  ]
}

function changeArgv(spec: Spec, account: Account): string[] {
  const missing = missingGroups(spec)
  return [
    'usermod',
    ...(spec.home !== undefined && spec.home !== account.home ? ['--home', spec.home] : []),
    ...(spec.shell !== undefined && spec.shell !== account.shell ? ['--shell', spec.shell] : []),
    ...(missing.length > 0 ? ['--append', '--groups', missing.join(',')] : []),
    spec.user,
  ]
}

async function change(argv: string[], context: CommandContext) {
  const execution = await context.run({ argv })
  if (execution.exitCode === 0) return { exitCode: 0 }
  return { ...failure('COMMAND_EXIT_CODE', `${argv.join(' ')}: ${execution.startError ?? execution.tail}`), exitCode: execution.exitCode }
}
