import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { openApi, type ScenarioApi } from './api.js'
import { makePlan, startSystem, type System } from './system.js'

const linesOf = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])

interface Interrupted {
  readonly system: System
  readonly api: ScenarioApi
  readonly task: string
  /** What the scripts wrote, a line for each run. */
  readonly ran: () => string[]
}

/** A task whose first action, which cannot be checked, was interrupted by a restart of its node; another component comes after it, a third on its own. */
async function interruptTask(t: Test): Promise<Interrupted> {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  const agent = await system.startAgent('n1', { bootId: 'boot-1' })
  const file = join(system.directory, 'ran')
  const go = join(system.directory, 'go')
  // What is left of the first run after the "restart" ends by itself.
  const task = await api.submit(makePlan('interrupted', [
    { name: 'risky', blueprint: 'script', with: { script: `echo risky >> ${file}; for i in $(seq 50); do test -e ${go} && break; sleep 0.1; done` } },
    { name: 'after', blueprint: 'script', after: ['risky'], with: { script: `echo after >> ${file}` } },
    { name: 'beside', blueprint: 'script', with: { script: `echo beside >> ${file}` } },
  ]))
  await eventually(t, 'both have begun', () => linesOf(file).includes('risky') && linesOf(file).includes('beside'))
  await api.reached(task, 'what stands beside is complete', ({ counts }) => counts['succeeded'] === 1)
  await agent.stop()
  await system.startAgent('n1', { bootId: 'boot-2' })
  writeFileSync(go, '')
  return { system, api, task, ran: () => linesOf(file) }
}

const waitForQuestion = (api: ScenarioApi, task: string) => api.reached(task, 'the outcome is unknown and the task waits for a person', ({ unknown, waitingFor }) => unknown.length === 1 && waitingFor?.owner === 'operator')

t.test('an action that was interrupted and cannot be checked stops what comes after it, and the task says what it waits for', async (t) => {
  const { api, task, ran } = await interruptTask(t)
  const waiting = await waitForQuestion(api, task)
  t.match(waiting, { state: 'running', outcome: null, counts: { unknown: 1, succeeded: 1, pending: 1 }, waitingFor: { until: null, owner: 'operator' } })
  t.match(waiting.waitingFor?.reason, /unknown.*risky\/run@n1/)
  t.match(waiting.unknown, [{ action: 'risky/run@n1', answers: ['succeeded', 'failed', 'runAgain'], reason: /\w/ }])
  t.same(ran().sort(), ['beside', 'risky'], 'nothing ran twice, and what comes after did not run')

  await t.test('a mistake in the answer is refused with words that help, and changes nothing', async (t) => {
    t.match(await api.refused(task, 'settle', { action: 'risky/rum@n1', answer: 'succeeded', reason: 'x' }, 'TASK_UNKNOWN_ACTION'), 'did you mean "risky/run@n1"')
    await api.refused(task, 'settle', { action: 'beside/run@n1', answer: 'succeeded', reason: 'x' }, 'TASK_NOT_UNKNOWN')
    await api.refused(task, 'settle', { action: 'risky/run@n1', answer: 'succeeded' }, 'REQUEST_SHAPE')
    await api.refused(task, 'retry', {}, 'TASK_NOT_ENDED')
    t.match(await api.read(task), { counts: { unknown: 1 } })
  })

  await t.test('settled as succeeded, what comes after runs and the task ends well', async (t) => {
    await api.ask(task, 'settle', { action: 'risky/run@n1', answer: 'succeeded', reason: 'the schema has its new version' })
    const ended = await api.reached(task, 'the end', ({ state }) => state === 'ended')
    t.match(ended, { outcome: 'succeeded', unknown: [] })
    t.same(ran().sort(), ['after', 'beside', 'risky'])
    await api.refused(task, 'settle', { action: 'risky/run@n1', answer: 'failed', reason: 'x' }, 'TASK_ENDED')
  })
})

t.test('settled as failed, what comes after is skipped and the task fails with the words of the person', async (t) => {
  const { api, task, ran } = await interruptTask(t)
  await waitForQuestion(api, task)
  await api.ask(task, 'settle', { action: 'risky/run@n1', answer: 'failed', reason: 'no trace of it' })
  const ended = await api.reached(task, 'the end', ({ state }) => state === 'ended')
  t.match(ended, { outcome: 'failed', reason: /no trace of it/, counts: { failed: 1, skipped: 1, succeeded: 1 } })
  t.same(ran().sort(), ['beside', 'risky'])

  await t.test('and a retry starts it over', async (t) => {
    await api.ask(task, 'retry')
    t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
    t.same(ran().sort(), ['after', 'beside', 'risky', 'risky'])
  })
})

t.test('allowed to run again, it does, once, and the task goes on', async (t) => {
  const { api, task, ran } = await interruptTask(t)
  await waitForQuestion(api, task)
  await api.ask(task, 'settle', { action: 'risky/run@n1', answer: 'runAgain', reason: 'it does no harm twice' })
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(ran().sort(), ['after', 'beside', 'risky', 'risky'])
})

t.test('the question outlives the engine: another process asks it and takes the answer', async (t) => {
  const { system, api, task, ran } = await interruptTask(t)
  await waitForQuestion(api, task)
  await system.stopEngine()
  await api.ask(task, 'settle', { action: 'risky/run@n1', answer: 'succeeded', reason: 'I looked while nobody drove it' })
  t.match(await api.read(task), { unknown: [] })
  await system.startEngine()
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(ran().sort(), ['after', 'beside', 'risky'])
})
