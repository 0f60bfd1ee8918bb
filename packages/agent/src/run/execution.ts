/**
 * Runs one program to its end. Owns the child process, its pipes and its process group.
 *
 * 1. Whatever happens to the program is a value (`Execution`): not found, exit code, signal, ended by us.
 * 2. When the deadline ends, the whole group gets SIGTERM, and SIGKILL 5 s later; the execution is over when the group is gone.
 * 3. Output is read only while the outbox has room: a program that prints faster than the engine takes has to wait.
 * 4. Processes that the program leaves behind on purpose (daemons) may keep its pipes open; they are waited for 500 ms, then not read any more.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { LogStream } from '@lichen/protocol'
import { LineStream } from '../output/line-stream.js'
import type { AttemptLog } from '../output/attempt-log.js'
import type { Outbox } from '../output/outbox.js'
import type { Account } from './account.js'
import type { Deadline } from './deadline.js'
import { endGroup } from './process-group.js'

/** What to run. */
export interface Program {
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
  /** Run as this user, with its groups. */
  readonly user?: Account | undefined
  readonly stdin?: string | undefined
  /** Where output goes beside what is captured: `log` (default), nothing of stdout (`stderr`), or nothing at all (`quiet`). */
  readonly output?: 'log' | 'stderr' | 'quiet' | undefined
  /** Bytes of stdout to give back; 0 when not given. */
  readonly captureBytes?: number | undefined
}

/** How it went. `exitCode` is undefined when a signal ended it or it never started. */
export interface Execution {
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  /** Why it could not be started. */
  readonly startError: string | undefined
  readonly stdout: Buffer
  readonly isStdoutCut: boolean
  /** The last bytes of both outputs, masked, for a failure's message. */
  readonly tail: string
}

/** What executions of one command share. */
export interface ExecutionContext {
  readonly log: AttemptLog
  readonly outbox: Outbox
  readonly deadline: Deadline
  readonly environment: Readonly<Record<string, string>>
  readonly defaultCwd: string
  /** Called at once when a process was started. */
  readonly onProcess: (pid: number) => void
}

const leftPipesMs = 500
const tailBytes = 2048

/** Runs the program; resolves when it is over and its output is read. */
export function execute(program: Program, context: ExecutionContext): Promise<Execution> {
  return new Promise((resolve) => {
    const { user } = program
    const argv = user ? ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', '--', ...program.argv] : program.argv
    const output = new Output(program, context)
    try {
      const child = spawn(argv[0]!, argv.slice(1), {
        env: { ...context.environment, ...(user && { USER: user.name, LOGNAME: user.name, HOME: user.home }), ...program.env },
        cwd: program.cwd ?? context.defaultCwd,
        detached: true,
        stdio: [program.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      })
      if (child.pid !== undefined) context.onProcess(child.pid)
      follow(child, program, context, output, resolve)
    } catch (error) {
      // Arguments that no program can be started with, e.g. a NUL byte in one.
      resolve(output.finish(undefined, undefined, (error as Error).message))
    }
  })
}

function follow(child: ChildProcess, program: Program, { deadline, defaultCwd }: ExecutionContext, output: Output, resolve: (execution: Execution) => void): void {
  let startError: string | undefined
  let ending: Promise<void> | undefined
  let leftPipes: NodeJS.Timeout | undefined
  const onDeadline = (): void => {
    if (child.pid !== undefined) ending = endGroup(child.pid)
  }
  output.read(child.stdout!, LogStream.STDOUT)
  output.read(child.stderr!, LogStream.STDERR)
  // The program may end without reading it.
  child.stdin?.on('error', () => {}).end(program.stdin)
  child.once('error', (error: NodeJS.ErrnoException) => {
    startError = error.code === 'ENOENT' ? `there is no program ${program.argv[0]}, or no directory ${program.cwd ?? defaultCwd}` : error.message
    output.close()
  })
  child.once('exit', () => {
    const giveUp = (): void => {
      // Held back for lack of room, not by a daemon: what the program printed is still to be read.
      if (output.isPaused && !deadline.reason) leftPipes = setTimeout(giveUp, leftPipesMs)
      else output.close()
    }
    leftPipes = setTimeout(giveUp, leftPipesMs)
  })
  child.once('close', (exitCode: number | null, signal: string | null) => {
    clearTimeout(leftPipes)
    deadline.offEnd(onDeadline)
    const execution = output.finish(startError === undefined ? (exitCode ?? undefined) : undefined, signal ?? undefined, startError)
    if (ending) void ending.then(() => resolve(execution))
    else resolve(execution)
  })
  deadline.onEnd(onDeadline)
}

/** Both pipes of a program: lines to the log, bytes to the capture, the end for a failure's message. */
class Output {
  readonly #program: Program
  readonly #context: ExecutionContext
  readonly #pipes: { pipe: Readable; lines: LineStream }[] = []
  #captured: Buffer[] = []
  #capturedBytes = 0
  #isCut = false
  #tail: Buffer = Buffer.alloc(0)
  isPaused = false

  constructor(program: Program, context: ExecutionContext) {
    this.#program = program
    this.#context = context
  }

  read(pipe: Readable, stream: LogStream): void {
    const mode = this.#program.output ?? 'log'
    const isLogged = mode === 'log' || (mode === 'stderr' && stream === LogStream.STDERR)
    const lines = new LineStream(this.#context.log.masker, (whole) => {
      if (isLogged) this.#context.log.write(stream, whole)
      this.#keepTail(whole, mode === 'stderr' && stream === LogStream.STDOUT)
    })
    this.#pipes.push({ pipe, lines })
    pipe.on('data', (bytes: Buffer) => {
      if (stream === LogStream.STDOUT && this.#program.captureBytes) this.#capture(bytes, this.#program.captureBytes)
      lines.push(bytes)
      if (isLogged && !this.#context.outbox.hasRoom) this.#pause()
    })
    pipe.on('end', () => lines.end())
    // Destroyed while reading: what was read stands.
    pipe.on('error', () => lines.end())
  }

  close(): void {
    for (const { pipe, lines } of this.#pipes) {
      lines.end()
      pipe.destroy()
    }
  }

  finish(exitCode: number | undefined, signal: string | undefined, startError: string | undefined): Execution {
    for (const { lines } of this.#pipes) lines.end()
    return { exitCode, signal, startError, stdout: Buffer.concat(this.#captured), isStdoutCut: this.#isCut, tail: this.#tail.toString('utf8').trim() }
  }

  #pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    for (const { pipe } of this.#pipes) pipe.pause()
    this.#context.outbox.whenRoom(() => {
      this.isPaused = false
      for (const { pipe } of this.#pipes) pipe.resume()
    })
  }

  #capture(bytes: Buffer, limit: number): void {
    const room = limit - this.#capturedBytes
    if (bytes.length > room) this.#isCut = true
    if (room <= 0) return
    this.#captured.push(bytes.subarray(0, room))
    this.#capturedBytes += Math.min(room, bytes.length)
  }

  #keepTail(lines: Buffer, isHidden: boolean): void {
    if (isHidden) return
    const all = lines.length >= tailBytes ? lines : Buffer.concat([this.#tail, lines])
    // Cut at a line, so that no half character stands at the beginning.
    if (all.length <= tailBytes) this.#tail = all
    else this.#tail = Buffer.from(all.subarray(Math.max(all.indexOf(10, all.length - tailBytes) + 1, all.length - tailBytes)))
  }
}
