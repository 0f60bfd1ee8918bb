/** `POST /v1/tasks` at a fixed rate from another process's point of view: open loop, so that a slow answer delays no other request. */
import { request, Agent } from 'node:http'
import { makePlan, type System } from './system.js'

function post(url: URL, agent: Agent, token: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } }, (reply) => {
      reply.resume().on('end', () => resolve(reply.statusCode!))
    })
    sent.on('error', reject).end(body)
  })
}

// A server that has just started compiles its code while it answers: those answers are not counted.
const warmUpS = 3

/** Milliseconds of each answer, at `perSecond` for `seconds` after a warm-up at the same rate. Every answer must be 202: the tasks are real and run. */
export async function measureSubmit(system: System, prefix: string, perSecond: number, seconds: number): Promise<number[]> {
  const url = new URL('/v1/tasks', system.apiUrl)
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const samples: number[] = []
  const pending: Promise<void>[] = []
  const start = performance.now()
  for (let i = 0; i < perSecond * (warmUpS + seconds); i++) {
    const due = start + (i * 1000) / perSecond
    const wait = due - performance.now()
    if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait))
    // From when it was due, not from when it was sent: waiting behind a slow answer counts (coordinated omission).
    // A deployment for each: tasks of one deployment would wait for each other.
    const body = JSON.stringify({ kind: 'apply', plan: makePlan(`submit-${i}`, prefix, 'bench-note@^1', 1) })
    pending.push(post(url, agent, system.token, body).then((code) => {
      if (code !== 202) throw new Error(`POST /v1/tasks answered ${code}`)
      if (i >= perSecond * warmUpS) samples.push(performance.now() - due)
    }))
  }
  await Promise.all(pending)
  agent.destroy()
  return samples
}
