/** From a command's line on stdout to the client that tails the task, and bytes of log per second from command to store. */
import { makePlan, type System } from './system.js'

async function submit(system: System, plan: object): Promise<string> {
  const reply = await system.request('POST', '/v1/tasks', { kind: 'apply', plan })
  if (reply.code !== 202) throw new Error(JSON.stringify(reply.body))
  return reply.body.id
}

/** Reads the raw text of the task log while it grows; ends with the task. */
async function* tail(system: System, id: string): AsyncGenerator<string> {
  const reply = await fetch(`${system.apiUrl}/v1/tasks/${id}/log?follow=true&raw=true`, { headers: { authorization: `Bearer ${system.token}`, accept: 'text/plain' } })
  for await (const part of reply.body!.pipeThrough(new TextDecoderStream())) yield part
}

/** Milliseconds between the time a line states and its arrival at the client, for lines printed 20 times a second. */
export async function measureLineLatency(system: System, prefix: string, lines: number): Promise<number[]> {
  const script = `for i in $(seq ${lines}); do date +stamp=%s%N; sleep 0.05; done`
  const id = await submit(system, makePlan('line-latency', prefix, 'bench-lines@^1', 1, { script }))
  const samples: number[] = []
  let rest = ''
  for await (const part of tail(system, id)) {
    const now = Date.now()
    const whole = (rest + part).split('\n')
    rest = whole.pop()!
    for (const line of whole) {
      const match = /stamp=(\d+)/.exec(line)
      if (match) samples.push(now - Number(match[1]) / 1e6)
    }
  }
  return samples
}

/** MB/s of `megabytes` of lines printed by one command on each of `nodes` nodes at once, until all of it is stored. */
export async function measureLogRate(system: System, prefix: string, nodes: number, megabytes: number): Promise<number> {
  const script = `yes 'a line of output as a build prints them, neither short nor very long, one after another' | head -c ${megabytes}000000`
  const start = performance.now()
  const id = await submit(system, makePlan('log-rate', prefix, 'bench-lines@^1', 1, { script }))
  let total = 0
  for await (const part of tail(system, id)) total += part.length
  const seconds = (performance.now() - start) / 1000
  if (total < nodes * megabytes * 0.99e6) throw new Error(`read ${total} bytes of ${nodes * megabytes} MB`)
  return total / 1e6 / seconds
}
