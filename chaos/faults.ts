/**
 * Everything that can go wrong here, as one list: each fault breaks its victim, leaves it so for a time, mends it, and resolves when the victim can be broken
 * again. Processes are ended by their ids; who restarts them is their supervisor (supervised.ts), as systemd would.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pause, until } from './patience.js'
import { listAtHome, signalProcess } from './processes.js'
import type { Random } from './random.js'
import type { RabbitNode } from '../test/rabbitmq-node.js'
import type { AgentMember, Member, System } from './system.js'

export type Victim = 'agent' | 'node' | 'engine' | 'both engines' | 'api' | 'postgres' | 'rabbitmq' | 'whole rabbitmq' | 'machine' | 'agent in machine'
export type Harm = 'SIGKILL' | 'SIGSTOP' | 'partition' | 'full disk' | 'stop' | 'reboot' | 'power loss'

export interface Fault {
  readonly victim: Victim
  readonly harm: Harm
  /** Which one of the victims. */
  readonly name: string
  /** Names of the places that are in trouble meanwhile: only one fault at a time each. */
  readonly places: readonly string[]
  readonly weight: number
  /** How many victims it kills. */
  readonly kills: number
  strike(random: Random): Promise<void>
}

const recoveryMs = 60_000
const secondsFrom = (random: Random, low: number, high: number): Promise<void> => pause(low * 1000 + random.next() * (high - low) * 1000)

/** Faults of the system's own members. */
export function listFaults(system: System): readonly Fault[] {
  const { agents, engines, api, network } = system
  const cuts = network.isCuttable ? [...agents, ...engines].map((member) => cut(system, member)) : []
  return [
    ...agents.flatMap((agent) => [kill('agent', agent, 12 / agents.length), freeze('agent', agent, 3 / agents.length), killNode(agent, 6 / agents.length)]),
    ...agents.filter(({ hasSmallDisk }) => hasSmallDisk).map(fillDisk),
    ...engines.flatMap((engine) => [kill('engine', engine, 4), freeze('engine', engine, 1)]),
    killBoth(engines),
    kill('api', api, 4),
    freeze('api', api, 1),
    ...cuts,
    ...postgresFaults(system),
    ...rabbitFaults(system),
  ]
}

const untilRuns = async ({ process }: Member): Promise<void> => void (await until(`${process.name} is started again`, recoveryMs, () => process.pid() !== undefined, 20))

const kill = (victim: Victim, member: Member, weight: number): Fault => ({
  victim, harm: 'SIGKILL', name: member.place.name, places: [member.place.name], weight, kills: 1,
  async strike() {
    await member.process.kill()
    await untilRuns(member)
  },
})

const freeze = (victim: Victim, member: Member, weight: number): Fault => ({
  victim, harm: 'SIGSTOP', name: member.place.name, places: [member.place.name], weight, kills: 0,
  async strike(random) {
    const thaw = member.process.freeze()
    // Longer than a lease lasts, some of the time: what wakes up must find out that it is no longer the one.
    await secondsFrom(random, 1, 6)
    thaw()
  },
})

const cut = ({ network, engines }: System, member: Member): Fault => ({
  victim: engines.includes(member) ? 'engine' : 'agent', harm: 'partition', name: member.place.name, places: [member.place.name], weight: 0.6, kills: 0,
  async strike(random) {
    network.cut(member.place, random.pick(['silent', 'down']))
    await secondsFrom(random, 2, 9)
    network.mend(member.place)
  },
})

/** Power loss of a namespaced node, as far as one can be had without another kernel: the agent and whatever it runs are gone at once. */
const killNode = (agent: AgentMember, weight: number): Fault => ({
  victim: 'node', harm: 'SIGKILL', name: agent.place.name, places: [agent.place.name], weight, kills: 1,
  async strike() {
    const home = join(agent.process.outputPath, '..')
    const gone = agent.process.kill()
    for (let round = 0; round < 3; round++) for (const { pid } of listAtHome(home)) signalProcess(pid, 'SIGKILL')
    await gone
    await untilRuns(agent)
  },
})

/** Until not a byte more fits; what the agent frees meanwhile is filled again. */
const fillDisk = (agent: AgentMember): Fault => ({
  victim: 'agent', harm: 'full disk', name: agent.place.name, places: [agent.place.name], weight: 1.5, kills: 0,
  async strike(random) {
    const path = join(agent.dataDirectory, 'filler')
    const file = openSync(path, 'a')
    const end = Date.now() + random.integer(2000, 7000)
    try {
      while (Date.now() < end) {
        for (const sizeBytes of [2 ** 20, 2 ** 12, 1]) writeUntilFull(file, sizeBytes)
        await pause(50)
      }
    } finally {
      closeSync(file)
      rmSync(path)
    }
  },
})

function writeUntilFull(file: number, sizeBytes: number): void {
  const bytes = Buffer.alloc(sizeBytes)
  try {
    while (writeSync(file, bytes) > 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}

const killBoth = (engines: readonly Member[]): Fault => ({
  victim: 'both engines', harm: 'SIGKILL', name: 'e1 and e2', places: engines.map(({ place }) => place.name), weight: 2, kills: engines.length,
  async strike() {
    await Promise.all(engines.map(({ process }) => process.kill()))
    await Promise.all(engines.map(untilRuns))
  },
})

function postgresFaults({ postgres: { place, server } }: System): readonly Fault[] {
  const base = { victim: 'postgres', name: place.name, places: [place.name] } as const
  const restart = async (signal: 'SIGKILL' | 'SIGINT', random: Random): Promise<void> => {
    await server.stop(signal)
    await secondsFrom(random, 0.2, 3)
    await server.start()
  }
  return [
    { ...base, harm: 'SIGKILL', weight: 4, kills: 1, strike: (random) => restart('SIGKILL', random) },
    { ...base, harm: 'stop', weight: 1, kills: 0, strike: (random) => restart('SIGINT', random) },
    {
      ...base, harm: 'SIGSTOP', weight: 1, kills: 0,
      async strike(random) {
        server.freeze()
        await secondsFrom(random, 1, 5)
        server.thaw()
      },
    },
  ]
}

/** As a supervisor that knows when it is up: one that does not come up is killed and started again. RabbitMQ 3.10 hangs now and then where a peer has not noticed yet that it was gone. */
async function startAgain(node: RabbitNode): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await node.start()
    } catch (error) {
      await node.stop('SIGKILL')
      if (tries === 3) throw error
    }
  }
}

/** One node of the cluster at a time, or all of them: a majority is there, or nobody is. */
function rabbitFaults({ rabbits, network }: System): readonly Fault[] {
  const places = rabbits.map(({ place }) => place.name)
  const ofOne = rabbits.flatMap(({ place, node }): Fault[] => {
    const base = { victim: 'rabbitmq', name: place.name, places } as const
    const restart = async (signal: 'SIGKILL' | 'SIGTERM', random: Random): Promise<void> => {
      await node.stop(signal)
      await secondsFrom(random, 0.2, 2)
      await startAgain(node)
    }
    const cutNode: Fault = {
      ...base, harm: 'partition', weight: 0.5, kills: 0,
      async strike(random) {
        network.cut(place, 'silent')
        await secondsFrom(random, 2, 12)
        network.mend(place)
        // It paused itself when it saw that it was alone, and comes back by itself.
        await secondsFrom(random, 3, 3)
      },
    }
    return [
      { ...base, harm: 'SIGKILL', weight: 1.5, kills: 1, strike: (random) => restart('SIGKILL', random) },
      { ...base, harm: 'stop', weight: 0.3, kills: 0, strike: (random) => restart('SIGTERM', random) },
      {
        ...base, harm: 'SIGSTOP', weight: 0.3, kills: 0,
        async strike(random) {
          node.pause()
          await secondsFrom(random, 1, 6)
          node.resume()
        },
      },
      ...(network.isCuttable ? [cutNode] : []),
    ]
  })
  const whole: Fault = {
    victim: 'whole rabbitmq', harm: 'SIGKILL', name: 'q1, q2 and q3', places, weight: 0.5, kills: rabbits.length,
    async strike(random) {
      await Promise.all(rabbits.map(({ node }) => node.stop('SIGKILL')))
      await secondsFrom(random, 0.2, 2)
      await Promise.all(rabbits.map(({ node }) => startAgain(node)))
    },
  }
  return [...ofOne, whole]
}
