/**
 * One attempt from its first command to its result. Owns the attempt's deadline, log and masker; writes what happens to the journal in the order
 * it happens.
 *
 * 1. Commands run in order; the first that does not succeed ends the attempt.
 * 2. A command that cannot be checked begins only after the journal has it on the disk that it begins. So after a power cut, "not begun" is certain.
 * 3. When the agent stops, the attempt ends without a result, what it runs goes on, and the next start takes it up again: a program that still runs, or has ended
 *    meanwhile, is followed to its end; anything else that was interrupted is settled by its check.
 * 4. A command's end is in the journal only after what it printed is on the disk, or a marker instead. What is kept of its programs goes away after that, not before.
 */
import { type AttemptResult, type Clock, type Command, type CommandResult, type Failure, type Outcome } from '@lichen/core'
import { type Order, OrderMode } from '@lichen/protocol'
import type { Journal, JournaledAttempt } from '../journal/journal.js'
import { AttemptLog, type LogLimits } from '../output/attempt-log.js'
import { Masker } from '../output/masker.js'
import type { Outbox } from '../output/outbox.js'
import type { ProcessMark } from '../journal/records.js'
import type { Programs } from '../programs/programs.js'
import { effectOf } from '../primitives/index.js'
import type { CommandContext } from '../primitives/primitive.js'
import { captureOf } from '../primitives/run.js'
import { type Beginning, type CommandContexts, runCommand } from './command.js'
import { isNoSpace } from '../disk/disk.js'
import { Deadline, pause } from './deadline.js'
import { execute, executeSupervised, resumeSupervised } from './execution.js'
import type { Execution, ExecutionContext, Program } from './program.js'
import type { PackageLock, PackagePlace } from './package-lock.js'
import { numberOf, runName, runsOf } from './run-name.js'

/** What attempts of one agent share. */
export interface AttemptSurroundings {
  readonly journal: Journal
  readonly outbox: Outbox
  readonly programs: Programs
  readonly clock: Clock
  readonly logLimits: LogLimits
  readonly bootId: string
  readonly confine: string | undefined
  readonly dataDirectory: string
  readonly environment: Readonly<Record<string, string>>
  readonly packageLock: PackageLock
}

/** An attempt whose time was over while the agent was down still has its interrupted command's check run, for this long. */
const settleCheckMs = 60_000

/** Between tries to record the end of a command on a full disk. */
const recordRetryMs = 1000

/** What an attempt came to: its result with secret outputs beside it. */
export interface AttemptEnd {
  readonly result: AttemptResult
  readonly secretOutputs: Readonly<Record<string, string>>
}

/** True when the attempt can change nothing on the node, so that running it twice, or not knowing whether it ran, does no harm. */
export const isEffectless = (order: Order, commands: readonly Command[]): boolean => order.mode === OrderMode.CHECK || commands.every((command) => !effectOf(command).hasEffect)

/** See the file header. */
export class AttemptRun {
  readonly attempt: JournaledAttempt
  readonly deadline: Deadline
  readonly #order: Order
  readonly #commands: readonly Command[]
  readonly #around: AttemptSurroundings
  readonly #log: AttemptLog
  /** It can change nothing on the node. */
  readonly isEffectless: boolean
  /** What it is an attempt of, on this node: the same in every task of the deployment. */
  readonly action: string
  /** The boot in which the command that an earlier run of the agent left began; undefined for those that begin now. */
  #begunBefore: string | undefined
  /** Number of the next program of the present command; above 0 when there were some, those of earlier runs of the agent too. */
  #programs = 0
  readonly #children = new Set<Promise<Execution>>()

  constructor(attempt: JournaledAttempt, order: Order, commands: readonly Command[], around: AttemptSurroundings) {
    this.attempt = attempt
    this.#order = order
    this.#commands = commands
    this.#around = around
    this.isEffectless = isEffectless(order, commands)
    this.action = `${order.deployment} ${attempt.key.actionId}`
    const masker = new Masker([...order.secrets, ...attempt.commands.flatMap((end) => Object.values(end.secretOutputs))])
    this.#log = new AttemptLog({ key: attempt.key, outbox: around.outbox, clock: around.clock, limits: around.logLimits, masker })
    this.deadline = new Deadline(around.clock)
  }

  /** Runs what is left to run; undefined when the agent stopped before the end. `isResumed`: the attempt may have begun in an earlier run of the agent. */
  async run(isResumed: boolean): Promise<AttemptEnd | undefined> {
    const { clock } = this.#around
    const { attempt } = this
    const startedAt = attempt.begunAt ?? clock.now()
    if (attempt.begunAt === undefined && startedAt > this.#order.expiresAt) return this.#buildExpired(startedAt)
    // Counted from when the attempt first began, also across a restart of the agent.
    this.deadline.limit(startedAt + this.#order.timeoutMs - clock.now(), `the attempt's limit of ${this.#order.timeoutMs} ms was over`)
    if (isResumed) this.#log.say('=== the agent was restarted')
    // What a program of another boot printed last was in the memory of the node.
    const isOfAnotherBoot = attempt.begunBoot !== undefined && attempt.begunBoot !== this.#around.bootId
    if (isResumed && isOfAnotherBoot && attempt.begunCommand >= attempt.commands.length) this.#log.say('… perhaps some bytes cut: the node was restarted while the command ran …')
    for (let index = attempt.commands.length; index < this.#commands.length && isGoingOn(attempt); index++) {
      const command = this.#commands[index]!
      this.#log.beginCommand(index)
      const isBegun = isResumed && attempt.begunCommand === index
      if (this.deadline.reason && !isBegun) break
      const end = isBegun ? await this.#resumeCommand(command, index) : await this.#runCommand(command, index)
      if (!end) break
      await this.#recordEnd(end, index === this.#commands.length - 1)
    }
    this.#log.close()
    this.deadline.clear()
    await Promise.allSettled(this.#children)
    if (this.deadline.reason === 'stopped') return undefined
    return this.#build(startedAt)
  }

  /**
   * After a start, for an attempt that is journaled as accepted and not as begun, and whose order has expired: that it began is flushed only for what cannot be checked, so the end of the
   * boot in which it was accepted may have lost it. It is looked at then and not run; false when it can be told that it did not begin.
   */
  presumeBegun(): boolean {
    const { attempt } = this
    const first = this.#commands[0]
    if (attempt.acceptedBoot === this.#around.bootId || this.isEffectless || first === undefined || !effectOf(first).mayBeginUnflushed) return false
    const at = Math.min(attempt.acceptedAt, this.#around.clock.now() - this.#order.timeoutMs)
    Object.assign(attempt, { begunAt: at, begunCommand: 0, commandBegunAt: at })
    return true
  }

  /** Puts what it printed on the disk; false while there is no room even to say what was cut of it. Rejects when the disk fails. */
  async settleLog(): Promise<boolean> {
    const isSettled = this.#log.settle()
    if (isSettled) await this.#around.outbox.flush()
    return isSettled
  }

  /** The attempt's result is in the journal: what is kept of its programs may go. */
  forgetPrograms(): void {
    if (this.isEffectless) return
    const { programs } = this.#around
    for (const name of runsOf(programs.list(), this.attempt.keyText)) programs.forget(name)
  }

  async #recordEnd(end: CommandEnd, isLast: boolean): Promise<void> {
    const { journal } = this.#around
    // The result of a last command stands in the attempt's result; a record of its own would be a second one for the same.
    if (isLast || end.result.outcome !== 'succeeded' || this.isEffectless) {
      this.attempt.commands.push(end)
      return
    }
    // The next one may not begin before: after a restart this one would be done again.
    while (!((await this.settleLog()) && this.#hasRecorded(end))) {
      await pause(recordRetryMs, this.deadline)
      if (!this.deadline.reason) continue
      this.attempt.commands.push(end)
      return
    }
    if (this.#programs > 0) this.forgetPrograms()
    this.#programs = 0
    // Not waited for: without it, a power cut makes the command be settled by its check. A disk that fails shows at the next flush that is waited for.
    journal.flush().catch(() => {})
  }

  #hasRecorded(end: CommandEnd): boolean {
    try {
      this.#around.journal.endCommand(this.attempt, end)
      return true
    } catch (error) {
      if (!isNoSpace(error)) throw error
      return false
    }
  }

  /** The command begins, as the journal has it. Throws the error of the file system when it cannot be written; nothing may be done then. */
  async #begin(command: Command, index: number): Promise<void> {
    const { journal, bootId } = this.#around
    journal.begin(this.attempt, index, bootId)
    if (!effectOf(command).mayBeginUnflushed) await journal.flush()
  }

  async #runCommand(command: Command, index: number): Promise<CommandEnd | undefined> {
    this.#begunBefore = undefined
    const deadline = new Deadline(this.#around.clock, this.deadline).limit(command.timeoutMs, limitText(command))
    return await this.#follow(command, index, deadline, 'fresh')
  }

  /** Takes up a command that began in an earlier run of the agent. */
  async #resumeCommand(command: Command, index: number): Promise<CommandEnd | undefined> {
    const { programs, clock, bootId, packageLock } = this.#around
    const { attempt } = this
    this.#begunBefore = attempt.begunBoot
    const names = runsOf(programs.list(), attempt.keyText, index)
    const last = names.at(-1)
    this.#programs = last === undefined ? 0 : numberOf(last) + 1
    const effect = effectOf(command)
    // The program's own time began when it did.
    const deadline = new Deadline(clock, this.deadline).limit(attempt.commandBegunAt + command.timeoutMs - clock.now(), limitText(command))
    if (last !== undefined) this.#log.say(`=== [${index + 1}/${this.#commands.length}] ${command.name} (${command.kind}), resumed`)
    const leave = last !== undefined && command.kind === 'package' ? await packageLock.enter() : undefined
    const program = effect.isOneProgram && command.kind === 'run' ? captureOf(command.spec) : {}
    const execution = last === undefined ? undefined : await this.#orStopped(resumeSupervised(last, program, this.#executionContext(deadline)))
    leave?.()
    if (this.deadline.reason === 'stopped') return undefined
    // Begun in this boot, and no program of it ever started: it is as if it had not begun. Of other kinds that is not known: some do their work without a program.
    if (!execution && effect.isOneProgram && attempt.begunBoot === bootId) return await this.#restart(command, index, deadline, 'fresh')
    if (execution && !execution.isLost && effect.isOneProgram) {
      if (execution.isOverdue) deadline.end('timedOut', limitText(command))
      const isOutOfTime = (execution.isOverdue || execution.wasEnded) && deadline.reason === 'timedOut'
      // What ended by itself did so in time, whatever time it is now: there must be enough to verify it.
      const left = deadline.reason && !execution.isOverdue && !execution.wasEnded ? this.#settleDeadline() : deadline
      if (!(isOutOfTime && effect.isCheckable)) return await this.#follow(command, index, left, 'resumed', execution)
    }
    return await this.#restart(command, index, deadline, 'interrupted')
  }

  /** An interrupted command is done again with all its time, if the attempt has any left; else it is only looked at. */
  async #restart(command: Command, index: number, used: Deadline, beginning: 'fresh' | 'interrupted'): Promise<CommandEnd | undefined> {
    const { clock } = this.#around
    const isOverdue = this.deadline.reason === 'timedOut' || (used.reason === 'timedOut' && this.#programs > 0)
    used.clear()
    if (this.deadline.reason === 'cancelled') {
      const deadline = new Deadline(clock, this.deadline)
      return await this.#follow(command, index, deadline, beginning)
    }
    if (isOverdue) return await this.#follow(command, index, this.#settleDeadline(), 'overdue')
    return await this.#follow(command, index, new Deadline(clock, this.deadline).limit(command.timeoutMs, limitText(command)), beginning)
  }

  #settleDeadline = (): Deadline => new Deadline(this.#around.clock).limit(settleCheckMs, `its check took longer than ${settleCheckMs} ms`)

  async #follow(command: Command, index: number, deadline: Deadline, beginning: Beginning, execution?: Execution): Promise<CommandEnd | undefined> {
    const place = `[${index + 1}/${this.#commands.length}]`
    if (beginning !== 'resumed') this.#log.say(`=== ${place} ${command.name} (${command.kind})${beginning === 'fresh' ? '' : ', interrupted before: settled by its check'}`)
    // What is only looked at does not begin, nor what is unknown from its interruption on: after one more crash it would count as begun in this boot, without a program, and be run.
    const mayRun = beginning === 'fresh' || (beginning === 'interrupted' && effectOf(command).isCheckable)
    const isToBegin = !this.isEffectless && mayRun
    const begin = isToBegin ? () => this.#begin(command, index) : undefined
    const turn = isToBegin && command.kind === 'package' ? this.#around.packageLock.queue() : undefined
    const work = runCommand(command, this.#contextsOf(index, deadline, execution, turn), beginning, begin).finally(() => turn?.leave())
    const end = await this.#orStopped(work)
    deadline.clear()
    if (!end || (deadline.reason === 'stopped' && end.result.outcome !== 'succeeded')) return undefined
    this.#log.endCommand()
    this.#log.say(`=== ${place} ${describeResult(end.result, this.#order.mode)}`)
    if (end.result.failure) for (const line of end.result.failure.message.split('\n')) this.#log.say(`    ${line}`)
    return end
  }

  /** What comes of the work; undefined when the agent stops before: the work is left where it is, as by a crash. */
  async #orStopped<T>(work: Promise<T>): Promise<T | undefined> {
    return await new Promise<T | undefined>((resolve, reject) => {
      const onEnd = (): void => {
        if (this.deadline.reason === 'stopped') resolve(undefined)
      }
      this.deadline.onEnd(onEnd)
      work.then(resolve, reject).finally(() => this.deadline.offEnd(onEnd))
    })
  }

  #contextsOf(index: number, deadline: Deadline, execution: Execution | undefined, turn: PackagePlace | undefined): CommandContexts {
    const { confine, dataDirectory, packageLock, bootId } = this.#around
    const lockPackages = async (): Promise<() => void> => {
      if (turn === undefined) return await packageLock.enter()
      await turn.enter()
      return () => turn.leave()
    }
    const begunBoot = this.#begunBefore
    const mode = this.#order.mode === OrderMode.CHECK ? ('check' as const) : ('do' as const)
    const base = { log: this.#log, confine, dataDirectory, lockPackages, bootId, begunBoot, mode }
    const acting: CommandContext = {
      deadline,
      run: async (program) => {
        const resumed = execution
        execution = undefined
        if (resumed) return resumed
        if (program.output === 'quiet') return await this.#executeChild(program, deadline)
        return await executeSupervised(this.#nameProgram(index), program, this.#executionContext(deadline))
      },
      ...base,
    }
    return { acting, looking: { deadline, run: (program) => this.#executeChild(program, deadline), ...base } }
  }

  /**
   * A name for the next program. After a reboot nothing is known of those before it but how far the log has read the last one: another one of its name would be read from there on, and
   * what it prints before would be missing.
   */
  #nameProgram(index: number): string {
    const { keyText } = this.attempt
    if (this.#around.outbox.sourceOf(keyText)?.run === runName(keyText, index, this.#programs)) this.#programs++
    return runName(keyText, index, this.#programs++)
  }

  async #executeChild(program: Program, deadline: Deadline): Promise<Execution> {
    const execution = execute(program, this.#executionContext(deadline))
    this.#children.add(execution)
    return await execution.finally(() => this.#children.delete(execution))
  }

  #executionContext(deadline: Deadline): ExecutionContext {
    const { confine, environment, outbox, journal, programs } = this.#around
    const onStart = (mark: ProcessMark, run?: string): void => {
      try {
        if (!this.isEffectless) journal.recordProcess(this.attempt, run === undefined ? mark : { run, ...mark })
      } catch {
        // The mark only helps people, and to end a check's child after a crash; the process goes on without it.
      }
    }
    return { log: this.#log, outbox, programs, deadline, environment, defaultCwd: confine ?? '/', onStart }
  }

  #buildExpired(now: number): AttemptEnd {
    const message = `the order expired at ${new Date(this.#order.expiresAt).toISOString()} while it waited on the node; nothing was run`
    return { result: { outcome: 'failed', changed: false, commands: [], outputs: {}, failure: { code: 'ORDER_EXPIRED', message }, startedAt: now, endedAt: now }, secretOutputs: {} }
  }

  #build(startedAt: number): AttemptEnd {
    const ends = this.attempt.commands
    const commands = ends.map((end) => end.result)
    const outcome = this.#outcomeOf(commands)
    const failure = outcome === 'succeeded' ? undefined : this.#failureOf(commands)
    const result: AttemptResult = {
      outcome,
      changed: commands.some((command) => command.changed),
      commands,
      outputs: Object.assign({}, ...ends.map((end) => end.outputs)) as Record<string, string>,
      ...(failure && { failure }),
      startedAt,
      endedAt: this.#around.clock.now(),
    }
    return { result, secretOutputs: Object.assign({}, ...ends.map((end) => end.secretOutputs)) as Record<string, string> }
  }

  #outcomeOf(commands: readonly CommandResult[]): Outcome {
    const last = commands.at(-1)
    if (last && last.outcome !== 'succeeded') return last.outcome
    if (commands.length === this.#commands.length) return 'succeeded'
    return this.deadline.reason === 'timedOut' ? 'timedOut' : 'cancelled'
  }

  #failureOf(commands: readonly CommandResult[]): Failure {
    const last = commands.at(-1)
    if (last?.failure) return last.failure
    return { code: this.deadline.reason === 'timedOut' ? 'COMMAND_TIMED_OUT' : 'COMMAND_CANCELLED', message: this.deadline.message }
  }
}

const limitText = (command: Command): string => `the command's limit of ${command.timeoutMs} ms was over`

type CommandEnd = JournaledAttempt['commands'][number]

const isGoingOn = (attempt: JournaledAttempt): boolean => attempt.commands.every((end) => end.result.outcome === 'succeeded')

function describeResult(result: CommandResult, mode: OrderMode): string {
  const change = mode === OrderMode.CHECK ? (result.changed ? 'would change' : 'as wanted') : result.changed ? 'changed' : 'unchanged'
  const parts = [result.outcome === 'succeeded' ? `${result.outcome}, ${change}` : `${result.outcome}${result.failure ? ` ${result.failure.code}` : ''}`]
  if (result.settledByCheck) parts.push('settled by its check')
  if (result.durationMs >= 100) parts.push(`${(result.durationMs / 1000).toFixed(1)} s`)
  return parts.join(', ')
}
