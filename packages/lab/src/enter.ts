/** Running a program inside a running node: in its namespaces and in its cgroup, so that its limits hold. */
import { spawn, type ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { Readable } from 'node:stream'
import { LichenError } from '@lichen/core'
import { joinCgroups, openExecCgroup } from './cgroup.js'
import { findMachine } from './machine.js'
import type { NodeNames } from './names.js'
import type { HostProcess } from './processes.js'

export interface ExecOptions {
  /** Input of the program; `inherit` gives it our terminal or pipe, and its output too. Absent is no input. */
  readonly stdin?: string | Uint8Array | Readable | 'inherit'
  /** Called with each piece of output as it appears. */
  readonly onOutput?: (stream: 'stdout' | 'stderr', data: Buffer) => void
  /** Kills the program's process group after this long; absent waits for ever. */
  readonly timeoutMs?: number
  /** Added to the environment, which is otherwise the plain one of a root login. */
  readonly env?: Readonly<Record<string, string>>
}

/** How a program in a node ended. */
export interface ExecResult {
  /** The exit code; 128 + signal number when a signal ended it, as shells count. */
  readonly exitCode: number
  /** What it printed, at most the last `outputLimitBytes` of each stream; empty with stdin `inherit`. */
  readonly stdout: string
  readonly stderr: string
  readonly isTimedOut: boolean
}

/** What `exec` keeps of a stream; more goes to `onOutput` only. A listing fits, a log of a full build need not stay in memory. */
export const outputLimitBytes = 16 * 1024 * 1024

const nodePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * The result of a program run in the node as root, without a shell, in /root.
 * @throws LAB_NODE_STOPPED when the node does not run.
 */
export function execInNode(names: NodeNames, node: string, argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const { leader } = findMachine(names)
  if (!leader) throw new LichenError('LAB_NODE_STOPPED', `exec on ${node}: the node is not running`)
  return enterLeader(leader, names.cgroup, argv, options)
}

/** The same, with the node's pid 1 already known. */
export async function enterLeader(leader: HostProcess, cgroup: string, argv: readonly string[], options: ExecOptions): Promise<ExecResult> {
  const isInherited = options.stdin === 'inherit'
  const [program, ...rest] = joinCgroups(openExecCgroup(cgroup), buildEnterArguments(leader.pid, argv, options.env ?? {}))
  const child = spawn(program, rest, {
    env: { PATH: nodePath },
    stdio: isInherited ? 'inherit' : 'pipe',
    // a process group of its own can be killed whole; one that reads our terminal must stay in the terminal's foreground group
    detached: !isInherited,
  })
  const output = collectOutput(child, options.onOutput)
  feedInput(child, options.stdin)
  let isTimedOut = false
  const timer = options.timeoutMs === undefined ? undefined : setTimeout(() => ((isTimedOut = true), killGroup(child, !isInherited)), options.timeoutMs)
  try {
    const exitCode = await waitForClose(child)
    return { exitCode, stdout: output.stdout(), stderr: output.stderr(), isTimedOut }
  } finally {
    clearTimeout(timer)
  }
}

function buildEnterArguments(pid: number, argv: readonly string[], env: Readonly<Record<string, string>>): string[] {
  const variables = { PATH: nodePath, HOME: '/root', USER: 'root', LANG: 'C.UTF-8', ...env }
  return [
    'nsenter',
    `--target=${pid}`,
    ...['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--root', '--wd', '--'],
    ...['/usr/bin/env', '--ignore-environment', '--chdir=/root'],
    ...Object.entries(variables).map(([key, value]) => `${key}=${value}`),
    ...argv,
  ]
}

function collectOutput(child: ChildProcess, onOutput: ExecOptions['onOutput']): Record<'stdout' | 'stderr', () => string> {
  const collect = (name: 'stdout' | 'stderr'): (() => string) => {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    child[name]?.on('data', (data: Buffer) => {
      onOutput?.(name, data)
      chunks.push(data)
      sizeBytes += data.length
      while (chunks.length > 1 && sizeBytes - (chunks[0]?.length ?? 0) >= outputLimitBytes) sizeBytes -= chunks.shift()?.length ?? 0
    })
    return () => Buffer.concat(chunks).subarray(-outputLimitBytes).toString('utf8')
  }
  return { stdout: collect('stdout'), stderr: collect('stderr') }
}

function feedInput(child: ChildProcess, stdin: ExecOptions['stdin']): void {
  if (!child.stdin) return
  // the program may end without reading its input: that is its right, its exit code says the rest
  child.stdin.on('error', () => undefined)
  if (stdin instanceof Readable) stdin.pipe(child.stdin)
  else if (stdin === undefined || stdin === 'inherit') child.stdin.end()
  else child.stdin.end(stdin)
}

function killGroup(child: ChildProcess, isGroup: boolean): void {
  if (child.pid === undefined) return
  try {
    process.kill(isGroup ? -child.pid : child.pid, 'SIGKILL')
  } catch {
    // it ended in this moment
  }
}

function waitForClose(child: ChildProcess): Promise<number> {
  return new Promise((settle, fail) => {
    child.on('error', fail)
    child.on('close', (code, signal) => settle(code ?? 128 + (signal ? signalNumber(signal) : 0)))
  })
}

function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal]
}
