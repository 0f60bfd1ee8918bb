/**
 * Child program: many simulated agents in one process, cheap enough that they are not what is measured. Real: the join with a certificate request and a key of its own for each, the stream over
 * mutual TLS, its client, link, heartbeats and backoff (the agent's own code), and every message. Not there: the journal, the commands, and the verification of the order's signature, which costs
 * more than all else that is done here. An order is answered at once, or after N seconds when its command is `sleep N`; results are remembered until they are acknowledged.
 * Prints JSON lines: `{joined, ms}` once, `{connected}` whenever all have a stream, `{lost}` when the first of them loses it.
 */
import { randomUUID } from 'node:crypto'
import { type AttemptResult, clockOf, type Command } from '@lichen/core'
import { agentVersion, type Identity, readFacts } from '@lichen/agent'
import { type AttemptKey, attemptKeyText, decodeOrder, encodeResult, type EngineMessage, OrderMode, type ResultReport, type SignedOrder } from '@lichen/protocol'
import { makeKeyAndRequest } from '../packages/agent/src/identity/certificate-request.js'
import { join } from '../packages/agent/src/identity/join.js'
import { openGrpcTransport } from '../packages/agent/src/link/grpc-transport.js'
import { Link } from '../packages/agent/src/link/link.js'

const [gateway, token, from, to, prefix] = process.argv.slice(2) as [string, string, string, string, string]
const clock = clockOf(globalThis)
const quiet = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const transport = openGrpcTransport(clock, makeKeyAndRequest)
const facts = readFacts('127.0.0.1')
const factsText = JSON.stringify(facts)
const names = Array.from({ length: Number(to) - Number(from) }, (_, offset) => `${prefix}${Number(from) + offset}`)
// Enough to keep the gateway busy; more of them at once only wait in its queues.
const joinsAtOnce = 32

const say = (line: object): void => console.log(JSON.stringify(line))
const connected = new Set<string>()

function buildResult(mode: OrderMode, commands: readonly Command[], startedAt: number): AttemptResult {
  const changed = mode === OrderMode.DO
  return { outcome: 'succeeded', changed, commands: commands.map(({ name, kind }) => ({ name, kind, outcome: 'succeeded', changed, durationMs: 0 })), outputs: {}, startedAt, endedAt: Date.now() }
}

/** Seconds that the commands would take: only `sleep N` takes any. */
const durationOf = (commands: readonly Command[]): number => commands.reduce((sum, command) => sum + Number((command.kind === 'run' && /^sleep ([\d.]+)$/.exec(command.spec.shell ?? '')?.[1]) || 0), 0)

/** One agent that has joined; its stream is being opened. */
function startAgent(identity: Identity): Link {
  const { nodeId } = identity
  const running = new Map<string, AttemptKey>()
  const results = new Map<string, ResultReport>()
  const instance = randomUUID()
  const link = new Link(
    {
      listGateways: () => [gateway],
      openStream: (where, events) => transport.openStream(where, identity, {
        ...events,
        onEnd(reason) {
          if (connected.size === names.length) say({ lost: true })
          connected.delete(nodeId)
          events.onEnd(reason)
        },
      }),
      buildHello: () => ({ agentVersion, bootId: facts.bootId, facts: factsText, running: [...running.values()], instance }),
      buildHeartbeat: () => '',
      onWelcome() {
        connected.add(nodeId)
        if (connected.size === names.length) say({ connected: connected.size })
        for (const report of results.values()) link.send({ message: { $case: 'result', value: report } })
      },
      onMessage: receive,
      onWritable: () => undefined,
    },
    { clock, random: Math.random, log: quiet },
  )

  function receive({ message }: EngineMessage): void {
    if (message?.$case === 'order') receiveOrder(message.value)
    else if (message?.$case === 'resultAck' && message.value.key) results.delete(attemptKeyText(message.value.key))
  }

  function receiveOrder(signed: SignedOrder): void {
    const { key, mode, epoch, commands: bytes } = decodeOrder(signed.order)
    if (key === undefined) return
    const keyText = attemptKeyText(key)
    const known = results.get(keyText)
    if (known) return link.send({ message: { $case: 'result', value: known } })
    link.send({ message: { $case: 'accepted', value: { key } } })
    if (running.has(keyText)) return
    const commands = JSON.parse(bytes.toString('utf8')) as Command[]
    const startedAt = Date.now()
    const end = (): void => {
      running.delete(keyText)
      const report: ResultReport = { key, result: encodeResult(buildResult(mode, commands, startedAt)), secretOutputs: {}, epoch }
      results.set(keyText, report)
      link.send({ message: { $case: 'result', value: report } })
    }
    const seconds = mode === OrderMode.DO ? durationOf(commands) : 0
    if (seconds === 0) return end()
    running.set(keyText, key)
    clock.after(seconds * 1000, end)
  }

  link.start()
  return link
}

const startedAt = performance.now()
const waiting = [...names]
const links: Link[] = []
let joinMs = 0

async function joinNext(): Promise<void> {
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
    const identity = await join({ gateway, token, name, labels: { bench: prefix }, agentVersion, makeKeyAndRequest, clock })
    links.push(startAgent(identity))
  }
}

await Promise.all(Array.from({ length: joinsAtOnce }, joinNext))
joinMs = performance.now() - startedAt
say({ joined: names.length, ms: joinMs })
process.once('SIGTERM', () => process.exit(0))
