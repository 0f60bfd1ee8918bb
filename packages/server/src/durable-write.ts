/**
 * The names of the server's durable writes, for tests that kill it at each in turn: every verb of the store that writes, every message to and from the broker. A hook is
 * called with `NAME:before` right before the adapter is called and with `NAME:after` when it is done, before who called it learns of that.
 */
import type { Broker, Mailbox, Verdict } from '@lichen/broker'
import type { Store } from '@lichen/store'

const storeVerbs = {
  tasks: ['create', 'append', 'claim', 'renew', 'release'],
  outbox: ['deleteOutbox'],
  nodes: ['putJoinToken', 'deleteJoinToken', 'admitNode', 'updateNodes', 'setNode', 'deleteNode'],
  engines: ['registerEngine', 'renewEngine', 'removeEngine'],
  logs: ['appendLog'],
  secrets: ['putSecretsIfAbsent', 'putSecret', 'putApiToken', 'appendAudit'],
} as const satisfies { readonly [port in keyof Store]?: readonly (keyof Store[port])[] }

/** Every name that the hook is called with, without `:before` and `:after`. `broker.ack`: of a message, whatever the verdict. */
export const durableWrites = [
  ...Object.values(storeVerbs).flatMap((verbs) => verbs.map((verb) => `store.${verb}` as const)),
  'broker.publish',
  'broker.ack',
  'mailbox.send',
  'mailbox.broadcast',
] as const

/** See the file header. */
export type DurableWrite = (typeof durableWrites)[number]

/** Called at durable writes; may end the process. */
export type OnWrite = (name: `${DurableWrite}:${'before' | 'after'}`) => void

/** The same port; these verbs of it call the hook. Methods keep their `this`: adapters have private fields. */
function hookPort<P extends object>(port: P, verbs: readonly string[], nameOf: (verb: string) => DurableWrite, onWrite: OnWrite): P {
  return new Proxy(port, {
    get(target, verb) {
      const value: unknown = Reflect.get(target, verb, target)
      if (typeof value !== 'function') return value
      if (typeof verb !== 'string' || !verbs.includes(verb)) return value.bind(target) as unknown
      return async (...args: readonly unknown[]): Promise<unknown> => {
        onWrite(`${nameOf(verb)}:before`)
        const answer: unknown = await value.apply(target, args)
        onWrite(`${nameOf(verb)}:after`)
        return answer
      }
    },
  })
}

/** The same store; its verbs that write call the hook. */
export function hookStore(store: Store, onWrite: OnWrite): Store {
  const ports = Object.fromEntries(Object.entries(storeVerbs).map(([port, verbs]) => [port, hookPort(store[port as keyof typeof storeVerbs], verbs, (verb) => `store.${verb}` as DurableWrite, onWrite)]))
  return new Proxy(store, {
    get(target, key) {
      if (typeof key === 'string' && key in ports) return ports[key]
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** The same broker; what it publishes, acknowledges and posts calls the hook. An acknowledgement is done when the adapter has had a turn of the event loop for it. */
export function hookBroker(broker: Broker, onWrite: OnWrite): Broker {
  const consume: Broker['consume'] = (queue, prefetch, receive) =>
    broker.consume(queue, prefetch, async (message): Promise<Verdict> => {
      const verdict = await receive(message)
      onWrite('broker.ack:before')
      setImmediate(() => setImmediate(() => onWrite('broker.ack:after')))
      return verdict
    })
  const openMailbox: Broker['openMailbox'] = async (...args) => hookPort<Mailbox>(await broker.openMailbox(...args), ['send', 'broadcast'], (verb) => `mailbox.${verb}` as DurableWrite, onWrite)
  const hooked = hookPort(broker, ['publish'], (verb) => `broker.${verb}` as DurableWrite, onWrite)
  return new Proxy(hooked, { get: (target, key) => (key === 'consume' ? consume : key === 'openMailbox' ? openMailbox : (Reflect.get(target, key, target) as unknown)) })
}

/**
 * A hook that kills this process, as nothing else can be told from a crash, at the write that the text names: `NAME:before[:N]` or `NAME:after[:N]`, at the Nth such write.
 * Undefined when there is no text, or no such name in it.
 */
export function parseCrashPoint(text: string, kill: () => void): OnWrite | undefined {
  const [, name, count = '1'] = /^(.+:(?:before|after))(?::(\d+))?$/.exec(text) ?? []
  if (name === undefined || !durableWrites.some((known) => name.startsWith(`${known}:`))) return undefined
  let left = Number(count)
  return (write) => {
    if (write === name && --left === 0) kill()
  }
}
