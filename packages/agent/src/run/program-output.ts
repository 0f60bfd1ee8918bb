/** Both outputs of one program on their way: lines to the log, bytes to the capture, the end for a failure's message. Owns the two line streams and what is captured. */
import type { Timer } from '@lichen/core'
import { LogStream } from '@lichen/protocol'
import { type LinePlace, LineStream, lineStart } from '../output/line-stream.js'
import type { OutputName, OutputPositions, ProgramEnd, RunningProgram } from '../programs/programs.js'
import type { Execution, ExecutionContext, Program } from './program.js'

const tailBytes = 2048
/** A little longer than a chunk of log stays open. */
const releaseAfterMs = 30
const streams: { readonly [Name in OutputName]: LogStream } = { stdout: LogStream.STDOUT, stderr: LogStream.STDERR }

/** See the file header. */
export class ProgramOutput {
  /** Where the program's output is to be read from. */
  readonly from: OutputPositions
  readonly isSupervised: boolean
  readonly #program: Pick<Program, 'output' | 'captureBytes'>
  readonly #context: ExecutionContext
  readonly #run: string | undefined
  readonly #lines: Record<OutputName, LineStream>
  readonly #read: Record<OutputName, number>
  #captured: Buffer[] = []
  #capturedBytes = 0
  #isCut = false
  #tail: Buffer = Buffer.alloc(0)
  #isPaused = false
  #hasSaidFull = false
  #release: Timer | undefined
  #isLeft = false
  running: RunningProgram | undefined
  onDeadline: (() => void) | undefined
  ending: Promise<void> | undefined

  /** `run`: the name of a supervised program. */
  constructor(program: Pick<Program, 'output' | 'captureBytes'>, context: ExecutionContext, run?: string) {
    this.#program = program
    this.#context = context
    this.#run = run
    this.isSupervised = run !== undefined
    const places = run === undefined ? { stdout: lineStart, stderr: lineStart } : context.log.beginRun(run)
    // What is not logged leaves no place behind: it is read again from its beginning.
    this.from = { stdout: this.#isLogged('stdout') ? places.stdout.position : 0, stderr: this.#isLogged('stderr') ? places.stderr.position : 0 }
    this.#read = { ...this.from }
    this.#lines = { stdout: this.#open('stdout', places.stdout), stderr: this.#open('stderr', places.stderr) }
    if (run !== undefined && (this.from.stdout > 0 || this.from.stderr > 0)) this.#recall(run)
  }

  /** Its output comes from this program, which is told to wait at once when there is no room. */
  follow(running: RunningProgram): void {
    this.running = running
    // An earlier run of the agent may have died before it gave up what it took, and a program that waits for that prints nothing.
    if (this.#run !== undefined) this.#releaseSoon()
    if ((this.#isLogged('stdout') || this.#isLogged('stderr')) && !this.#context.outbox.hasRoom) this.#pause()
  }

  take(name: OutputName, bytes: Buffer, end: number): void {
    const start = end - bytes.length
    if (start > this.#read[name]) this.#skip(name, start)
    this.#read[name] = end
    if (name === 'stdout' && this.#program.captureBytes) this.#capture(bytes, this.#program.captureBytes)
    this.#lines[name].push(bytes, end)
    if (this.#run !== undefined) this.#releaseSoon()
    if (this.#isLogged(name) && !this.#context.outbox.hasRoom) this.#pause()
  }

  /** The node has no room for what it prints. */
  sayCut(): void {
    this.#context.log.say('… some bytes cut: the disk of the node is full, and the program has to wait with what it prints …')
  }

  finish({ exitCode, signal, startError, isOverdue, lostBytes }: ProgramEnd): Execution {
    this.#release?.cancel()
    for (const lines of Object.values(this.#lines)) lines.end()
    if (lostBytes !== undefined && lostBytes > 0) this.#context.log.say(`… ${lostBytes} bytes cut: the disk of the node is full …`)
    const isLost = exitCode === undefined && signal === undefined && startError === undefined
    return { exitCode, signal, startError, isLost, isOverdue, wasEnded: this.ending !== undefined, stdout: Buffer.concat(this.#captured), isStdoutCut: this.#isCut, tail: this.#tail.toString('utf8').trim() }
  }

  /** Nothing is written any more: the next run of the agent goes on from where the log ends. */
  leave(): void {
    this.#isLeft = true
    this.#release?.cancel()
    for (const lines of Object.values(this.#lines)) lines.leave()
  }

  /** In a while: by then what was taken is spooled. A program that waits for room prints nothing that would be another occasion. */
  #releaseSoon(): void {
    this.#release ??= this.#context.deadline.clock.after(releaseAfterMs, () => {
      this.#release = undefined
      if (this.#isLeft) return
      const { stdout, stderr } = this.#releasable
      this.running?.release({ stdout, stderr })
      if (stdout < this.#read.stdout || stderr < this.#read.stderr) this.#releaseSoon()
    })
  }

  #isLogged(name: OutputName): boolean {
    const mode = this.#program.output ?? 'log'
    return mode === 'log' || (mode === 'stderr' && name === 'stderr')
  }

  get #releasable(): OutputPositions {
    const { stdout, stderr } = this.#context.log.releasable
    return { stdout: this.#isLogged('stdout') ? stdout : this.#read.stdout, stderr: this.#isLogged('stderr') ? stderr : this.#read.stderr }
  }

  #open(name: OutputName, from: LinePlace): LineStream {
    const isLogged = this.#isLogged(name)
    const isHidden = this.#program.output === 'stderr' && name === 'stdout'
    const onLines = (whole: Buffer, place: LinePlace): void => {
      if (isLogged) this.#context.log.write(streams[name], whole, this.#run === undefined ? undefined : place)
      if (!isHidden) this.#keepTail(whole)
    }
    return new LineStream(this.#context.deadline.clock, this.#context.log.masker, onLines, isLogged ? from : lineStart)
  }

  /** What an earlier run of the agent had of the output beside the log: its beginning for the capture, its end for the message of a failure. */
  #recall(run: string): void {
    const { programs, log } = this.#context
    const limit = this.#program.captureBytes ?? 0
    if (limit > 0 && this.from.stdout > 0) this.#capture(programs.read(run, 'stdout', 0, Math.min(this.from.stdout, limit + 1)), limit)
    for (const name of ['stdout', 'stderr'] as const) {
      if (!this.#isLogged(name)) continue
      const start = Math.max(0, this.from[name] - tailBytes)
      this.#keepTail(log.masker.maskBytes(programs.read(run, name, start, this.from[name] - start)))
    }
  }

  /** The output goes on behind a gap: what lies between is given up, but for what was kept of it for the capture. */
  #skip(name: OutputName, start: number): void {
    const { captureBytes = 0 } = this.#program
    const wanted = captureBytes + 1 - this.#capturedBytes
    if (name === 'stdout' && captureBytes > 0 && wanted > 0 && this.#run !== undefined) {
      this.#capture(this.#context.programs.read(this.#run, name, this.#read[name], Math.min(start - this.#read[name], wanted)), captureBytes)
    }
    if (this.#isLogged(name)) this.#context.log.skip(start - this.#read[name])
    this.#lines[name] = this.#open(name, { position: start, lines: 0, isContinuing: true })
  }

  #pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.running?.pause()
    this.#context.outbox.whenRoom(() => {
      this.#isPaused = false
      if (!this.#isLeft) this.running?.resume()
    })
    if (this.#hasSaidFull || !this.#context.outbox.isDiskFull) return
    this.#hasSaidFull = true
    this.#context.log.say('… the disk of the node is full: the program has to wait with what it prints …')
  }

  #capture(bytes: Buffer, limit: number): void {
    const room = limit - this.#capturedBytes
    if (bytes.length > room) this.#isCut = true
    if (room <= 0) return
    this.#captured.push(bytes.subarray(0, room))
    this.#capturedBytes += Math.min(room, bytes.length)
  }

  #keepTail(lines: Buffer): void {
    const all = lines.length >= tailBytes ? lines : Buffer.concat([this.#tail, lines])
    // Cut at a line, so that no half character stands at the beginning.
    if (all.length <= tailBytes) this.#tail = all
    else this.#tail = Buffer.from(all.subarray(Math.max(all.indexOf(10, all.length - tailBytes) + 1, all.length - tailBytes)))
  }
}
