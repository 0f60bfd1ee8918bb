/**
 * Follows a supervised program: reads its output from the files as it comes, sees its end, ends it when asked. Owns the files it has open, a watch on the directory and
 * timers; what is in the directory is the supervisor's and `RunDirectory`'s.
 *
 * 1. Output is given in the order of each file, without a gap (but for what `release` gave up, after which positions jump).
 * 2. The end is given after the last byte. Daemons that the program left behind may hold its outputs: they are waited for 500 ms, then what keeps them is ended.
 * 3. A supervisor that is gone without a word (killed from outside) ends what is left of its session: how the program ended is not known then.
 */
import { closeSync, existsSync, type FSWatcher, openSync, readSync, watch } from 'node:fs'
import type { Clock, Timer } from '@lichen/core'
import type { OnWrite } from '../durable-write.js'
import type { ProcessMark } from '../journal/records.js'
import { leftPipesMs } from './child.js'
import { markProcess } from './process-group.js'
import type { OutputName, OutputPositions, ProgramEnd, ProgramEvents, RunningProgram } from './programs.js'
import type { RunDirectory } from './run-directory.js'
import { endSession, listMembers, signal } from './session.js'
import type { SupervisorState } from './supervisor-script.js'

const pieceBytes = 64 * 1024
/** The watch says when something changed; this is for when it cannot (too many watches, a file system without). */
const pollMs = 1000
const pollWithoutWatchMs = 50

interface Tail {
  readonly name: OutputName
  file: number
  /** Position of the file's first byte. */
  position: number
  /** Of the next byte to be read, in the file. */
  offset: number
  fd: number | undefined
}

export interface FollowOptions {
  readonly directory: RunDirectory
  readonly mark: ProcessMark
  readonly from: OutputPositions
  readonly clock: Clock
  readonly onWrite: OnWrite | undefined
}

/** See the file header. */
export class Supervised implements RunningProgram {
  readonly mark: ProcessMark
  readonly #options: FollowOptions
  readonly #events: ProgramEvents
  readonly #tails: readonly [Tail, Tail]
  #watch: FSWatcher | undefined
  #poll: Timer | undefined
  #leftPipes: Timer | undefined
  #isFollowed = true
  #isPaused = false
  #isEnding = false
  #isScheduled = false
  #isGone = false
  #isCutSaid = false
  #startError: string | undefined
  #released: OutputPositions = { stdout: 0, stderr: 0 }

  constructor(options: FollowOptions, events: ProgramEvents) {
    const { directory, clock } = options
    this.mark = options.mark
    this.#options = options
    this.#events = events
    this.#tails = [this.#makeTail('stdout'), this.#makeTail('stderr')]
    try {
      this.#watch = watch(directory.path, () => this.#schedule())
      this.#watch.on('error', () => {})
    } catch {
      // The poll does it.
    }
    this.#poll = clock.every(this.#watch ? pollMs : pollWithoutWatchMs, () => this.#schedule())
    this.#schedule()
  }

  /** The supervisor has ended: whatever it had to say is said. */
  onGone(startError?: string): void {
    this.#isGone = true
    this.#startError = startError
    this.#schedule()
  }

  pause(): void {
    // What it printed before its end is read to the last byte, and counted where there is no room for it.
    if (!this.#isEnding) this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#schedule()
  }

  async end(): Promise<void> {
    this.#isEnding = true
    this.#isPaused = false
    const { clock, directory } = this.#options
    await endSession(this.mark.pid, clock, () => directory.readState().end === undefined && this.#isSupervisorAlive())
    this.#schedule()
  }

  detach(): void {
    if (!this.#isFollowed) return
    this.#isFollowed = false
    this.#watch?.close()
    this.#poll?.cancel()
    this.#leftPipes?.cancel()
    for (const tail of this.#tails) if (tail.fd !== undefined) closeSync(tail.fd)
  }

  release(before: OutputPositions): void {
    if (!this.#isFollowed) return
    this.#released = before
    this.#options.directory.release(before)
  }

  #makeTail(name: OutputName): Tail {
    const { directory, from } = this.#options
    const { file, start } = directory.find(name, from[name])
    return { name, file, position: start, offset: Math.max(0, from[name] - start), fd: undefined }
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isFollowed) return
    this.#isScheduled = true
    this.#options.clock.soon(() => {
      this.#isScheduled = false
      if (this.#isFollowed) this.#pump()
    })
  }

  #pump(): void {
    // Read before the output: what it says is then true of all that is read after it.
    const state = this.#options.directory.readState()
    const isGone = this.#isGone || (state.pid !== undefined && !this.#isSupervisorAlive())
    let hasRead = false
    for (const tail of this.#tails) if (!this.#isPaused && this.#isFollowed && this.#readPiece(tail)) hasRead = true
    if (!this.#isFollowed) return
    if (state.cuts.length > 0 && !this.#isCutSaid && !hasRead) {
      this.#isCutSaid = true
      this.#events.onCut?.()
    }
    if (hasRead) {
      this.#leftPipes?.cancel()
      this.#leftPipes = undefined
      return this.#schedule()
    }
    if ((state.isDone || isGone) && !this.#isPaused) return this.#finish(state)
    if (state.end) this.#leftPipes ??= this.#options.clock.after(leftPipesMs, () => this.#onLeftPipes())
  }

  /** Gives the next piece of the output; false when there is none now. */
  #readPiece(tail: Tail): boolean {
    const { directory } = this.#options
    for (;;) {
      const path = directory.file(tail.name, tail.file)
      if (tail.fd === undefined && !existsSync(path)) return false
      tail.fd ??= openSync(path, 'r')
      // Asked first: a file that has a next one grows no more.
      const hasNext = existsSync(directory.file(tail.name, tail.file + 1))
      const bytes = Buffer.allocUnsafe(pieceBytes)
      const size = readSync(tail.fd, bytes, 0, pieceBytes, tail.offset)
      if (size > 0) {
        tail.offset += size
        this.#events.onOutput(tail.name, bytes.subarray(0, size), tail.position + tail.offset)
        return true
      }
      if (!hasNext) return false
      closeSync(tail.fd)
      tail.fd = undefined
      tail.file++
      tail.position += tail.offset
      tail.offset = 0
      // The file that is left behind may be released already, and no output may come before it is gone.
      this.#options.directory.release(this.#released)
    }
  }

  #onLeftPipes(): void {
    this.#leftPipes = undefined
    // Held back for lack of room, not by a daemon: what the program printed is still to be read.
    if (this.#isPaused) return this.#schedule()
    signal(-this.mark.pid, 'SIGKILL')
    this.#finish(this.#options.directory.readState())
  }

  #finish(state: SupervisorState): void {
    if (!state.end) for (const { pid } of listMembers(this.mark.pid)) signal(pid, 'SIGKILL')
    this.#options.onWrite?.('supervisor.exit:before')
    this.detach()
    this.#events.onEnd(this.#describeEnd(state))
    this.#options.onWrite?.('supervisor.exit:after')
  }

  #describeEnd({ end, cuts, limitS }: SupervisorState): ProgramEnd {
    const lostBytes = cuts.reduce((sum, cut) => sum + (cut.sizeBytes ?? 0), 0)
    if (this.#startError !== undefined || !end) return { exitCode: undefined, signal: undefined, startError: this.#startError, isOverdue: false, lostBytes }
    const isOverdue = end.ranS >= limitS && (end.exitCode === 124 || end.exitCode === 137)
    return { exitCode: end.signal === undefined ? end.exitCode : undefined, signal: end.signal === undefined ? undefined : signalName(end.exitCode), startError: undefined, isOverdue, lostBytes }
  }

  #isSupervisorAlive(): boolean {
    const { pid, bootId, startTime } = this.mark
    return markProcess(pid, bootId)?.startTime === startTime
  }
}

const names: Readonly<Record<number, string>> = { 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE', 9: 'SIGKILL', 11: 'SIGSEGV', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM' }

/** The signal behind a shell's exit code (128 and its number). */
const signalName = (exitCode: number): string => names[exitCode - 128] ?? `signal ${exitCode - 128}`
