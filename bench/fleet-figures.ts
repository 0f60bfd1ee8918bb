/** What is measured with a fleet of simulated agents on one server program with its defaults: fan-out, idling, coming back after a restart, and applying what is applied already. */
import { readCpuS, readRssMiB, until } from './children.js'
import { type Fleet, readSessions, type ServerProcess, startFleet, startServerProcess } from './deployment.js'
import { type Api, makePlan, runTask, submitTask, untilSucceeded } from './system.js'

export interface FleetSystem {
  readonly server: ServerProcess
  readonly api: Api
  readonly fleet: Fleet
  end(): Promise<void>
}

/** One server process and its fleet (label `bench: fleet`). */
export async function startFleetSystem(directory: string, size: number, env: NodeJS.ProcessEnv = {}): Promise<FleetSystem> {
  const server = await startServerProcess({ directory, env })
  try {
    const fleet = await startFleet(server.api!, server.gateway, 'fleet', size)
    return {
      server, fleet,
      get api() {
        return server.api!
      },
      async end() {
        await fleet.end()
        await server.end('SIGTERM')
      },
    }
  } catch (error) {
    await server.end('SIGKILL')
    throw error
  }
}

export interface Spent {
  readonly elapsedMs: number
  /** Processor time of the server, ms. */
  readonly cpuMs: number
}

async function measure(server: ServerProcess, work: () => Promise<{ readonly elapsedMs: number }>): Promise<Spent> {
  const cpuS = readCpuS(server.pid)
  const { elapsedMs } = await work()
  return { elapsedMs, cpuMs: (readCpuS(server.pid) - cpuS) * 1000 }
}

/** One task with a no-op action for each agent, from submit to its recorded end; `runs` times after one that is not counted. */
export async function measureFanOut({ server, api }: FleetSystem, runs: number): Promise<Spent[]> {
  const samples: Spent[] = []
  for (let run = 0; run <= runs; run++) samples.push(await measure(server, () => runTask(api, makePlan(`fan-out-${run}`, 'fleet', 'bench-note@^1', 1))))
  return samples.slice(1)
}

/** Resident memory of the server in MiB, and the share of one core it uses, while nothing happens but heartbeats. */
export async function measureIdle({ server }: FleetSystem, seconds: number): Promise<{ readonly rssMiB: number; readonly coreShare: number }> {
  // What the joining left behind is not idling.
  await pause(10)
  const cpuS = readCpuS(server.pid)
  const start = performance.now()
  await pause(seconds)
  return { coreShare: (readCpuS(server.pid) - cpuS) / ((performance.now() - start) / 1000), rssMiB: readRssMiB(server.pid) }
}

const pause = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000))

export interface ComeBack {
  /** From the start of the new process until every agent has a session in it. */
  readonly elapsedMs: number
  readonly cpuMs: number
  /** Of the new process, after the storm. */
  readonly rssMiB: number
}

/**
 * The server is killed and started again while a task has an action of some seconds in progress on every node, whose results come due while nobody is there to take them.
 * @throws when the task does not succeed
 */
export async function measureComeBack({ server, api, fleet }: FleetSystem, run: number): Promise<ComeBack> {
  const task = await submitTask(api, makePlan(`come-back-${run}`, 'fleet', 'bench-sleep@^1', 1, { seconds: 5 }))
  await until('every order is out', async () => {
    const { body } = await api.request('GET', `/v1/tasks/${task}`)
    if (body.state === 'ended') throw new Error(`the task ended ${body.outcome} before the restart`)
    return (body.counts?.sent ?? 0) + (body.counts?.running ?? 0) >= fleet.size
  }, 30_000)
  fleet.forget()
  await server.end('SIGKILL')
  const start = performance.now()
  await server.start()
  await fleet.connected()
  await until('every agent has a session', async () => (await readSessions(server.api!)) >= fleet.size, 120_000)
  const elapsedMs = performance.now() - start
  const cpuMs = readCpuS(server.pid) * 1000
  await untilSucceeded(server.api!, task)
  return { elapsedMs, cpuMs, rssMiB: readRssMiB(server.pid) }
}

/** A plan of `actions` files on every node of the fleet. */
const makeFilesPlan = (actions: number): object => ({
  ...makePlan('files', 'fleet', 'bench-file@^1', 0),
  components: Array.from({ length: actions }, (_, index) => ({ name: `c${index}`, blueprint: 'bench-file@^1', on: 'all', with: { name: `file-${index}` } })),
})

/** Applies `actions` checkable actions on every node, then the same plan again `runs` times: those are given back, from submit to the recorded end. */
export async function measureUnchanged({ server, api }: FleetSystem, actions: number, runs: number): Promise<Spent[]> {
  await runTask(api, makeFilesPlan(actions))
  const samples: Spent[] = []
  for (let run = 0; run < runs; run++) samples.push(await measure(server, () => runTask(api, makeFilesPlan(actions))))
  return samples
}
