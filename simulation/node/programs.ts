/**
 * The programs of a simulated node. Owns what runs, its output, and what became of it. Supervised programs belong to the machine: they go on when the agent dies and end
 * with the boot; children are followed by one agent.
 *
 * A program is `sim check KEY` (exit code 0 when the effect is there) or `sim do KEY BEHAVIOUR`, which prints lines, brings its effect about at some moment, and ends.
 */
import type { OutputName, OutputPositions, ProcessMark, ProgramEnd, ProgramEvents, Programs, ProgramStart, RunningProgram } from '@lichen/agent'
import type { Life, Machine } from '../machine.js'
import type { Random } from '../random.js'
import type { Owner, Scheduler } from '../scheduler.js'
import type { Ledger, ProgramRun } from './ledger.js'

/** What a program does; JSON, its last argument. */
export interface Behaviour {
  /** How long it runs. */
  readonly ms: number
  readonly lines: number
  /** So many of its first starts end with exit code 1. */
  readonly fails: number
  /** Those that fail have brought their effect about before. */
  readonly failsAfter: boolean
  /** It does not end when it is asked politely. */
  readonly isStubborn?: boolean
}

/** The sabotage of the tests: what a check says instead of looking. */
export type CheckWeather = 'honest' | 'always there' | 'never there'

interface Follower {
  readonly life: Life
  readonly events: ProgramEvents
  readonly given: { stdout: number; stderr: number }
  isPaused: boolean
  isOver: boolean
  isPumping: boolean
}

interface SimProgram {
  readonly name: string
  readonly mark: ProcessMark
  readonly output: { stdout: string; stderr: string }
  readonly owner: Owner
  end: ProgramEnd | undefined
  follower: Follower | undefined
  isStubborn: boolean
  run: ProgramRun | undefined
}

export interface NodeProgramsParts {
  readonly node: string
  readonly scheduler: Scheduler
  readonly random: Random
  readonly ledger: Ledger
  /** Whether the disk takes anything now. */
  readonly hasRoom: () => boolean
}

// What a program gets between the polite signal and the forced one.
const graceMs = 5_000
const pieceBytes = 64 * 1024

/** See the file header. */
export class NodePrograms {
  readonly #parts: NodeProgramsParts
  readonly #supervised = new Map<string, SimProgram>()
  readonly #children = new Map<number, SimProgram>()
  #kernel: Life | undefined
  #bootId = ''
  #pids = 100
  checks: CheckWeather = 'honest'

  constructor(parts: NodeProgramsParts) {
    this.#parts = parts
  }

  /** Programs that run now. */
  get running(): number {
    return [...this.#supervised.values(), ...this.#children.values()].filter((program) => program.end === undefined && program.owner.isAlive).length
  }

  /** The machine has booted: nothing of before runs. */
  boot(kernel: Life, bootId: string): void {
    this.#kernel = kernel
    this.#bootId = bootId
    // What nobody had read yet is gone with the memory of the machine.
    for (const program of [...this.#supervised.values(), ...this.#children.values()]) if (program.run !== undefined) program.run.isOutputAtRisk = true
    for (const program of [...this.#supervised.values(), ...this.#children.values()]) if (program.run !== undefined) program.run.endedAt ??= this.#parts.scheduler.now
    this.#children.clear()
    for (const program of this.#supervised.values()) program.follower = undefined
    // What the agent keeps of programs is in memory in the package (/run), and may be anywhere.
    if (this.#parts.random.chance(0.7)) this.#supervised.clear()
  }

  /** The programs as this agent uses them. */
  openFor(life: Life): Programs {
    return {
      start: (program, events) => this.#start(life, program, events),
      supervise: (name, program, { limitMs }, events) => this.#supervise(life, name, program, limitMs, events),
      attach: (name, from, events) => this.#attach(life, name, from, events),
      read: (name, output, position, sizeBytes) => Buffer.from(this.#supervised.get(name)?.output[output] ?? '').subarray(position, position + sizeBytes),
      list: () => [...this.#supervised.keys()],
      forget: (name) => void (life.isAlive && this.#supervised.delete(name)),
      endStray: async (mark) => {
        const stray = this.#children.get(mark.pid)
        if (stray === undefined || mark.bootId !== this.#bootId || stray.end !== undefined) return false
        await this.#endNow(stray, life)
        return true
      },
    }
  }

  #start(life: Life, { argv }: ProgramStart, events: ProgramEvents): RunningProgram {
    const program = this.#make('child', this.#kernel ?? life)
    const { scheduler, random, ledger, node } = this.#parts
    const follower = (program.follower = follow(life, events, { stdout: 0, stderr: 0 }))
    if (!life.isAlive) return this.#control(program, follower)
    if (argv[1] === 'do') {
      this.#children.set(program.mark.pid, program)
      this.#runEffect(program, argv[2] ?? '', JSON.parse(argv[3] ?? '{}') as Behaviour)
      return this.#control(program, follower)
    }
    const isThere = (): boolean => (this.checks === 'honest' ? ledger.isThere(node, argv[2] ?? '') : this.checks === 'always there')
    scheduler.at(scheduler.now + random.delay(3), program.owner, `check ${argv[2]}`, () => this.#finish(program, argv[1] === 'check' ? (isThere() ? 0 : 1) : 127))
    return this.#control(program, follower)
  }

  #supervise(life: Life, name: string, { argv }: ProgramStart, limitMs: number, events: ProgramEvents): RunningProgram {
    const { scheduler, hasRoom } = this.#parts
    const program = this.#make(name, this.#kernel ?? life)
    const follower = (program.follower = follow(life, events, { stdout: 0, stderr: 0 }))
    if (!life.isAlive) return this.#control(program, follower)
    this.#supervised.set(name, program)
    if (!hasRoom()) {
      program.end = { exitCode: undefined, signal: undefined, startError: 'No space left on device', isOverdue: false }
      this.#pump(program)
      return { ...this.#control(program, follower), mark: undefined }
    }
    this.#runEffect(program, argv[2] ?? '', JSON.parse(argv[3] ?? '{}') as Behaviour)
    scheduler.at(scheduler.now + limitMs, program.owner, `limit of ${name}`, () => this.#terminate(program, true))
    return this.#control(program, follower)
  }

  async #attach(life: Life, name: string, from: OutputPositions, events: ProgramEvents): Promise<RunningProgram | undefined> {
    const { scheduler, random } = this.#parts
    await new Promise<void>((resolve) => scheduler.at(scheduler.now + random.delay(0.5), life, `attach ${name}`, resolve))
    const program = this.#supervised.get(name)
    if (program === undefined || program.mark.bootId !== this.#bootId) return undefined
    program.follower = follow(life, events, { ...from })
    this.#pump(program)
    return this.#control(program, program.follower)
  }

  #make(name: string, owner: Owner): SimProgram {
    this.#pids += 1
    const mark = { pid: this.#pids, startTime: String(Math.floor(this.#parts.scheduler.now)), bootId: this.#bootId }
    return { name, mark, output: { stdout: '', stderr: '' }, owner, end: undefined, follower: undefined, isStubborn: false, run: undefined }
  }

  #control(program: SimProgram, follower: Follower): RunningProgram {
    return {
      mark: program.mark,
      pause: () => void (follower.isPaused = true),
      resume: () => {
        follower.isPaused = false
        this.#pump(program)
      },
      end: () => (follower.life.isAlive ? this.#endNow(program, follower.life) : new Promise(() => undefined)),
      detach: () => void (follower.isOver = true),
      release: () => undefined,
    }
  }

  #runEffect(program: SimProgram, key: string, { ms, lines, fails, failsAfter, isStubborn = false }: Behaviour): void {
    const { scheduler, random, ledger, node } = this.#parts
    const startedAt = scheduler.now
    const run: ProgramRun = { id: `r${ledger.runs.size + 1}`, node, key, name: program.name, startedAt, lines: { stdout: 0, stderr: 0 }, isOutputAtRisk: false, endedAt: null }
    ledger.begin(run)
    program.run = run
    program.isStubborn = isStubborn
    const isFailing = ledger.countStart(node, key) < fails
    const lengthMs = random.delay(ms)
    const at = (part: number, label: string, what: () => void): void => void scheduler.at(startedAt + lengthMs * part, program.owner, `${run.id} ${label}`, () => program.end === undefined && what())
    for (let line = 1; line <= lines; line++) {
      at((line / (lines + 1)) * 0.98, `prints ${line}`, () => {
        const output = random.chance(0.2) ? 'stderr' : 'stdout'
        run.lines[output] += 1
        this.#print(program, output, `${run.id} ${output} ${run.lines[output]} of ${key}\n`)
      })
    }
    if (!isFailing || failsAfter) at(random.next() * 0.99, `brings ${key} about`, () => ledger.happen(scheduler.now, run))
    at(1, 'ends', () => this.#finish(program, isFailing ? 1 : 0))
  }

  #print(program: SimProgram, name: OutputName, text: string): void {
    program.output[name] += text
    this.#pump(program)
  }

  #finish(program: SimProgram, exitCode: number | undefined, signal?: string, isOverdue = false): void {
    if (program.end !== undefined) return
    program.end = { exitCode, signal, startError: undefined, isOverdue }
    if (program.run !== undefined) program.run.endedAt = this.#parts.scheduler.now
    this.#pump(program)
  }

  #terminate(program: SimProgram, isOverdue: boolean): number {
    const { scheduler, random } = this.#parts
    const afterMs = program.isStubborn ? graceMs : random.delay(20)
    scheduler.at(scheduler.now + afterMs, program.owner, `${program.name} is ended`, () => this.#finish(program, undefined, program.isStubborn ? 'SIGKILL' : 'SIGTERM', isOverdue))
    return afterMs
  }

  #endNow(program: SimProgram, life: Life): Promise<void> {
    const { scheduler } = this.#parts
    const afterMs = program.end === undefined ? this.#terminate(program, false) : 0
    return new Promise((resolve) => scheduler.at(scheduler.now + afterMs + 1, life, `${program.name} has ended`, resolve))
  }

  /** Gives the follower what it has not seen, a piece for each turn, and the end after everything. */
  #pump(program: SimProgram): void {
    const { follower } = program
    if (follower === undefined || follower.isPumping || !follower.life.isAlive) return
    follower.isPumping = true
    follower.life.clock.soon(() => {
      follower.isPumping = false
      if (follower.isOver || follower.isPaused || program.follower !== follower) return
      for (const name of ['stdout', 'stderr'] as const) {
        const bytes = Buffer.from(program.output[name]).subarray(follower.given[name], follower.given[name] + pieceBytes)
        if (bytes.length === 0) continue
        follower.given[name] += bytes.length
        follower.events.onOutput(name, bytes, follower.given[name])
        return this.#pump(program)
      }
      if (program.end === undefined) return
      follower.isOver = true
      follower.events.onEnd(program.end)
    })
  }
}

const follow = (life: Life, events: ProgramEvents, given: { stdout: number; stderr: number }): Follower => ({ life, events, given, isPaused: false, isOver: false, isPumping: false })

/** The id of a boot of the machine. */
export const bootIdOf = (machine: Machine): string => `${machine.name}-boot-${machine.boot}`
