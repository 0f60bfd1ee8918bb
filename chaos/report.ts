/** What a run prints and keeps. */
import type { CheckResult, Evidence } from './checks.js'
import { groupBy } from './group-by.js'
import type { Harm, Victim } from './faults.js'
import type { Toll } from './storm.js'

function buildTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join('  ').trimEnd()).join('\n')
}

/** Victims by harm, with the number of kills of each. `killsOf`: how many one SIGKILL of this victim kills. */
export function buildTollTable(toll: Toll, killsOf: (victim: Victim, harm: Harm) => number): string {
  const harms = [...new Set([...toll.counts.values()].flatMap((counts) => [...counts.keys()]))].sort()
  const rows = [...toll.counts].sort(([a], [b]) => a.localeCompare(b)).map(([victim, counts]) => {
    const kills = [...counts].reduce((sum, [harm, count]) => sum + count * killsOf(victim, harm), 0)
    return [victim, ...harms.map((harm) => String(counts.get(harm) ?? '')), String(kills)]
  })
  const sums = harms.map((harm) => String([...toll.counts.values()].reduce((sum, counts) => sum + (counts.get(harm) ?? 0), 0)))
  return buildTable([['victim', ...harms, 'kills'], ...rows, ['all', ...sums, String(toll.kills)]])
}

/** One line for what the tasks came to. */
export function describeTasks({ tasks, settlements, ledgers }: Evidence): string {
  const counted = (values: readonly string[]): string => [...groupBy(values, (value) => value)].map(([value, all]) => `${all.length} ${value}`).join(', ')
  const actions = tasks.flatMap((task) => task.actions)
  const settled = actions.filter(({ result }) => result?.commands.some(({ settledByCheck }) => settledByCheck)).length
  const failures = actions.filter(({ state }) => state === 'failed' || state === 'timedOut').map(({ result, reason }) => result?.failure?.code ?? reason)
  const executions = [...ledgers.values()].reduce((sum, ledger) => sum + ledger.executions.length, 0)
  const lines = tasks.reduce((sum, { log }) => sum + log.length, 0)
  return [
    `${tasks.length} tasks: ${counted(tasks.map(({ task }) => task.outcome ?? task.state))}`,
    `${actions.length} actions: ${counted(actions.map(({ state }) => state))}; ${settled} settled by their check, ${settlements.length} answers of the operator`,
    ...(failures.length > 0 ? [`failed actions: ${counted(failures)}`] : []),
    `${executions} command runs in the ledgers, ${lines} lines in the logs`,
  ].join('\n')
}

const problemsShown = 5

/** One line for each check, and under it the first of its problems. */
export const describeChecks = (results: readonly CheckResult[]): string =>
  results.flatMap(({ number, name, problems }) => [
    `${problems.length === 0 ? 'ok    ' : 'BROKEN'} ${String(number).padStart(2)} ${name}${problems.length === 0 ? '' : ` (${problems.length})`}`,
    ...problems.slice(0, problemsShown).map((problem) => `          ${problem}`),
  ]).join('\n')
