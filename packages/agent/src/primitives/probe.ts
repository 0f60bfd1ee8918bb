/** Waits until something answers; without a deadline to wait for it is a condition. Has no effect, so it is a check alone; in check mode it asks once, and no answer is a difference, not a failure. */
import { connect } from 'node:net'
import type { Clock, CommandSpec } from '@lichen/core'
import { pause } from '../run/deadline.js'
import { type CommandContext, failure, type Primitive } from './primitive.js'

type Spec = CommandSpec<'probe'>
const defaultIntervalMs = 500
const defaultDeadlineMs = 60_000
/** One try: a server that takes longer to answer is not ready. */
const tryMs = 5000
const maxBodyBytes = 1024 * 1024

/** See the file header. */
export const probe: Primitive<'probe'> = {
  async check(spec, context) {
    if ([spec.tcp, spec.http, spec.command].filter((way) => way !== undefined).length !== 1) return failure('COMMAND_BAD_SPEC', 'exactly one of tcp, http and command must be given')
    const { clock } = context.deadline
    const until = clock.elapsed() + (context.mode === 'check' ? 0 : (spec.deadlineMs ?? defaultDeadlineMs))
    for (let tries = 1; ; tries++) {
      const problem = await ask(spec, context)
      if (problem === undefined) return { isThere: true }
      if (context.mode === 'check') return { isThere: false, difference: `${describe(spec)}: ${problem}` }
      if (tries === 1 && spec.deadlineMs !== 0) context.log.say(`waiting for ${describe(spec)}: ${problem}`)
      if (context.deadline.reason || clock.elapsed() >= until) {
        if (spec.deadlineMs === 0) return failure('COMMAND_CONDITION', `${problem}\n(asked once: ${describe(spec)})`)
        return failure('COMMAND_PROBE_DEADLINE', `${describe(spec)} did not answer as asked within ${spec.deadlineMs ?? defaultDeadlineMs} ms (${tries} tries); the last try: ${problem}`)
      }
      await pause(Math.min(spec.intervalMs ?? defaultIntervalMs, Math.max(1, until - clock.elapsed())), context.deadline)
    }
  },
}

function describe(spec: Spec): string {
  if (spec.tcp) return `tcp ${spec.tcp.host}:${spec.tcp.port}`
  return spec.http ? `GET ${spec.http.url}` : `\`${spec.command?.join(' ')}\``
}

/** What is wrong with the answer; undefined when it is as asked. */
async function ask(spec: Spec, context: CommandContext): Promise<string | undefined> {
  if (spec.tcp) return await askTcp(spec.tcp.host, spec.tcp.port)
  if (spec.http) return await askHttp(spec.http, context.deadline.clock)
  const execution = await context.run({ argv: spec.command!, output: spec.prints ? 'log' : 'quiet' })
  if (execution.exitCode === 0) return undefined
  const how = execution.startError ?? (execution.exitCode === undefined ? `ended by ${execution.signal}` : `exit code ${execution.exitCode}`)
  if (execution.tail === '') return how
  // Whoever looks at a node and finds it wanting exits with 1, which says nothing more.
  return spec.deadlineMs === 0 && execution.exitCode === 1 ? execution.tail : `${how}: ${execution.tail}`
}

function askTcp(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: tryMs })
    const end = (problem: string | undefined): void => {
      socket.destroy()
      resolve(problem)
    }
    socket.once('connect', () => end(undefined))
    socket.once('timeout', () => end(`no connection within ${tryMs} ms`))
    socket.once('error', (error) => end(error.message || (error as NodeJS.ErrnoException).code || 'failed'))
  })
}

async function askHttp({ url, codes, bodyIncludes }: NonNullable<Spec['http']>, clock: Clock): Promise<string | undefined> {
  const { get } = url.startsWith('https:') ? await import('node:https') : await import('node:http')
  return await new Promise((resolve) => {
    // The certificate is not what a probe asks for; deployments often have a CA of their own.
    const request = get(url, { timeout: tryMs, rejectUnauthorized: false, agent: false }, (response) => {
      const parts: Buffer[] = []
      let size = 0
      response.on('data', (part: Buffer) => {
        if (size < maxBodyBytes) parts.push(part)
        size += part.length
      })
      response.on('error', (error) => resolve(error.message))
      response.on('end', () => {
        const code = response.statusCode ?? 0
        const isAccepted = codes ? codes.includes(code) : code < 400
        if (!isAccepted) return resolve(`answered ${code}`)
        if (bodyIncludes !== undefined && !Buffer.concat(parts).includes(bodyIncludes)) return resolve(`answered ${code}, but its body does not contain ${JSON.stringify(bodyIncludes)}`)
        resolve(undefined)
      })
    })
    // `timeout` above counts silence only: an answer that drips for ever is no answer either.
    const timer = clock.after(2 * tryMs, () => request.destroy(new Error(`no whole answer within ${2 * tryMs} ms`)))
    request.once('close', () => timer.cancel())
    request.once('timeout', () => request.destroy(new Error(`no answer within ${tryMs} ms`)))
    request.once('error', (error) => resolve(error.message || (error as NodeJS.ErrnoException).code || 'failed'))
  })
}
