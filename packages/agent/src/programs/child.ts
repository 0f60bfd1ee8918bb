/**
 * A program as a child of the agent: for checks.
 *
 * 1. It leads a process group of its own, so that what it starts ends with it.
 * 2. Processes that it leaves behind on purpose (daemons) may keep its pipes open; they are waited for 500 ms, then not read any more.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import type { Clock, Timer } from '@lichen/core'
import type { ProcessMark } from '../journal/records.js'
import { endGroup, markProcess } from './process-group.js'
import type { OutputName, ProgramEvents, ProgramStart, RunningProgram } from './programs.js'

/** Output that comes later than this after a program's end is not its own. */
export const leftPipesMs = 500

/** The started child. What cannot be started ends at once, with a reason. */
export function startChild(program: ProgramStart, events: ProgramEvents, { clock, bootId }: { readonly clock: Clock; readonly bootId: string }): RunningProgram {
  try {
    const child = spawn(program.argv[0]!, program.argv.slice(1), { env: program.env, cwd: program.cwd, detached: true, stdio: [program.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
    // The program may end without reading it.
    child.stdin?.on('error', () => {}).end(program.stdin)
    return new Child(child, program, events, clock, bootId)
  } catch (error) {
    // Arguments that no program can be started with, e.g. a NUL byte in one.
    return failedStart((error as Error).message, events, clock)
  }
}

/** A program that could not be started: it ends right after this call. */
export function failedStart(startError: string, events: ProgramEvents, clock: Clock): RunningProgram {
  let isFollowed = true
  clock.soon(() => {
    if (isFollowed) events.onEnd({ exitCode: undefined, signal: undefined, startError, isOverdue: false })
  })
  const nothing = (): void => {}
  return { mark: undefined, pause: nothing, resume: nothing, end: () => Promise.resolve(), detach: () => (isFollowed = false), release: nothing }
}

/** Why `spawn` found nothing to start. */
export const notFoundText = (program: ProgramStart): string => `there is no program ${program.argv[0]}, or no directory ${program.cwd}`

class Child implements RunningProgram {
  readonly mark: ProcessMark | undefined
  readonly #child: ChildProcess
  readonly #clock: Clock
  readonly #pipes: Readable[]
  #isPaused = false
  #isEnding = false
  #isFollowed = true
  #leftPipes: Timer | undefined

  constructor(child: ChildProcess, program: ProgramStart, events: ProgramEvents, clock: Clock, bootId: string) {
    this.#child = child
    this.#clock = clock
    this.mark = child.pid === undefined ? undefined : markProcess(child.pid, bootId)
    this.#pipes = [child.stdout!, child.stderr!]
    this.#read(child.stdout!, 'stdout', events)
    this.#read(child.stderr!, 'stderr', events)
    let startError: string | undefined
    child.once('error', (error: NodeJS.ErrnoException) => {
      startError = error.code === 'ENOENT' ? notFoundText(program) : error.message
      this.#closePipes()
    })
    child.once('exit', () => {
      const giveUp = (): void => {
        // Held back for lack of room, not by a daemon: what the program printed is still to be read.
        if (this.#isPaused) this.#leftPipes = clock.after(leftPipesMs, giveUp)
        else this.#closePipes()
      }
      this.#leftPipes = clock.after(leftPipesMs, giveUp)
    })
    child.once('close', (exitCode: number | null, signal: string | null) => {
      this.#leftPipes?.cancel()
      if (!this.#isFollowed) return
      this.#isFollowed = false
      events.onEnd({ exitCode: startError === undefined ? (exitCode ?? undefined) : undefined, signal: signal ?? undefined, startError, isOverdue: false })
    })
  }

  pause(): void {
    if (this.#isEnding) return
    this.#isPaused = true
    for (const pipe of this.#pipes) pipe.pause()
  }

  resume(): void {
    this.#isPaused = false
    for (const pipe of this.#pipes) pipe.resume()
  }

  async end(): Promise<void> {
    this.#isEnding = true
    // What it printed before its end is read to the last byte, and counted where there is no room for it.
    this.resume()
    if (this.#child.pid !== undefined) await endGroup(this.#child.pid, this.#clock)
  }

  detach(): void {
    this.#isFollowed = false
    this.#leftPipes?.cancel()
    this.#closePipes()
  }

  release(): void {
    // A pipe keeps nothing.
  }

  #read(pipe: Readable, name: OutputName, events: ProgramEvents): void {
    let position = 0
    pipe.on('data', (bytes: Buffer) => {
      position += bytes.length
      if (this.#isFollowed) events.onOutput(name, bytes, position)
    })
    // Destroyed while reading: what was read stands.
    pipe.on('error', () => {})
  }

  #closePipes(): void {
    for (const pipe of this.#pipes) pipe.destroy()
  }
}
