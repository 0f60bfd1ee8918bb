/**
 * A program run once. Its check is what the spec says: `creates` (a path), `unless`, or `verify` when there is no `unless`; any of them suffices. Where
 * the effect is there already, outputs from stdout are what the check printed, as the program did not run.
 *
 * A program that `reboots` the node is done when the node has another boot id than when it began.
 */
import { open } from 'node:fs/promises'
import type { CommandSpec } from '@lichen/core'
import { findAccount } from '../run/account.js'
import { pause } from '../run/deadline.js'
import type { Execution, Program } from '../run/program.js'
import { lstatIfThere } from './file.js'
import { type CommandContext, type Done, failure, type Finding, type Outputs, type Primitive } from './primitive.js'

type Spec = CommandSpec<'run'>
const maxOutputBytes = 64 * 1024
/** A shutdown that goes on is over by then: systemd's own limit for stopping a unit is 90 s. */
const shutdownMs = 120_000
const noOutputs: Outputs = { plain: {}, secret: {} }
const shell = ['/bin/bash', '-euo', 'pipefail', '-c']

/** See the file header. */
export const run: Primitive<'run'> = {
  isCheckable: (spec) => hasCheck(spec) || spec.reboots === true,

  async check(spec, context) {
    const problem = checkSpec(spec, context)
    if (problem) return problem
    if (spec.reboots && context.begunBoot !== undefined && context.begunBoot !== context.bootId) return await checkRebooted(spec, context)
    return await look(spec, context)
  },

  async do(spec, context) {
    const base = findBase(spec, context)
    if ('failure' in base) return base
    const execution = await context.run({ argv: spec.argv ?? [...shell, spec.shell ?? ''], stdin: spec.stdin, ...base, ...captureOf(spec) })
    const failed = toFailure(spec, execution, context)
    if (spec.reboots && (!failed || execution.signal !== undefined)) return await awaitReboot(spec, execution, failed, context)
    if (failed) return { ...failed, exitCode: execution.exitCode }
    const outputs = await readOutputs(spec, execution.stdout, context, execution.isStdoutCut)
    return 'failure' in outputs ? { ...outputs, exitCode: execution.exitCode } : { exitCode: execution.exitCode, outputs }
  },

  async verify(spec, context) {
    if (spec.creates !== undefined && !(await lstatIfThere(spec.creates))) return notVerified(`it ended well, but ${spec.creates} is not there`)
    const checker = spec.verify ?? spec.unless
    if (checker === undefined) return { isThere: true }
    const base = findBase(spec, context)
    if ('failure' in base) return base
    const execution = await context.run({ argv: toArgv(checker), output: 'quiet', ...base })
    if (execution.exitCode === 0) return { isThere: true }
    return notVerified(`it ended well, but its check \`${toArgv(checker).at(-1)}\` ${describeEnd(execution)}`)
  },
}

const hasCheck = (spec: Spec): boolean => spec.creates !== undefined || spec.unless !== undefined || spec.verify !== undefined

async function look(spec: Spec, context: CommandContext): Promise<Finding> {
  const checker = spec.unless ?? spec.verify
  let isThere = spec.creates !== undefined && (await lstatIfThere(spec.creates)) !== undefined
  let printed: Buffer = Buffer.alloc(0)
  if (!isThere && checker !== undefined) {
    const base = findBase(spec, context)
    if ('failure' in base) return { isThere: false, difference: base.failure.message }
    const execution = await context.run({ argv: toArgv(checker), output: 'quiet', captureBytes: maxOutputBytes, ...base })
    isThere = execution.exitCode === 0
    printed = execution.stdout
  }
  if (!isThere) return { isThere: false, difference: `run ${describe(spec, context)}` }
  const outputs = await readOutputs(spec, printed, context)
  return 'failure' in outputs ? { isThere: false, difference: outputs.failure.message } : { isThere: true, outputs }
}

/** After the reboot that the program was to bring about: it is not run once more, whatever the check says. */
async function checkRebooted(spec: Spec, context: CommandContext): Promise<Finding> {
  if (!hasCheck(spec)) return { isThere: true, outputs: noOutputs }
  const found = await look(spec, context)
  if ('failure' in found || found.isThere) return found
  return failure('COMMAND_NOT_VERIFIED', 'the node has rebooted, but the effect is not there')
}

/**
 * The program has asked for the reboot; the agent is stopped by it and goes on afterwards. A program that a signal ended was most likely ended by the shutdown that it
 * began: that is waited for a while before it counts as a failure.
 */
async function awaitReboot(spec: Spec, { exitCode }: Execution, failed: ReturnType<typeof failure> | undefined, { log, deadline }: CommandContext): Promise<Done> {
  log.say('waiting for the node to reboot')
  // Longer than is left: it is the deadline that ends it, and says why.
  await pause(failed ? shutdownMs : deadline.leftMs + 1000, deadline)
  return { ...(failed ?? failure('COMMAND_TIMED_OUT', `${spec.argv?.join(' ') ?? 'the script'} ended well, but the node did not reboot`)), exitCode }
}

const notVerified = (message: string): Finding => failure('COMMAND_NOT_VERIFIED', message)

function checkSpec(spec: Spec, { confine }: CommandContext): ReturnType<typeof failure> | undefined {
  if ((spec.argv === undefined) === (spec.shell === undefined)) return failure('COMMAND_BAD_SPEC', 'exactly one of argv and shell must be given')
  if (confine !== undefined && spec.user !== undefined) return failure('COMMAND_CONFINED', `run as ${spec.user}: this agent is confined to ${confine}`)
  return undefined
}

function findBase(spec: Spec, { confine }: CommandContext): Omit<Program, 'argv'> | ReturnType<typeof failure> {
  const user = spec.user === undefined ? undefined : findAccount(spec.user)
  if (spec.user !== undefined && !user) return failure('COMMAND_USER_UNKNOWN', `the node has no user ${spec.user}`)
  return { env: spec.env, cwd: confine ?? spec.cwd, user }
}

const toArgv = (check: readonly string[] | string): readonly string[] => (typeof check === 'string' ? [...shell, check] : check)

const stdoutOutputs = (spec: Spec) => Object.values(spec.outputs ?? {}).filter((output) => output.from === 'stdout')

/** Where the program's output goes, and how much of it is kept for outputs. A program whose stdout is a secret output prints it nowhere else. */
export function captureOf(spec: Spec): Pick<Program, 'captureBytes' | 'output'> {
  const outputs = stdoutOutputs(spec)
  if (outputs.length === 0) return {}
  return { captureBytes: maxOutputBytes, output: outputs.some((output) => output.secret) ? 'stderr' : 'log' }
}

function toFailure(spec: Spec, execution: Execution, context: CommandContext): ReturnType<typeof failure> | undefined {
  if (execution.startError !== undefined) return failure('COMMAND_NOT_STARTED', execution.startError)
  if (execution.exitCode !== undefined && (spec.okExitCodes ?? [0]).includes(execution.exitCode)) return undefined
  const code = /No space left on device/i.test(execution.tail) ? 'COMMAND_DISK_FULL' : 'COMMAND_EXIT_CODE'
  return failure(code, `${describe(spec, context)} ${describeEnd(execution)}`)
}

function describeEnd(execution: Execution): string {
  if (execution.startError !== undefined) return `could not be started: ${execution.startError}`
  const how = execution.exitCode === undefined ? `was ended by ${execution.signal ?? 'a signal'}` : `ended with exit code ${execution.exitCode}`
  return execution.tail === '' ? `${how} and printed nothing` : `${how}; its last lines:\n${execution.tail}`
}

/** The program in a line, for messages. Masked before it is cut: half a secret would be known no more. */
function describe(spec: Spec, { log }: CommandContext): string {
  const text = log.masker.maskText(spec.argv ? spec.argv.join(' ') : (spec.shell ?? '').trim()).split('\n')[0]!
  return `\`${text.length > 120 ? `${text.slice(0, 119)}…` : text}\``
}

async function readOutputs(spec: Spec, stdout: Buffer, { log }: CommandContext, isCut = false): Promise<Outputs | ReturnType<typeof failure>> {
  const plain: Record<string, string> = {}
  const secret: Record<string, string> = {}
  for (const [name, output] of Object.entries(spec.outputs ?? {})) {
    const bytes = output.from === 'stdout' ? (isCut ? undefined : stdout) : await readSmallFile(output.path ?? '')
    if (bytes === undefined) return failure('COMMAND_OUTPUT', `output ${name}: ${output.from === 'stdout' ? 'stdout' : output.path} is longer than ${maxOutputBytes} bytes`)
    const value = output.from === 'stdout' ? bytes.toString('utf8').trim() : bytes.toString('utf8')
    if (output.secret) {
      secret[name] = value
      log.masker.add(value.trim())
    } else plain[name] = value
  }
  return { plain, secret }
}

/** The file's content; undefined when it is longer than an output may be. */
async function readSmallFile(path: string): Promise<Buffer | undefined> {
  const handle = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(maxOutputBytes + 1)
    let size = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, size, buffer.length - size)
      size += bytesRead
      if (bytesRead === 0 || size === buffer.length) break
    }
    return size > maxOutputBytes ? undefined : buffer.subarray(0, size)
  } finally {
    await handle.close()
  }
}

