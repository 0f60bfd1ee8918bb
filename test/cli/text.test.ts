import t from 'tap'
import { buildPreviewLines, buildTable, formatAge, formatDuration, parseDurationS, parseLabelChanges, sanitizeLine, type Preview } from '@lichen/cli'

t.test('durations are in the words of a person', async (t) => {
  t.same([0, 999, 1000, 59_900, 60_000, 185_000, 3_600_000, -5].map(formatDuration), ['0 ms', '999 ms', '1.0 s', '59.9 s', '1 min 00 s', '3 min 05 s', '1 h 00 min', '0 ms'])
  t.same([0, 60_000, 600_000, 7_200_000, 172_800_000].map((ms) => formatAge(0, ms)), ['0 s ago', '60 s ago', '10 min ago', '2 h ago', '2 d ago'])
})

t.test('durations of options are read in s, m, h and d; anything else is none', async (t) => {
  t.same(['90', '90s', '30m', '24h', '7d', '1.5h', 'soon', '', '-1s'].map(parseDurationS), [90, 90, 1800, 86_400, 604_800, undefined, undefined, undefined, undefined])
})

t.test('a table aligns its columns and is nothing without rows', async (t) => {
  t.same(buildTable(['ID', 'STATE'], [['a', 'ready'], ['longer', 'lost']]), ['ID      STATE', 'a       ready', 'longer  lost'])
  t.same(buildTable(['ID'], []), [])
})

t.test('labels are set with key=value and removed with key-', async (t) => {
  t.same(parseLabelChanges(['role=web', 'zone-', 'empty=', 'eq=a=b']), { role: 'web', zone: null, empty: '', eq: 'a=b' })
  for (const bad of ['role', '-', '=x']) t.throws(() => parseLabelChanges([bad]), { exitCode: 2 } as unknown as Error)
})

t.test('output of nodes cannot move the cursor, change the title or ring the bell', async (t) => {
  t.equal(sanitizeLine('a\u001b[2Jb\u001b]0;title\u0007c\u0007\rd\u009b31me\tf'), 'abcde  f')
})

const action = (id: string, more: Partial<Preview['actions'][number]> = {}): Preview['actions'][number] => {
  const [, component = '', name = '', node = ''] = /^(.+)\/(.+)@(.+)$/.exec(id) ?? []
  return { id, component, name, node, after: [], commands: [{ name: 'write it', kind: 'file', spec: { path: '/etc/x' } }], unchanged: null, verifies: [], ...more }
}
const preview: Preview = {
  digest: 'd1', deployment: 'shop', counts: { toRun: 1, unchanged: 4988, verifying: 500, approvals: 1, toRunAfterApproval: 1 },
  actions: [action('lichen/verify@n1', { verifies: [{}] }), action('etcd/packages@n1', { unchanged: { since: 't-1' } }), action('etcd/configure@n2', { after: ['etcd/wave-1'] })],
  gates: [
    { id: 'etcd/wave-1', after: [], approve: true, maxFailures: 0, meaning: 'wave 1 of 3 of etcd (canary: n1)' },
    { id: 'etcd/wave-2', after: [], approve: false, maxFailures: 2, meaning: 'wave 2 of 3 of etcd (n2)' },
    { id: 'etcd/complete', after: [], approve: false, maxFailures: 0, meaning: 'all of etcd' },
  ],
}
const plain = (_style: unknown, text: string): string => text

t.test('a preview says in numbers what would run, then waves and approvals, then what runs', async (t) => {
  t.same(buildPreviewLines(plain, preview, { file: 'shop.yaml', kind: 'apply', listsAll: false }), [
    'apply shop: 1 to run, 4,988 unchanged, 1 approval (1 of them to run after one)',
    'first 500 checks whether what is unchanged is still there; what is gone runs too, and so does what comes after a change',
    '  wave 1 of 3 of etcd (canary: n1): a person must approve etcd/wave-1',
    '  wave 2 of 3 of etcd (n2): 2 failures may pass',
    '',
    'etcd/configure on n2',
    '  after etcd/wave-1',
    '  file      write it  /etc/x',
    '',
    '4,988 unchanged not listed (--all lists them)',
    '',
    'digest d1',
    'Run exactly this: lichen apply shop.yaml --preview d1',
  ])
})

t.test('a preview says what leaves: nodes of components that stay, and components that go', async (t) => {
  const firstLine = (departures: NonNullable<Preview['departures']>[number]['departures']): string | undefined => buildPreviewLines(plain, { ...preview, departures: [{ departures }] }, { file: 'x', kind: 'apply', listsAll: false })[0]
  t.match(firstLine([{ component: 'workers', nodes: ['w2'], isWhole: false }]), /, 1 node leaves \(w2 of workers\)$/)
  const many = Array.from({ length: 5 }, (_, index) => `w${index}`)
  t.match(firstLine([{ component: 'workers', nodes: many, isWhole: false }, { component: 'cni', nodes: ['w0'], isWhole: false }, { component: 'cache', nodes: ['n1'], isWhole: true }]), /, 5 nodes leave \(w0 of workers, cni, w1 of workers, w2 of workers and 2 more\), 1 component leaves \(cache\)$/)
  const lines = buildPreviewLines(plain, { ...preview, actions: [action('workers/remove@w2', { isDeparture: true })] }, { file: 'x', kind: 'apply', listsAll: false })
  t.ok(lines.includes('workers/remove on w2 (leaves)'))
})

t.test('a preview lists everything when it is asked to, and shortens long lists', async (t) => {
  const lines = buildPreviewLines(plain, preview, { file: 'shop.yaml', kind: 'apply', listsAll: true })
  t.ok(lines.includes('etcd/packages on n1 unchanged since t-1'))
  t.ok(lines.includes('lichen/verify on n1'))
  const gates = Array.from({ length: 25 }, (_, index) => ({ ...preview.gates[0]!, id: `etcd/wave-${index + 1}`, meaning: `wave ${index + 1} of 26 of etcd (n${index})`, approve: false }))
  const long = buildPreviewLines(plain, { ...preview, gates, actions: [action('c/a@n1', { after: Array.from({ length: 20 }, (_, index) => `b${index}`) })] }, { file: 'x', kind: 'destroy', listsAll: false })
  t.ok(long.includes('  and 5 more steps'))
  t.ok(long.includes('  after b0, b1, b2, b3, b4, b5, b6, b7 and 12 more'))
  t.notOk(long.some((line) => line.startsWith('Run exactly this')))
})
