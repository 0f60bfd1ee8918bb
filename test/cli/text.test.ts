import t from 'tap'
import { buildTable, formatAge, formatDuration, parseDurationS, parseLabelChanges, sanitizeLine } from '@lichen/cli'

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
