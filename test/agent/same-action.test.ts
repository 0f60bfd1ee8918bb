// An engine that gave an attempt up, and one that took the task over, order the same action again while the node has the first attempt still.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

t.test('of one action a single attempt runs at a time on a node, of whatever task; other actions run beside it', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const trace = join(agent.directory, 'trace')
  const waits = (name: string): string => `echo begin ${name} >> ${trace}; while [ ! -e ${trace}.${name} ]; do sleep 0.02; done; echo end ${name} >> ${trace}`
  const order = (taskId: string, actionId: string, attempt: number, name: string) => gateway.order({ key: { taskId, actionId, attempt }, commands: [makeCommand('run', { shell: waits(name), uncheckable: true })] })
  const read = (): string[] => (existsSync(trace) ? readFileSync(trace, 'utf8').trim().split('\n') : [])
  const first = order('t-1', 'app/run@node-1', 1, 'first')
  await eventually(t, 'it runs', () => read().includes('begin first'))
  const second = order('t-1', 'app/run@node-1', 2, 'second')
  const third = order('t-2', 'app/run@node-1', 1, 'third')
  const other = order('t-1', 'app/other@node-1', 1, 'other')
  await eventually(t, 'all are accepted', () => gateway.accepted.length === 4)
  // The other action came last: what may run beside the first does so by now.
  await eventually(t, 'the other action runs', () => read().includes('begin other'))
  t.same(read(), ['begin first', 'begin other'])
  for (const name of ['other', 'first', 'second', 'third']) writeFileSync(`${trace}.${name}`, '')
  for (const key of [first, second, third, other]) t.equal((await eventually(t, 'its result', () => gateway.resultOf(key))).result.outcome, 'succeeded')
  t.same(read().filter((line) => !line.endsWith('other')), ['begin first', 'end first', 'begin second', 'end second', 'begin third', 'end third'])
})
