/**
 * Runs one program to its end: what it prints goes to the log and into what is given back, its time limit is kept.
 *
 * 1. Whatever happens to the program is a value (`Execution`): not found, exit code, signal, ended by us.
 * 2. When the deadline ends, the program and all it started get SIGTERM, and SIGKILL 5 s later; the execution is over when they are gone.
 * 3. Output is taken only while the outbox has room: a program that prints faster than the engine takes has to wait.
 * 4. A supervised program is left alone when the agent stops: its execution is never over then, as if the agent had been killed.
 */
import type { ProgramEvents, ProgramStart, RunningProgram } from '../programs/programs.js'
import type { Execution, ExecutionContext, Program } from './program.js'
import { ProgramOutput } from './program-output.js'

/** Beyond the agent's own limit, so that an agent that is there is the first to act and knows why the program ended. */
const supervisorSlackMs = 1000

/** Runs the program as a child, for a check; resolves when it is over and its output is read. */
export function execute(program: Program, context: ExecutionContext): Promise<Execution> {
  const output = new ProgramOutput(program, context)
  return new Promise((resolve) => {
    const running = context.programs.start(toStart(program, context), eventsOf(output, context, resolve))
    if (running.mark) context.onStart(running.mark)
    output.follow(running)
    followToEnd(running, output, context)
  })
}

/** Runs the program under a supervisor, for an effect. `run`: its name, new to this node. Throws the error of the file system when there is no room to start it. */
export function executeSupervised(run: string, program: Program, context: ExecutionContext): Promise<Execution> {
  const output = new ProgramOutput(program, context, run)
  const options = { limitMs: context.deadline.leftMs + supervisorSlackMs, keepsStart: (program.captureBytes ?? 0) > 0 }
  return new Promise((resolve) => {
    const running = context.programs.supervise(run, toStart(program, context), options, eventsOf(output, context, resolve))
    if (running.mark) context.onStart(running.mark, run)
    output.follow(running)
    followToEnd(running, output, context)
  })
}

/** Follows a program that an earlier run of the agent started, from where that one left off; undefined when there is none of this name. `program`: as it was started then. */
export async function resumeSupervised(run: string, program: Pick<Program, 'output' | 'captureBytes'>, context: ExecutionContext): Promise<Execution | undefined> {
  const output = new ProgramOutput(program, context, run)
  let resolveEnd: (execution: Execution) => void = () => {}
  const ended = new Promise<Execution>((resolve) => (resolveEnd = resolve))
  const running = await context.programs.attach(run, output.from, eventsOf(output, context, resolveEnd))
  if (!running) return undefined
  output.follow(running)
  followToEnd(running, output, context)
  return await ended
}

function eventsOf(output: ProgramOutput, { deadline }: ExecutionContext, resolve: (execution: Execution) => void): ProgramEvents {
  return {
    onOutput: (name, bytes, end) => output.take(name, bytes, end),
    onCut: () => output.sayCut(),
    onEnd: (end) => {
      if (output.onDeadline) deadline.offEnd(output.onDeadline)
      void Promise.resolve(output.ending).then(() => resolve(output.finish(end)))
    },
  }
}

function followToEnd(running: RunningProgram, output: ProgramOutput, { deadline }: ExecutionContext): void {
  output.onDeadline = () => {
    if (deadline.reason === 'stopped' && output.isSupervised) {
      output.leave()
      running.detach()
    } else output.ending = running.end()
  }
  deadline.onEnd(output.onDeadline)
}

function toStart({ argv, env, user, cwd, stdin }: Program, { environment, defaultCwd }: ExecutionContext): ProgramStart {
  return {
    argv: user ? ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', '--', ...argv] : argv,
    env: { ...environment, ...(user && { USER: user.name, LOGNAME: user.name, HOME: user.home }), ...env },
    cwd: cwd ?? defaultCwd,
    stdin,
  }
}
