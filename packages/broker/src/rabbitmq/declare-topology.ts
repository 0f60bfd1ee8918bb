/** Makes the topology on the broker, or finds it there. */
import type { ChannelModel } from 'amqplib'
import type { BrokerLog, Topology } from '../topology.js'

const isInequivalent = (error: unknown): boolean => (error as { code?: unknown }).code === 406

/** Declares one queue. One that exists with other arguments (made by an older Lichen, changed by an operator) is used as it is. */
async function declareQueue(connection: ChannelModel, queue: string, argumentsOfQueue: Readonly<Record<string, unknown>>, log: BrokerLog): Promise<void> {
  // An own channel, because a refused declaration closes it.
  const channel = await connection.createChannel()
  channel.on('error', () => undefined)
  try {
    await channel.assertQueue(queue, { durable: true, arguments: argumentsOfQueue })
    await channel.close()
  } catch (error) {
    if (!isInequivalent(error)) throw error
    log.warn({ err: error, queue }, 'the queue exists with other arguments and is used as it is; delete it while it is empty to have it made anew')
  }
}

/** Makes exchange, queues and bindings; asking again changes nothing. Rejects with the library's error. */
export async function declareTopology(connection: ChannelModel, topology: Topology, log: BrokerLog): Promise<void> {
  for (const { queue, arguments: argumentsOfQueue } of topology.queues) await declareQueue(connection, queue, argumentsOfQueue, log)
  await declareQueue(connection, topology.deadQueue, topology.deadArguments, log)
  const channel = await connection.createChannel()
  channel.on('error', () => undefined)
  await channel.assertExchange(topology.exchange, 'direct', { durable: true })
  for (const { key, queue } of topology.queues) await channel.bindQueue(queue, topology.exchange, key)
  await channel.bindQueue(topology.deadQueue, topology.exchange, topology.deadKey)
  await channel.close()
}
