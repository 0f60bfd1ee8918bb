import { errorTable, type ErrorEntry } from './errors.js'

const kinds: readonly [ErrorEntry['kind'], string][] = [
  ['rejected', 'The caller’s mistake. Every problem is reported at once; trying again without a change does not help.'],
  ['outcome', 'The work ran, or was refused, and did not succeed. Found in results of actions and tasks, never thrown.'],
  ['unavailable', 'The broker, the store or a node is out of reach. Try again later (HTTP: 503 with Retry-After).'],
  ['bug', 'Cannot happen. The server’s log has the details; please report it.'],
]

/** The text of docs/errors.md: every code of the table, by kind, sorted. */
export function buildErrorsDocument(): string {
  const lines = ['# Errors', '', 'Written from `packages/core/src/errors.ts` by `npm run docs:errors`. Codes are public: never renamed, never reused.']
  lines.push('Bodies are RFC 9457 problem details with `code` and `problems: [{code, path, message}]`.', '')
  for (const [kind, meaning] of kinds) {
    lines.push(`## ${kind}`, '', meaning, '', '| Code | HTTP | Meaning |', '| --- | --- | --- |')
    for (const [code, entry] of Object.entries(errorTable).sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (entry.kind === kind) lines.push(`| \`${code}\` | ${entry.kind === 'outcome' ? '–' : entry.http} | ${entry.meaning.replaceAll('|', '\\|')} |`)
    }
    lines.push('')
  }
  return lines.join('\n')
}
