import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { startAgent } from '@lichen/agent'
import { clockOf } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { makePlan, startSystem } from './system.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

t.test('an agent on a copy of a machine is not let in while the first one lives, and both are told apart from a restart', async (t) => {
  const system = await startSystem(t)
  const agent = await system.startAgent('n1')
  cpSync(join(system.directory, 'n1'), join(system.directory, 'copy'), { recursive: true, filter: (path) => !path.endsWith('.lock') && !path.endsWith('.sock') })
  const copy = await startAgent({ gateway: system.gateway(), name: 'n1', dataDirectory: join(system.directory, 'copy'), clock: clockOf(globalThis), log: silent })
  t.teardown(() => copy.stop())
  await eventually(t, 'the copy is refused', () => /AGENT_CLONED/.test(copy.lastError))
  t.match(copy.lastError, /delete the data directory of the agent on the copy/)
  t.equal(agent.state, 'connected', 'the first one is left alone')
  t.ok(system.logged.some((line) => /one of the two machines is a copy/.test(line.message)))
  t.equal((await system.ended(await system.submit(makePlan('still-works', [{ name: 'one', blueprint: 'note' }])))).outcome, 'succeeded')
  await agent.stop()
  await eventually(t, 'when the first one is gone, the other is the node', () => copy.state === 'connected', { timeoutMs: 40_000 })
})
