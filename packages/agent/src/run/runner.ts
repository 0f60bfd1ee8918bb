/**
 * Runs attempts, a few at a time. Owns the queue, the slots, the lock around package changes and the runs that are going on.
 *
 * 1. At most `concurrency` attempts run; the rest wait in the order they came.
 * 2. An attempt with an effect starts only after its intent is on the disk, and its result is offered to the outbox only after that is on the disk; its log was there before.
 *    An attempt without one (checks, probes, notes) starts at once and shares the flush of its result.
 * 3. Every attempt that was taken ends with a result in the journal, unless the agent stops first.
 */
import { type AttemptResult, type Command, pauseFor } from '@lichen/core'
import { decodeCommands, decodeOrder, encodeResult } from '@lichen/protocol'
import type { JournaledAttempt } from '../journal/journal.js'
import type { Log } from '../log.js'
import { runsOf } from './run-name.js'
import type { VerifiedOrder } from '../orders/verified.js'
import { type AttemptEnd, AttemptRun, type AttemptSurroundings, isEffectless } from './attempt.js'

/** Space may come back; asking more often would only fill the agent's log. */
const resultRetryMs = 5000

/** See the file header. */
export class Runner {
  readonly #around: AttemptSurroundings
  readonly #log: Log
  readonly #concurrency: number
  readonly #queue: { run: AttemptRun; isResumed: boolean }[] = []
  readonly #running = new Map<string, AttemptRun>()
  readonly #ends = new Set<Promise<void>>()
  #isStopped = false

  constructor(around: AttemptSurroundings, concurrency: number, log: Log) {
    this.#around = around
    this.#concurrency = concurrency
    this.#log = log
  }

  /** Attempts that run or wait. */
  get size(): number {
    return this.#running.size + this.#queue.length
  }

  /** Takes the order: journals it and sees to its result. `onAccepted` is called when the intent is durable and the result is not there yet. */
  async take(order: VerifiedOrder, orderBytes: Buffer, commands: Command[], onAccepted: () => void): Promise<void> {
    const { journal } = this.#around
    const attempt = journal.accept(order, orderBytes, this.#around.bootId)
    const run = new AttemptRun(attempt, order, commands, this.#around)
    if (isEffectless(order, commands)) this.#enqueue(run, false)
    await journal.flush()
    if (!attempt.place) onAccepted()
    if (!isEffectless(order, commands)) this.#enqueue(run, false)
  }

  /** After a start: sees to the results of what an earlier run of the agent left without one. */
  async settle(): Promise<void> {
    const unfinished = this.#around.journal.unfinished()
    await this.#endStrays(unfinished)
    // Those that run already come first: they need a slot to be followed.
    for (const attempt of unfinished.sort((a, b) => Number(b.begunAt !== undefined) - Number(a.begunAt !== undefined))) {
      if (!attempt.order) continue
      const order = decodeOrder(attempt.order)
      const commands = decodeCommands(order.commands)
      // It was read once before it was journaled; an older agent that cannot read it any more leaves it to the next newer one.
      if (!commands.ok) {
        this.#log.error({ attempt: attempt.keyText }, 'a journaled order cannot be read by this version of the agent')
        continue
      }
      if (attempt.process && attempt.process.run === undefined && (await this.#around.programs.endStray(attempt.process))) {
        this.#log.warn({ attempt: attempt.keyText, pid: attempt.process.pid }, 'ended a process group that an earlier run of the agent left behind')
      }
      const run = new AttemptRun(attempt, order, commands.value, this.#around)
      const isExpired = attempt.begunAt === undefined && order.expiresAt < this.#around.clock.now()
      // Nothing is run for an order that expired before it began: its answer need not wait for a slot.
      if (isExpired && !run.presumeBegun()) this.#start(run, false)
      else this.#enqueue(run, attempt.begunAt !== undefined)
    }
  }

  /** Ends and forgets programs of attempts that have their result, or are not known any more. */
  async #endStrays(unfinished: readonly JournaledAttempt[]): Promise<void> {
    const { programs } = this.#around
    const names = programs.list()
    const wanted = new Set(unfinished.flatMap((attempt) => runsOf(names, attempt.keyText)))
    for (const name of names.filter((known) => !wanted.has(known))) {
      const running = await programs.attach(name, { stdout: 0, stderr: 0 }, { onOutput: () => {}, onEnd: () => {} })
      await running?.end()
      running?.detach()
      programs.forget(name)
    }
  }

  /** Ends the attempt as cancelled, whether it runs or waits; its result follows. False when it is neither. */
  cancel(keyText: string, reason: string): boolean {
    const running = this.#running.get(keyText)
    running?.deadline.end('cancelled', reason)
    if (running) return true
    const index = this.#queue.findIndex((waiting) => waiting.run.attempt.keyText === keyText)
    if (index < 0) return false
    const [{ run, isResumed }] = this.#queue.splice(index, 1) as [{ run: AttemptRun; isResumed: boolean }]
    run.deadline.end('cancelled', reason)
    // Not through a slot: it has nothing to run any more.
    this.#start(run, isResumed)
    return true
  }

  /** Leaves what runs: it is taken up at the next start. Resolves when no check's child is left. */
  async stop(): Promise<void> {
    this.#isStopped = true
    for (const { run } of this.#queue.splice(0)) run.deadline.clear()
    for (const run of this.#running.values()) run.deadline.end('stopped', 'the agent was stopped')
    while (this.#ends.size > 0) await Promise.all(this.#ends)
  }

  #enqueue(run: AttemptRun, isResumed: boolean): void {
    if (this.#isStopped) return run.deadline.clear()
    this.#queue.push({ run, isResumed })
    this.#startNext()
  }

  #startNext(): void {
    while (this.#running.size < this.#concurrency && !this.#isStopped) {
      const index = this.#queue.findIndex(({ run }) => !this.#isBehindAnother(run))
      if (index < 0) return
      const [next] = this.#queue.splice(index, 1) as [{ run: AttemptRun; isResumed: boolean }]
      this.#start(next.run, next.isResumed)
    }
  }

  /**
   * Whether another attempt of the same action runs, of this task or of one before it: its engine gave it up, and the node has it still. Two at once would do everything
   * twice; afterwards the check sees what it did.
   */
  #isBehindAnother({ action, isEffectless }: AttemptRun): boolean {
    return !isEffectless && [...this.#running.values()].some((other) => other.action === action && !other.isEffectless)
  }

  #start(run: AttemptRun, isResumed: boolean): void {
    this.#running.set(run.attempt.keyText, run)
    const end = this.#runToResult(run, isResumed).finally(() => this.#ends.delete(end))
    this.#ends.add(end)
  }

  async #runToResult(run: AttemptRun, isResumed: boolean): Promise<void> {
    const { attempt } = run
    let end: AttemptEnd | undefined
    try {
      end = await run.run(isResumed)
    } catch (error) {
      this.#log.error({ attempt: attempt.keyText, error: String((error as Error).stack ?? error) }, 'an attempt ended in a defect of the agent')
      end = { result: this.#buildDefect(attempt, error), secretOutputs: {} }
    }
    // The slot is free as soon as the work is over: others need not wait for the disk.
    this.#running.delete(attempt.keyText)
    this.#startNext()
    if (!end) return
    if (!(await this.#hasRecorded(run, end))) return
    run.forgetPrograms()
    this.#around.outbox.queueResult(attempt.key)
  }

  /** Journals the result durably. On a full disk it is shortened, then tried again until it is in: a result must not be lost. False when the agent stopped before. */
  async #hasRecorded(run: AttemptRun, end: AttemptEnd): Promise<boolean> {
    const { attempt } = run
    const { journal } = this.#around
    for (let tries = 0; ; tries++) {
      try {
        // The result says that the log is there: after a power cut, too.
        if (!(await run.settleLog())) throw new Error('there is no room in the spool to say what was cut of its log')
        if (!attempt.place) journal.end(attempt, encodeResult(tries === 0 ? end.result : withoutDiffs(end.result)), end.secretOutputs)
        await journal.flush()
        return true
      } catch (error) {
        this.#log.error({ attempt: attempt.keyText, error: String(error) }, 'a result could not be journaled; trying again')
        if (tries > 0) await pauseFor(this.#around.clock, resultRetryMs).over
        if (this.#isStopped) return false
      }
    }
  }

  #buildDefect(attempt: JournaledAttempt, error: unknown): AttemptResult {
    const now = this.#around.clock.now()
    const message = `the agent failed in a way it should not: ${error instanceof Error ? error.message : String(error)}`
    return { outcome: 'unknown', changed: true, commands: attempt.commands.map((command) => command.result), outputs: {}, failure: { code: 'COMMAND_FAILED', message }, startedAt: attempt.begunAt ?? now, endedAt: now }
  }
}

const withoutDiffs = (result: AttemptResult): AttemptResult => ({ ...result, commands: result.commands.map(({ diff: _diff, ...command }) => command) })
