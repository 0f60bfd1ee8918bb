/** Durable no-op actions per second over many agents, and one action at a time from submit to recorded end. */
import { makePlan, runTask, type System } from './system.js'

/** Actions per second of one task with `nodes` × `components` empty actions: signed, journaled on the node, recorded in the store. Median of `runs`. */
export async function measureThroughput(system: System, prefix: string, nodes: number, components: number, runs: number): Promise<number[]> {
  const rates: number[] = []
  for (let run = 0; run <= runs; run++) {
    const { elapsedMs } = await runTask(system, makePlan(`throughput-${run}`, prefix, 'bench-note@^1', components))
    if (run > 0) rates.push((nodes * components * 1000) / elapsedMs)
  }
  return rates
}

/** Milliseconds of `count` tasks of one action on one node, each begun when the one before has ended. */
export async function measureLatency(system: System, prefix: string, count: number): Promise<number[]> {
  const samples: number[] = []
  for (let i = 0; i < count; i++) samples.push((await runTask(system, makePlan('latency', prefix, 'bench-note@^1', 1))).elapsedMs)
  return samples.slice(Math.min(20, count >> 2))
}
