/** Agents for tests: started in this process on a directory of their own, and stopped with the test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Agent, type AgentOptions, startAgent } from '@lichen/agent'
import { clockOf } from '@lichen/core'
import { eventually } from '../eventually.js'
import { endRuns } from './runs.js'
import { type GatewayOptions, TestGateway } from './gateway.js'

export const clock = clockOf(globalThis)
export const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** A directory that goes away with the test. */
export function makeDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-agent-'))
  t.teardown(() => {
    endRuns(directory)
    rmSync(directory, { recursive: true, force: true })
  })
  return directory
}

/** A gateway that stops with the test. */
export async function startGateway(t: Test, options: GatewayOptions = {}): Promise<TestGateway> {
  const gateway = await TestGateway.start(options)
  t.teardown(() => gateway.stop())
  return gateway
}

/** An agent that has joined this gateway and is connected. */
export async function startTestAgent(t: Test, gateway: TestGateway, options: Partial<AgentOptions> = {}): Promise<Agent & { directory: string }> {
  const directory = options.dataDirectory ?? makeDirectory(t)
  const agent = await startAgent({ gateway: gateway.address, token: gateway.token, name: 'node-1', dataDirectory: directory, clock, log: quiet, ...options })
  t.teardown(() => agent.stop())
  await eventually(t, 'the agent is connected', () => agent.state === 'connected' && gateway.streams.length > 0)
  return Object.assign(agent, { directory })
}
