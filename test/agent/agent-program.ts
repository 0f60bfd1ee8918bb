/** The real agent program as a process of its own, to be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import type { TestGateway } from './gateway.js'
import { bundleProgram } from './program.js'

let bundled: Promise<string> | undefined

/** Path of the program. */
export const programPath = (): Promise<string> => (bundled ??= bundleProgram())

/** The program, connected, with `data` in this directory as its own; killed with the test. */
export async function startProgram(t: Test, gateway: TestGateway, directory: string, { config = '', env = {} }: { config?: string; env?: Record<string, string> } = {}): Promise<ChildProcess> {
  const before = gateway.hellos.length
  const child = await spawnProgram(t, gateway, directory, { config, env })
  await eventually(t, 'the program is connected', () => gateway.hellos.length > before, { timeoutMs: 60_000 })
  return child
}

/** The program, started. */
export async function spawnProgram(t: Test, gateway: TestGateway, directory: string, { config = '', env = {} }: { config?: string; env?: Record<string, string> } = {}): Promise<ChildProcess> {
  const path = join(directory, 'agent.yaml')
  writeFileSync(path, `gateway: ${gateway.address}\ntoken: ${gateway.token}\nname: node-1\ndataDirectory: ${directory}/data\n${config}`)
  const child = spawn(process.execPath, [await programPath(), 'run', '--config', path], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...env } })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

/** Ends the program with the signal, and waits until it is gone. */
export async function kill(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
}
