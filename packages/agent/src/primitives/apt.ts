/** apt and dpkg as everything here runs them: without questions, in one language, waiting for the locks of others. */
import { pause } from '../run/deadline.js'
import type { Execution } from '../run/program.js'
import { type CommandContext, failure } from './primitive.js'

/** What a command failed of. */
export type Failed = ReturnType<typeof failure>

/** Explains a failure of its own; undefined: the common explanation is given. */
export type Explain = (tail: string) => Failed | undefined

const lockRetryMs = 2000
/** Of all programs that change packages. */
export const packageEnvironment = { DEBIAN_FRONTEND: 'noninteractive', DEBIAN_PRIORITY: 'critical', APT_LISTCHANGES_FRONTEND: 'none', NEEDRESTART_SUSPEND: '1', UCF_FORCE_CONFFOLD: '1', LC_ALL: 'C.UTF-8' }
const aptOptions = ['-q', '-y', '-o', 'DPkg::Lock::Timeout=600', '-o', 'Dpkg::Use-Pty=0', '-o', 'Dpkg::Options::=--force-confdef', '-o', 'Dpkg::Options::=--force-confold', '-o', 'Acquire::Retries=3']

/** Runs apt-get; undefined when it succeeded. */
export async function apt(verb: string, args: readonly string[], context: CommandContext, explain?: Explain): Promise<Failed | undefined> {
  return await changePackages(['apt-get', verb, ...aptOptions, ...args], context, explain)
}

/** Fetches package lists; undefined when all could be had. `what` names the sources in the failure. Without its error mode, apt-get ends with 0 when a repository does not answer. */
export async function updateLists(what: string, options: readonly string[], context: CommandContext): Promise<Failed | undefined> {
  return await apt('update', [...options, '-o', 'APT::Update::Error-Mode=any'], context, (tail) => explainUpdate(what, tail))
}

/** Runs a program that changes packages; undefined when it succeeded. A lock that it does not wait for itself (that of apt's lists) is waited for here. */
export async function changePackages(argv: readonly string[], context: CommandContext, explain: Explain = () => undefined): Promise<Failed | undefined> {
  for (let tries = 1; ; tries++) {
    const execution = await context.run({ argv, env: packageEnvironment })
    if (execution.exitCode === 0) return undefined
    const isLocked = /Could not get lock|Unable to (?:acquire|lock)|is another process using it|dpkg frontend lock/i.test(execution.tail)
    if (!isLocked || context.deadline.reason) return explain(execution.tail) ?? explainFailure(argv, execution)
    if (tries === 1) context.log.say('another program changes packages; waiting for its lock')
    await pause(lockRetryMs, context.deadline)
  }
}

const isDiskFull = (tail: string): boolean => /No space left on device|don't have enough free space/i.test(tail)

/** Of a full disk apt says that it failed to fetch: that is for the common explanation. */
function explainUpdate(what: string, tail: string): Failed | undefined {
  if (isDiskFull(tail)) return undefined
  if (/NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|not valid yet|is expired|signatures? (?:couldn't be verified|were invalid)|unsupported filetype|Sub-process .*gpgv/i.test(tail)) return failure('COMMAND_REPOSITORY_UNTRUSTED', `${what}: apt refuses it:\n${tail}`)
  if (/Could not (?:connect|resolve)|Temporary failure|Connection (?:refused|timed out|failed)|Failed to fetch|does not have a Release file|File not found|404|Unable to connect/i.test(tail)) return failure('COMMAND_REPOSITORY_UNREACHABLE', `${what}: apt cannot read it:\n${tail}`)
  return undefined
}

function explainFailure(argv: readonly string[], { tail, startError, exitCode }: Execution): Failed {
  const what = argv.slice(0, 2).join(' ')
  if (startError !== undefined) return failure('COMMAND_NOT_STARTED', `${what}: ${startError}`)
  if (isDiskFull(tail)) return failure('COMMAND_DISK_FULL', `${what}: the disk is full\n${tail}`)
  if (/^E: Failed to fetch /m.test(tail)) return failure('COMMAND_REPOSITORY_UNREACHABLE', `${what}: a package could not be fetched:\n${tail}`)
  if (/Unable to locate package|has no installation candidate|was not found/.test(tail)) return failure('COMMAND_PACKAGE_UNKNOWN', `${what}:\n${tail}`)
  return failure('COMMAND_PACKAGE_FAILED', `${what} ended with ${exitCode === undefined ? 'a signal' : `exit code ${exitCode}`}; its last lines:\n${tail}`)
}
