/**
 * A process as systemd would keep it: started again some time after it ended, unless its exit code says that trying again changes nothing, or the run
 * ends. Owns the process and its output file.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { signalProcess } from './processes.js'

export interface SupervisedOptions {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  readonly env: NodeJS.ProcessEnv
  /** Its HOME; `output` in it is what it printed. */
  readonly directory: string
  readonly restartMs: number
  /** Exit codes after which it is not started again. */
  readonly finalCodes?: readonly number[]
}

export interface Supervised {
  readonly name: string
  readonly outputPath: string
  pid(): number | undefined
  /** Ends that nobody asked for, oldest first: exit codes or signals. */
  readonly ownEnds: readonly string[]
  /** Starts it, with further variables for this start alone. */
  start(env?: NodeJS.ProcessEnv): void
  /** SIGKILL; it is started again later. Resolves when it is gone. False when it did not run. */
  kill(): Promise<boolean>
  /** Ends it as `kill` does and starts it at once, with further variables for this start alone. */
  restartWith(env: NodeJS.ProcessEnv): Promise<void>
  /** SIGSTOP until the returned function is called. */
  freeze(): () => void
  /** Ends it for good. */
  stop(): Promise<void>
}

/** A supervised process, not started yet. */
export function openSupervised(options: SupervisedOptions): Supervised {
  const { name, argv, env, directory, restartMs, finalCodes = [] } = options
  mkdirSync(directory, { recursive: true })
  const outputPath = join(directory, 'output')
  const ownEnds: string[] = []
  let child: ChildProcess | undefined
  let isStopped = false
  let isKilled = false
  let restart: NodeJS.Timeout | undefined

  const isRunning = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null

  function start(more: NodeJS.ProcessEnv = {}): void {
    clearTimeout(restart)
    isStopped = false
    isKilled = false
    const output = openSync(outputPath, 'a')
    const started = spawn(argv[0], argv.slice(1), { env: { PATH: process.env['PATH'], LANG: 'C.UTF-8', ...env, ...more, HOME: directory }, stdio: ['ignore', output, output], cwd: directory })
    closeSync(output)
    child = started
    started.once('exit', (code, signal) => {
      if (isStopped) return
      if (!isKilled) ownEnds.push(code === null ? String(signal) : `exit code ${code}`)
      if (code === null || !finalCodes.includes(code)) restart = setTimeout(start, restartMs)
    })
    started.once('error', (error) => ownEnds.push(error.message))
  }

  async function end(): Promise<boolean> {
    clearTimeout(restart)
    const running = child
    if (running === undefined || !isRunning()) return false
    const gone = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGKILL')
    await gone
    return true
  }

  return {
    name, outputPath, ownEnds, start,
    pid: () => (isRunning() ? child?.pid : undefined),
    async kill() {
      isKilled = true
      const was = await end()
      if (!was && !isStopped) restart = setTimeout(start, restartMs)
      return was
    },
    async restartWith(more) {
      isKilled = true
      await end()
      clearTimeout(restart)
      start(more)
    },
    freeze() {
      const pid = isRunning() ? child?.pid : undefined
      if (pid !== undefined) signalProcess(pid, 'SIGSTOP')
      return () => void (pid !== undefined && signalProcess(pid, 'SIGCONT'))
    },
    async stop() {
      isStopped = true
      await end()
    },
  }
}
