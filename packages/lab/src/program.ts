/** Running a program of the host to its end. Nothing here throws for an exit code: see `required-program.ts` for that. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'

/** How a program on the host ended. */
export interface ProgramResult {
  readonly argv: readonly string[]
  /** The exit code; 128 + signal number is not used: a signal gives -1, a program that could not be started -2. */
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Where the program runs; where this process does when absent. */
  readonly cwd?: string
  /** Lines of both streams as they appear. */
  readonly onLine?: (line: string) => void
}

const basePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The environment that the lab's programs see: nothing of the caller's, so that a host's locale or proxy cannot change results. */
export const programEnvironment = { PATH: basePath, LC_ALL: 'C.UTF-8', HOME: '/root' } as const

/** Runs a program without a shell and with no input. Its output is kept whole: use it for programs that print little. */
export function runProgram(argv: readonly [string, ...string[]], options: ProgramOptions = {}): Promise<ProgramResult> {
  return new Promise((settle) => {
    const { cwd } = options
    const child = spawn(argv[0], argv.slice(1), { env: { ...programEnvironment, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'], ...(cwd === undefined ? {} : { cwd }) })
    let stdout = ''
    let stderr = ''
    const onLine = options.onLine
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (onLine) text.split('\n').filter(Boolean).forEach(onLine)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      if (onLine) text.split('\n').filter(Boolean).forEach(onLine)
    })
    child.on('error', (error) => settle({ argv, exitCode: -2, stdout, stderr: error.message }))
    child.on('close', (code) => settle({ argv, exitCode: code ?? -1, stdout, stderr }))
  })
}

/** The same program, killed by the kernel when the process that starts it dies, even by SIGKILL. */
export function dieWithParent(argv: readonly string[]): [string, ...string[]] {
  return ['setpriv', '--pdeathsig', 'KILL', ...argv]
}

/** Starts a program that outlives us, its output appended to a file. */
export function startDetached(argv: readonly [string, ...string[]], logPath: string): void {
  const log = openSync(logPath, 'a', 0o640)
  try {
    const child = spawn(argv[0], argv.slice(1), { env: programEnvironment, cwd: '/', stdio: ['ignore', log, log], detached: true })
    // a program that cannot be started is seen by its absence, where its effect is waited for
    child.on('error', () => undefined)
    child.unref()
  } finally {
    closeSync(log)
  }
}
