import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { openApi } from './api.js'
import { makePlan, startSystem } from './system.js'

const linesOf = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])

/** A task of deployment `site` that appends its name to `file` when it begins and when it ends, which it does once its own go-file is there. */
async function startScene(t: Test) {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  await system.startAgent('n1')
  const file = join(system.directory, 'ran')
  const planOf = (name: string, deployment = 'site', failsUntil = ''): object =>
    makePlan(deployment, [{ name: 'app', blueprint: 'script', with: { script: `echo begin ${name} >> ${file}; until test -e ${file}.${name}; do sleep 0.05; done; echo end ${name} >> ${file}; ${failsUntil === '' ? '' : `test -e ${file}.${failsUntil}`}` } }])
  return { system, api, planOf, lines: () => linesOf(file), let: (name: string) => writeFileSync(`${file}.${name}`, '') }
}

t.test('a second task of a deployment waits for the first, says so, and begins when that has ended; other deployments wait for nobody', async (t) => {
  const { api, planOf, lines, let: allow } = await startScene(t)
  const first = await api.submit(planOf('first'))
  await eventually(t, 'the first runs', () => lines().length === 1)
  const second = await api.submit(planOf('second'))
  const third = await api.submit(planOf('third'))
  t.match(await api.read(second), { state: 'accepted', engine: null, waitingFor: { reason: `task ${first} of the same deployment comes first, and has not ended`, owner: `task ${first}` } })
  allow('elsewhere')
  t.match(await api.reached(await api.submit(planOf('elsewhere', 'other')), 'the end of another deployment', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(lines().filter((line) => /second|third/.test(line)), [])
  allow('first')
  await eventually(t, 'the second runs', () => lines().includes('begin second'))
  t.match(await api.read(third), { waitingFor: { owner: `task ${second}` } })
  t.match(await api.read(second), { waitingFor: { owner: 'node n1' } })
  allow('second')
  allow('third')
  t.match(await api.reached(third, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(lines().filter((line) => !line.includes('elsewhere')), ['first', 'second', 'third'].flatMap((name) => [`begin ${name}`, `end ${name}`]))
})

t.test('one that waits can be cancelled, and never begins; what comes after it goes on', async (t) => {
  const { api, planOf, lines, let: allow } = await startScene(t)
  await api.submit(planOf('first'))
  await eventually(t, 'the first runs', () => lines().length === 1)
  const second = await api.submit(planOf('second'))
  const third = await api.submit(planOf('third'))
  await api.ask(second, 'cancel')
  t.match(await api.reached(second, 'cancelled while the first still runs', ({ state }) => state === 'ended'), { outcome: 'cancelled' })
  allow('first')
  allow('third')
  t.match(await api.reached(third, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(lines(), ['begin first', 'end first', 'begin third', 'end third'])
})

t.test('a task that failed is not tried again when another of its deployment came after it, running or ended', async (t) => {
  const { api, planOf, lines, let: allow } = await startScene(t)
  allow('first')
  const first = await api.submit(planOf('first', 'site', 'mended'))
  t.match(await api.reached(first, 'its failure', ({ state }) => state === 'ended'), { outcome: 'failed' })
  const second = await api.submit(planOf('second'))
  await eventually(t, 'the second runs', () => lines().includes('begin second'))
  allow('mended')
  t.match(await api.refused(first, 'retry', {}, 'TASK_SUPERSEDED'), new RegExp(`task ${second} of deployment site came after`))
  allow('second')
  t.match(await api.reached(second, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.match(await api.refused(first, 'retry', {}, 'TASK_SUPERSEDED'), new RegExp(`task ${second} of deployment site came after`))
  t.same(lines().slice(-2), ['begin second', 'end second'])
})

t.test('the engine dies while a second task waits: the first goes on, then the second, under another engine', async (t) => {
  const { system, api, planOf, lines, let: allow } = await startScene(t)
  await api.submit(planOf('first'))
  await eventually(t, 'the first runs', () => lines().length === 1)
  const second = await api.submit(planOf('second'))
  await system.stopEngine()
  await system.startEngine()
  allow('first')
  allow('second')
  t.match(await api.reached(second, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(lines(), ['begin first', 'end first', 'begin second', 'end second'])
})
