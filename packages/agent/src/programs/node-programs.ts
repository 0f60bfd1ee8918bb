/** Programs of this machine: children, and programs under a supervisor that needs no agent (supervisor-script.ts). */
import { spawn } from 'node:child_process'
import { accessSync, closeSync, constants, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Clock, LichenError, pauseFor } from '@lichen/core'
import type { OnWrite } from '../durable-write.js'
import { failedStart, notFoundText, startChild } from './child.js'
import { endStrayGroup, markProcess } from './process-group.js'
import type { OutputName, OutputPositions, ProgramEvents, Programs, ProgramStart, RunningProgram } from './programs.js'
import { removeRun, RunDirectory } from './run-directory.js'
import { Supervised } from './supervised.js'
import { buildSupervisorScript } from './supervisor-script.js'

/** Version of what is in a run directory. A change that an older agent cannot read gets a new number, and the new agent reads both. */
const format = 1
/** A supervisor that was started right before the agent died has written its first line within milliseconds. */
const beginsWithinMs = 250

export interface NodeProgramsOptions {
  /** Where the directories of supervised programs stand. On a file system in memory, output that is not masked yet never reaches a disk. */
  readonly directory: string
  readonly clock: Clock
  readonly bootId: string
  readonly onWrite?: OnWrite | undefined
}

/**
 * The programs of the machine.
 * @throws AGENT_CONFIG when the machine has not the programs that the supervisor is made of (dash or another sh, coreutils).
 */
export function openNodePrograms(options: NodeProgramsOptions): Programs {
  const { directory, clock, bootId } = options
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const script = buildSupervisorScript({ dd: findTool('dd'), timeout: findTool('timeout'), sleep: findTool('sleep'), wc: findTool('wc') })
  const prefix = `${format}.${bootId.slice(0, 8)}.`
  const pathOf = (name: string): string => join(directory, prefix + name)
  return {
    start: (program, events) => startChild(program, events, options),
    supervise: (name, program, { limitMs, keepsStart }, events) => supervise(options, script, { path: pathOf(name), program, limitS: Math.max(0.01, limitMs / 1000), keepsStart }, events),
    attach: (name, from, events) => attach(options, pathOf(name), from, events),
    read: (name: string, output: OutputName, position: number, sizeBytes: number) => RunDirectory.open(pathOf(name)).read(output, position, sizeBytes),
    list: () => readdirSync(directory).flatMap((entry) => /^1\.[^.]*\.(.+)$/.exec(entry)?.[1] ?? []),
    forget(name) {
      options.onWrite?.('supervisor.forget:before')
      for (const entry of readdirSync(directory)) if (entry.startsWith(`${format}.`) && entry.endsWith(`.${name}`)) removeRun(join(directory, entry))
      options.onWrite?.('supervisor.forget:after')
    },
    endStray: (mark) => endStrayGroup(mark, bootId, clock),
  }
}

function findTool(name: string): string {
  const path = ['/usr/bin', '/bin'].map((directory) => `${directory}/${name}`).find((candidate) => existsSync(candidate))
  if (path === undefined) throw new LichenError('AGENT_CONFIG', `this machine has no program ${name} in /usr/bin or /bin; commands are run by it (coreutils)`)
  return path
}

interface Start {
  readonly path: string
  readonly program: ProgramStart
  readonly limitS: number
  readonly keepsStart: boolean
}

function supervise({ clock, bootId, onWrite }: NodeProgramsOptions, script: string, { path, program, limitS, keepsStart }: Start, events: ProgramEvents): RunningProgram {
  const problem = checkStart(program)
  if (problem !== undefined) return failedStart(problem, events, clock)
  onWrite?.('supervisor.prepare:before')
  const directory = RunDirectory.make(path, keepsStart)
  const input = program.stdin === undefined ? undefined : directory.openInput(program.stdin)
  onWrite?.('supervisor.prepare:after')
  try {
    onWrite?.('supervisor.start:before')
    const argv = ['-c', script, 'lichen-run', path, limitS.toFixed(3), ...program.argv]
    const child = spawn('/bin/sh', argv, { env: program.env, cwd: program.cwd, detached: true, stdio: [input ?? 'ignore', 'ignore', 'ignore'] })
    onWrite?.('supervisor.start:after')
    const mark = child.pid === undefined ? undefined : markProcess(child.pid, bootId)
    if (!mark) {
      // It says why in a moment; an error that nobody listens to would end the agent.
      child.once('error', () => {})
      removeRun(path)
      return failedStart('the supervisor could not be started', events, clock)
    }
    // It is to outlive this process, which need not wait for it.
    child.unref()
    const running = new Supervised({ directory, mark, from: { stdout: 0, stderr: 0 }, clock, onWrite }, events)
    child.once('error', (error) => running.onGone(error.message))
    child.once('exit', () => running.onGone())
    return running
  } catch (error) {
    removeRun(path)
    // Arguments that no program can be started with, e.g. a NUL byte in one.
    return failedStart((error as Error).message, events, clock)
  } finally {
    if (input !== undefined) closeSync(input)
  }
}

async function attach({ clock, bootId, onWrite }: NodeProgramsOptions, path: string, from: OutputPositions, events: ProgramEvents): Promise<RunningProgram | undefined> {
  if (!existsSync(path)) return undefined
  const directory = RunDirectory.open(path)
  const until = clock.elapsed() + beginsWithinMs
  while (directory.readState().pid === undefined && clock.elapsed() < until) await pauseFor(clock, 10).over
  const { pid, startTime } = directory.readState()
  if (pid === undefined || startTime === undefined) {
    // Without its directory a supervisor that comes late does nothing: so it is certain that nothing was started.
    removeRun(path)
    return undefined
  }
  return new Supervised({ directory, mark: { pid, startTime, bootId }, from, clock, onWrite }, events)
}

/** Why the program could not be started, in the words of `spawn`; undefined when nothing is known against it. */
function checkStart(program: ProgramStart): string | undefined {
  const name = program.argv[0]!
  if (!statSync(program.cwd, { throwIfNoEntry: false })?.isDirectory()) return notFoundText(program)
  const candidates = name.includes('/') ? [resolve(program.cwd, name)] : (program.env['PATH'] ?? '').split(':').map((directory) => resolve(program.cwd, directory, name))
  const found = candidates.filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
  if (found.length === 0) return notFoundText(program)
  return found.some(isExecutable) ? undefined : `${found[0]} may not be executed`
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
