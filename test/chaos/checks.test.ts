/** The checks of a chaos run can fail: each violation, alone in evidence that is in order, is found by the check of its number. */
import t from 'tap'

// Loaded as a program would be: chaos/ is checked by its own tsconfig, which needs files of this directory.
const { runChecks } = (await import(new URL('../../chaos/checks.ts', import.meta.url).href)) as { runChecks: (evidence: any) => readonly { number: number; problems: readonly string[] }[] }
const { parseLedger } = (await import(new URL('../../chaos/ledger.ts', import.meta.url).href)) as { parseLedger: (text: string) => readonly any[] }

const commands = [['a', 'unless', []], ['b', 'creates', ['a']], ['c', 'flaky', []], ['d', 'uncheckable', ['b']]] as const

/** Evidence of one task with an action of each kind on one node, everything as it should be. */
function makeEvidence(): any {
  const components = commands.map(([name, command, after]) => ({ name, mode: command === 'uncheckable' ? 'alone' : command, nodes: ['n1'], after, effects: [{ mark: `x.${name}`, command, lines: 2 }] }))
  const actions = commands.map(([name]) => ({ id: `${name}/run@n1`, component: name, node: 'n1', state: 'succeeded', attempt: 1, reason: '', result: { outcome: 'succeeded', commands: [] } }))
  const executions = parseLedger(commands.map(([name], index) => `${index * 10 + 1} begin x.${name} 7-${index}\n${index * 10 + 2} effect x.${name} 7-${index}\n${index * 10 + 3} end x.${name} 7-${index} 2\n`).join(''))
  const log = commands.flatMap(([name], index) => [1, 2].map((line) => ({ offset: index * 100 + line, node: 'n1', action: `${name}/run@n1`, attempt: 1, stream: 'stdout', text: `x.${name} 7-${index} line ${line} of 2` })))
  const task = { id: 't1', deployment: 'x', state: 'ended', outcome: 'succeeded', reason: '', counts: {}, seq: 3 }
  const events = [{ type: 'taskAccepted' }, { type: 'actionEnded', action: 'a/run@n1', attempt: 1 }, { type: 'taskEnded', outcome: 'succeeded' }].map((event, index) => ({ seq: index + 1, at: index, event }))
  const planned = { deployment: 'x', plan: {}, components }
  return {
    submissions: [{ planned, ids: new Set(['t1']), refusal: undefined, isTwice: false }], allTasks: [task], tasks: [{ task, planned, actions, events, log }],
    ledgers: new Map([['n1', { node: 'n1', executions: [...executions], made: new Map([['x.b', 12_500]]) }]]),
    settlements: [], nodes: [{ id: 'n1', state: 'ready' }], expectedNodes: ['n1'], deadLetters: [], outboxRows: 0, heldLeases: [], orphans: [], wrongAnswers: [], defects: [],
  }
}

const ledgerOf = (evidence: any): any => evidence.ledgers.get('n1')
const again = (evidence: any, name: string, change: object): void => void ledgerOf(evidence).executions.push({ ...ledgerOf(evidence).executions.find(({ mark }: any) => mark === `x.${name}`), id: '8-8', beganAt: 90_000, endedAt: 91_000, ...change })
const logOf = (evidence: any): any[] => evidence.tasks[0].log

/** What is done to the evidence, and the numbers of the checks that must find it: those alone. */
const violations: readonly (readonly [string, readonly number[], (evidence: any) => void])[] = [
  ['a submission is lost', [1], (evidence) => (evidence.submissions = [...evidence.submissions, { ...evidence.submissions[0], planned: { deployment: 'y', components: [] }, ids: new Set(['t2']) }])],
  ['a submission is answered with two tasks', [1], (evidence) => (evidence.submissions[0].ids = new Set(['t1', 't2']))],
  ['a task does not end', [2], (evidence) => Object.assign(evidence.tasks[0].task, { state: 'running', outcome: null })],
  ['a task succeeds with an action that failed', [2, 16], (evidence) => (evidence.tasks[0].actions[2].state = 'failed')],
  ['a reported effect is not there', [3], (evidence) => (ledgerOf(evidence).executions[2].effectAt = undefined)],
  ['a checkable effect happens twice', [4], (evidence) => again(evidence, 'a', { effectAt: 90_500, endedAt: undefined })],
  ['a file that was made is made again', [4], (evidence) => again(evidence, 'b', { isDouble: true, endedAt: undefined })],
  ['an uncheckable command runs twice', [5], (evidence) => again(evidence, 'd', { endedAt: undefined })],
  ['what was refused ran', [2, 6, 16], (evidence) => Object.assign(evidence.tasks[0].actions[3], { state: 'failed', result: { outcome: 'failed', commands: [], failure: { code: 'ORDER_EXPIRED', message: '' } } })],
  ['an action begins before the one that it comes after', [7], (evidence) => (ledgerOf(evidence).executions[3].beganAt = 5_000)],
  ['two runs of a command overlap', [8], (evidence) => again(evidence, 'c', { beganAt: 21_500, effectAt: undefined, endedAt: undefined })],
  ['a line is missing in the middle', [9], (evidence) => logOf(evidence).splice(0, 1)],
  ['the last line is missing', [9], (evidence) => logOf(evidence).splice(1, 1)],
  ['a line is there twice', [9], (evidence) => logOf(evidence).splice(1, 0, logOf(evidence)[0])],
  ['an event is missing', [10], (evidence) => evidence.tasks[0].events.splice(1, 1)],
  ['a row of the outbox is stuck', [11], (evidence) => (evidence.outboxRows = 1)],
  ['a dead letter is left', [11], (evidence) => (evidence.deadLetters = [{ reason: 'poison', body: '{' }])],
  ['a node is registered twice', [12], (evidence) => evidence.nodes.push({ id: 'n1', state: 'ready' })],
  ['a process is left', [13], (evidence) => (evidence.orphans = ['process 7'])],
  ['the API answers 500', [14], (evidence) => (evidence.wrongAnswers = ['GET /: 500'])],
  ['a program ends by a defect', [15], (evidence) => (evidence.defects = ['e1: TypeError'])],
  ['nothing was done at all', [16], (evidence) => Object.assign(evidence, { tasks: [], submissions: [], allTasks: [] })],
]

const broken = (evidence: any): number[] => runChecks(evidence).filter(({ problems }) => problems.length > 0).map(({ number }) => number)

t.test('evidence that is in order breaks no check', async (t) => t.strictSame(broken(makeEvidence()), []))

t.test('lines that came in pieces, and a hole with a marker, are no lie', async (t) => {
  const evidence = makeEvidence()
  logOf(evidence).splice(0, 1, { ...logOf(evidence)[0], text: 'x.a 7- ⋯' }, { ...logOf(evidence)[0], text: '⋯ 0 line 1 of 2' })
  logOf(evidence).splice(-1, 1, { ...logOf(evidence).at(-1), stream: 'agent', text: '… 20 bytes cut: the disk of the node is full …' })
  t.strictSame(broken(evidence), [])
})

for (const [title, numbers, violate] of violations) {
  t.test(`${title}: found by check ${numbers.join(' and ')}`, async (t) => {
    const evidence = makeEvidence()
    violate(evidence)
    t.strictSame(broken(evidence), numbers)
  })
}
