import t from 'tap'
import { openLogTail } from '../../packages/cli/src/follow/log-tail.js'

const makeRecord = (text: string, stream: 'stdout' | 'stderr' | 'agent' = 'stdout', action = 'one/run@node-1') => ({ offset: 0, at: 0, node: 'node-1', action, attempt: 1, stream, text })
const textsOf = (records: readonly { text: string }[]) => records.map(({ text }) => text)

t.test('the newest lines of all actions, with the headings of the agent', async (t) => {
  const tail = openLogTail(3)
  for (const text of ['a', 'b', 'c']) tail.add(makeRecord(text))
  tail.add(makeRecord('=== heading', 'agent'))
  t.same(textsOf(tail.newest()), ['b', 'c', '=== heading'])
  t.same(textsOf(tail.ofAction('one/run@node-1')), ['a', 'b', 'c'], 'an action’s are what its commands printed')
  t.same(tail.ofAction('other/run@node-1'), [])
})

t.test('of an action’s lines the last three of stderr stay, in their place', async (t) => {
  const tail = openLogTail(6)
  for (const text of ['e1', 'e2', 'e3', 'e4']) tail.add(makeRecord(text, 'stderr'))
  for (let line = 1; line <= 9; line++) tail.add(makeRecord(`o${line}`))
  t.same(textsOf(tail.ofAction('one/run@node-1')), ['e2', 'e3', 'e4', 'o7', 'o8', 'o9'])
  t.same(textsOf(tail.ofAction('one/run@node-1', 4)), ['e2', 'e3', 'e4', 'o9'])
  t.same(textsOf(tail.ofAction('one/run@node-1', 2)), ['e3', 'e4'])
  t.same(textsOf(tail.newest()), ['o4', 'o5', 'o6', 'o7', 'o8', 'o9'], 'the others count as they came')
})

t.test('with nothing on stdout the last lines of stderr are the last lines', async (t) => {
  const tail = openLogTail(5)
  for (let line = 1; line <= 9; line++) tail.add(makeRecord(`e${line}`, 'stderr'))
  t.same(textsOf(tail.ofAction('one/run@node-1')), ['e5', 'e6', 'e7', 'e8', 'e9'])
})
