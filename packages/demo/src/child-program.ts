/**
 * Programs that the demo starts. All of them run in a session of their own, so that Ctrl-C in the terminal reaches the demo alone and it
 * decides the order in which things end; and all are killed by the kernel when the demo dies in any way, even by SIGKILL.
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'

/** How a program ended. */
export interface ProgramEnd {
  /** The exit code; 128 and above when a signal ended it. */
  readonly exitCode: number
  /** What it printed on both streams, the last `keptOutputBytes`; empty when it printed on our terminal. */
  readonly output: string
}

export interface ProgramOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Lines of both streams as they appear. */
  readonly onLine?: (line: string) => void
  /** Gives the program our terminal or pipe to print on. */
  readonly isShown?: boolean
  /** Ends the program (SIGTERM, then SIGKILL); `runProgram` then rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** Enough for the reason of a failure, whatever was printed before it. */
const keptOutputBytes = 64 * 1024

const setprivPath = '/usr/bin/setpriv'

/** Between SIGTERM and SIGKILL. */
const politeTimeoutMs = 5_000

/** The end of a program that was run without a shell. @throws the reason of `signal` when it was aborted; an error when it cannot be started. */
export async function runProgram(argv: readonly [string, ...string[]], options: ProgramOptions = {}): Promise<ProgramEnd> {
  options.signal?.throwIfAborted()
  const child = startProgram(argv, { stdio: options.isShown ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe'], ...(options.env ? { env: options.env } : {}), ...(options.cwd ? { cwd: options.cwd } : {}) })
  const output = collectLines(child, options.onLine)
  const abort = () => void stopProgram(child, politeTimeoutMs)
  options.signal?.addEventListener('abort', abort, { once: true })
  try {
    const exitCode = await waitForEnd(child)
    options.signal?.throwIfAborted()
    return { exitCode, output: output() }
  } finally {
    options.signal?.removeEventListener('abort', abort)
  }
}

/** A program in a session of its own that does not outlive this process. */
export function startProgram(argv: readonly [string, ...string[]], options: SpawnOptions): ChildProcess {
  const [program, ...rest] = hasSetpriv() ? [setprivPath, '--pdeathsig', 'KILL', '--', ...argv] : argv
  return spawn(program!, rest, { ...options, detached: true })
}

/** Resolves when the program and what it started in its session have ended: SIGTERM first, SIGKILL after `timeoutMs`. */
export async function stopProgram(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = waitForEnd(child).catch(() => undefined)
  signalGroup(child.pid, 'SIGTERM')
  const timer = setTimeout(() => signalGroup(child.pid!, 'SIGKILL'), timeoutMs)
  await ended
  clearTimeout(timer)
}

/** The exit code of a program, 128 and above for signals. */
export function waitForEnd(child: ChildProcess): Promise<number> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(exitCodeOf(child.exitCode, child.signalCode))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(exitCodeOf(code, signal)))
  })
}

const exitCodeOf = (code: number | null, signal: NodeJS.Signals | null): number => code ?? 128 + (signal === null ? 0 : constants.signals[signal])

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // it ended in this moment
  }
}

function collectLines(child: ChildProcess, onLine: ProgramOptions['onLine']): () => string {
  let kept = ''
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream?.setEncoding('utf8').on('data', (text: string) => {
      kept = (kept + text).slice(-keptOutputBytes)
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) onLine?.(line)
    })
    stream?.on('end', () => void (rest !== '' && onLine?.(rest)))
  }
  return () => kept
}

// util-linux brings it to every Debian; elsewhere (the local demo) children of a killed demo are left to the user
const hasSetpriv = (): boolean => existsSync(setprivPath)
