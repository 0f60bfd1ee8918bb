/**
 * One attempt from its first command to its result. Owns the attempt's deadline, log and masker; writes what happens to the journal in the order
 * it happens.
 *
 * 1. Commands run in order; the first that does not succeed ends the attempt.
 * 2. A command that cannot be checked begins only after the journal has it on the disk that it begins. So after a power cut, "not begun" is certain.
 * 3. When the agent stops, the attempt ends without a result and is settled at the next start.
 */
import { type AttemptResult, type Command, type CommandResult, type Failure, type Outcome } from '@lichen/core'
import { type Order, OrderMode } from '@lichen/protocol'
import type { Journal, JournaledAttempt } from '../journal/journal.js'
import { AttemptLog, type LogLimits } from '../output/attempt-log.js'
import { Masker } from '../output/masker.js'
import type { Outbox } from '../output/outbox.js'
import { effectOf } from '../primitives/index.js'
import type { CommandContext } from '../primitives/primitive.js'
import { type Beginning, runCommand } from './command.js'
import { Deadline } from './deadline.js'
import { execute } from './execution.js'
import { markProcess } from './process-group.js'

/** What attempts of one agent share. */
export interface AttemptSurroundings {
  readonly journal: Journal
  readonly outbox: Outbox
  readonly now: () => number
  readonly logLimits: LogLimits
  readonly bootId: string
  readonly confine: string | undefined
  readonly dataDirectory: string
  readonly environment: Readonly<Record<string, string>>
  readonly lockPackages: () => Promise<() => void>
}

/** An attempt whose time was over while the agent was down still has its interrupted command's check run, for this long. */
const settleCheckMs = 60_000

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
  readonly #isEffectless: boolean

  constructor(attempt: JournaledAttempt, order: Order, commands: readonly Command[], around: AttemptSurroundings) {
    this.attempt = attempt
    this.#order = order
    this.#commands = commands
    this.#around = around
    this.#isEffectless = isEffectless(order, commands)
    const masker = new Masker([...order.secrets, ...attempt.commands.flatMap((end) => Object.values(end.secretOutputs))])
    this.#log = new AttemptLog({ key: attempt.key, outbox: around.outbox, now: around.now, limits: around.logLimits, masker })
    this.deadline = new Deadline()
  }

  /** Runs what is left to run; undefined when the agent stopped before the end. `isResumed`: the attempt may have begun in an earlier run of the agent. */
  async run(isResumed: boolean): Promise<AttemptEnd | undefined> {
    const { journal, now } = this.#around
    const { attempt } = this
    const startedAt = attempt.begunAt ?? now()
    if (attempt.begunAt === undefined && startedAt > this.#order.expiresAt) return this.#buildExpired(startedAt)
    // Counted from when the attempt first began, also across a restart of the agent.
    this.deadline.limit(startedAt + this.#order.timeoutMs - now(), `the attempt's limit of ${this.#order.timeoutMs} ms was over`)
    if (isResumed) this.#log.say('=== the agent was restarted: what was interrupted is settled by its check')
    for (let index = attempt.commands.length; index < this.#commands.length && isGoingOn(attempt); index++) {
      const command = this.#commands[index]!
      this.#log.beginCommand(index)
      const beginning = isResumed && attempt.begunCommand === index ? (this.deadline.reason === 'timedOut' ? 'overdue' : 'interrupted') : 'fresh'
      if (this.deadline.reason && beginning !== 'overdue') break
      const end = await this.#runCommand(command, index, beginning)
      if (!end) break
      this.#recordEnd(journal, end, index === this.#commands.length - 1)
    }
    this.#log.close()
    this.deadline.clear()
    if (this.deadline.reason === 'stopped') return undefined
    return this.#build(startedAt)
  }

  #recordEnd(journal: Journal, end: CommandEnd, isLast: boolean): void {
    // The result of a last command stands in the attempt's result; a record of its own would be a second one for the same.
    if (isLast || end.result.outcome !== 'succeeded' || this.#isEffectless) {
      this.attempt.commands.push(end)
      return
    }
    journal.endCommand(this.attempt, end)
    // Not waited for: without it, a power cut makes the command be settled by its check. A disk that fails shows at the next flush that is waited for.
    journal.flush().catch(() => {})
  }

  async #runCommand(command: Command, index: number, beginning: Beginning): Promise<CommandEnd | undefined> {
    const place = `[${index + 1}/${this.#commands.length}]`
    this.#log.say(`=== ${place} ${command.name} (${command.kind})`)
    if (!this.#isEffectless) {
      this.#around.journal.begin(this.attempt, index)
      if (!effectOf(command).isCheckable) await this.#around.journal.flush()
    }
    const deadline = beginning === 'overdue' ? new Deadline().limit(settleCheckMs, `its check took longer than ${settleCheckMs} ms`) : new Deadline(this.deadline)
    if (beginning !== 'overdue') deadline.limit(command.timeoutMs, `the command's limit of ${command.timeoutMs} ms was over`)
    const end = await runCommand(command, this.#contextOf(deadline), beginning)
    deadline.clear()
    this.#log.endCommand()
    if (deadline.reason === 'stopped' && end.result.outcome !== 'succeeded') return undefined
    this.#log.say(`=== ${place} ${describeResult(end.result, this.#order.mode)}`)
    if (end.result.failure) for (const line of end.result.failure.message.split('\n')) this.#log.say(`    ${line}`)
    return end
  }

  #contextOf(deadline: Deadline): CommandContext {
    const { confine, dataDirectory, lockPackages, environment, outbox, journal, bootId } = this.#around
    const onProcess = (pid: number): void => {
      const mark = this.#isEffectless ? undefined : markProcess(pid, bootId)
      try {
        if (mark) journal.recordProcess(this.attempt, mark)
      } catch {
        // The mark only helps to end the process after a crash; the process goes on without it.
      }
    }
    const execution = { log: this.#log, outbox, deadline, environment, defaultCwd: confine ?? '/', onProcess }
    return {
      log: this.#log, deadline, confine, dataDirectory, lockPackages,
      mode: this.#order.mode === OrderMode.CHECK ? 'check' : 'do',
      run: (program) => execute(program, execution),
    }
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
      endedAt: this.#around.now(),
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

type CommandEnd = JournaledAttempt['commands'][number]

const isGoingOn = (attempt: JournaledAttempt): boolean => attempt.commands.every((end) => end.result.outcome === 'succeeded')

function describeResult(result: CommandResult, mode: OrderMode): string {
  const change = mode === OrderMode.CHECK ? (result.changed ? 'would change' : 'as wanted') : result.changed ? 'changed' : 'unchanged'
  const parts = [result.outcome === 'succeeded' ? `${result.outcome}, ${change}` : `${result.outcome}${result.failure ? ` ${result.failure.code}` : ''}`]
  if (result.settledByCheck) parts.push('settled by its check')
  if (result.durationMs >= 100) parts.push(`${(result.durationMs / 1000).toFixed(1)} s`)
  return parts.join(', ')
}
