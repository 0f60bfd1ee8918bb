/** Everything that the checks look at, gathered after the last fault: from the API, from the database itself, from the ledgers, from the processes of this machine. */
import { readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { Action, ApiNode, Client, LogLine, RecordedEvent, Task } from './api.js'
import type { Evidence, TaskEvidence } from './checks.js'
import type { Ledger } from './ledger.js'
import type { Submission } from './load.js'
import type { Settlement } from './operator.js'
import { listAtHome } from './processes.js'
import type { System } from './system.js'

export interface EvidenceInput {
  readonly submissions: readonly Submission[]
  readonly settlements: readonly Settlement[]
  readonly ledgers: ReadonlyMap<string, Ledger>
  readonly expectedNodes: readonly string[]
  /** Processes of commands on nodes that are no part of `system`, in words. */
  readonly otherOrphans: readonly string[]
}

/** The evidence of a run against this system. Everything must be up. */
export async function gatherEvidence(system: System, input: EvidenceInput): Promise<Evidence> {
  const { client, postgres, agents, engines, api } = system
  const { submissions, settlements, ledgers, expectedNodes, otherOrphans } = input
  const allTasks = await client.list<Task>('/v1/tasks?limit=200')
  const tasks: TaskEvidence[] = []
  for (const task of allTasks) {
    const planned = submissions.find(({ planned: { deployment } }) => deployment === task.deployment)?.planned
    if (planned) tasks.push(await readTask(client, task, planned))
  }
  const [nodes, { items: deadLetters }, outbox, heldLeases] = await Promise.all([
    client.list<ApiNode>('/v1/nodes'),
    client.call<{ items: Evidence['deadLetters'] }>('GET', '/v1/dead-letters'),
    postgres.server.query<{ count: string }>('SELECT count(*) FROM outbox'),
    postgres.server.query<{ task: string; owner: string }>(`SELECT id AS task, lease_owner AS owner FROM tasks WHERE state = 'ended' AND lease_owner IS NOT NULL AND lease_until > ${Date.now()}`),
  ])
  return {
    submissions, allTasks, tasks, ledgers, settlements, nodes, expectedNodes, deadLetters, heldLeases,
    outboxRows: Number(outbox[0]?.count),
    orphans: [...agents.flatMap(({ place, process }) => listOrphans(place.name, dirname(process.outputPath), process.pid())), ...otherOrphans],
    wrongAnswers: client.wrongAnswers,
    defects: [api, ...engines, ...agents].flatMap(({ process }) => findDefects(process.name, readFileSync(process.outputPath, 'utf8'))),
  }
}

/** The task with all that the API says of it. */
export async function readTask(client: Client, task: Task, planned: TaskEvidence['planned']): Promise<TaskEvidence> {
  const path = `/v1/tasks/${task.id}`
  const [actions, events, log] = await Promise.all([client.list<Action>(`${path}/actions?limit=1000`), client.readLines<RecordedEvent>(`${path}/events`), client.readLines<LogLine>(`${path}/log`)])
  return { task, planned, actions, events, log }
}

/** Processes on the node beside its agent, in words. */
export const listOrphans = (node: string, home: string, agent: number | undefined): string[] =>
  listAtHome(home).filter(({ pid }) => pid !== agent).map(({ pid, argv }) => `process ${pid} on ${node}: ${argv.map((word) => basename(word)).join(' ').slice(0, 160)}`)

/** What Node.js prints of an error that nobody caught; our programs write JSON lines or sentences. */
const defectPattern = /^(?:\w*Error(?: \[\w+\])?: .*|node:internal\/.*|Uncaught .*|.*"level":60.*|.*unhandledRejection.*)$/gm

/** Lines of a program's output that only a defect prints. */
export const findDefects = (name: string, output: string): string[] => [...new Set(output.match(defectPattern) ?? [])].map((line) => `${name}: ${line.slice(0, 300)}`)
