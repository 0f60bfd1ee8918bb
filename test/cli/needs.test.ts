import t from 'tap'
import { buildNeedLines, buildProgress, collectParameter, countNeeds, listNeeds, openPlainView, sanitizeLine, type TaskEvent } from '@lichen/cli'
import { makeDetail, makeGate } from './task-detail.js'

const unknown = { action: 'db/migrate@n1', node: 'n1', attempt: 1, since: 0, reason: 'the agent was restarted\nwhile it ran', answers: ['succeeded', 'failed', 'runAgain'] }

t.test('each way of waiting for a person has its words and its commands', async (t) => {
  const detail = makeDetail({ state: 'paused', reason: 'paused by ann: lunch', gates: [makeGate('db/approval', { state: 'waiting', approve: true, meaning: 'all of db' }), makeGate('db/wave-1')], unknown: [unknown] })
  t.same(buildNeedLines(listNeeds(detail)), [
    'paused by ann: lunch', '    lichen resume t-1',
    'all of db waits for approval', '    lichen approve t-1 db/approval',
    'db/migrate@n1: unknown whether it happened: the agent was restarted',
    "    lichen settle t-1 db/migrate@n1 --as succeeded --reason '…'", "    lichen settle t-1 db/migrate@n1 --as failed --reason '…'", "    lichen settle t-1 db/migrate@n1 --as run-again --reason '…'",
  ])
  t.equal(countNeeds(listNeeds(detail)), 'waits for a person: paused, 1 approval, 1 unknown outcome')
})

t.test('a wait that only an operator can end is told where no command helps; a task that ended, or waits for others, needs nobody', async (t) => {
  const waitingFor = { reason: 'node n1 is cordoned', since: 0, until: null, owner: 'operator' }
  t.same(buildNeedLines(listNeeds(makeDetail({ waitingFor }))), ['node n1 is cordoned'])
  t.same(listNeeds(makeDetail({ waitingFor: { ...waitingFor, owner: 'engine' } })), [])
  t.same(listNeeds(makeDetail({ state: 'ended', unknown: [{ ...unknown, answers: [] }], waitingFor: null })), [])
  t.equal(countNeeds([]), '')
})

t.test('a pipe is told once what a person can do, and again when it comes back; unchanged actions are one line', async (t) => {
  const lines: string[] = []
  const terminal = { isInteractive: false, canAsk: false, columns: () => 80, rows: () => 24, line: (text: string) => void lines.push(sanitizeLine(text)), write: () => undefined, note: () => undefined, style: (_style: unknown, text: string) => text, drained: async () => undefined }
  const progress = buildProgress(0)
  const view = openPlainView(terminal, makeDetail(), progress)
  const event = (seq: number, type: string, fields: object = {}): TaskEvent => ({ seq, at: 0, event: { type, ...fields } })
  for (let index = 1; index <= 4_988; index++) view.event(event(index, 'actionUnchanged', { action: `a/b@n${index}` }), undefined)
  t.same(lines, [])
  const waiting = makeDetail({ gates: [makeGate('db/wave-1', { state: 'waiting', approve: true, meaning: 'wave 1 of 2 of db (canary: n1)' })] })
  view.detail(waiting)
  view.detail(waiting)
  t.same(lines.map((line) => line.replace(/^\S+Z /, '')), ['4,988 unchanged: nothing about them is other than when they last succeeded', 'wave 1 of 2 of db (canary: n1) waits for approval; to type:', '    lichen approve t-1 db/wave-1'])
  view.event(event(4_989, 'gateApproved', { gate: 'db/wave-1', by: 'ann', reason: 'looks good' }), undefined)
  view.detail(makeDetail({ gates: [makeGate('db/wave-1', { state: 'open', approvedBy: 'ann' })] }))
  t.match(lines.at(-1), /db\/wave-1 approved by ann: looks good$/)
  view.detail(waiting)
  t.equal(lines.length, 6, 'told again')
})

t.test('values of --set are YAML; what has no component or parameter is refused', async (t) => {
  t.same(collectParameter('db.port=5432', collectParameter("db.name='42'", { web: { on: true } })), { web: { on: true }, db: { name: '42', port: 5432 } })
  t.same(collectParameter('web.hosts=[a, b]'), { web: { hosts: ['a', 'b'] } })
  t.same(collectParameter('web.text=a=b.c'), { web: { text: 'a=b.c' } })
  t.same(collectParameter('web.text='), { web: { text: '' } })
  t.same(collectParameter('web.text=null'), { web: { text: null } })
  for (const text of ['web=1', 'web.text', '.text=1', 'web.text=[']) t.throws(() => collectParameter(text), { code: 'commander.invalidArgument' }, text)
})
