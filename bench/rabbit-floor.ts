/** Confirmed publishes per second to a quorum queue of a bare RabbitMQ, made for the measurement and stopped after it. */
import { connect } from 'amqplib'
import type { Test } from 'tap'
import { startRabbit } from '../test/rabbitmq.js'

/** Rates with one and with a hundred unconfirmed messages; undefined when RabbitMQ cannot be started here. */
export async function measureRabbitConfirms(count = 20_000): Promise<{ window1: number; window100: number } | undefined> {
  const undo: (() => unknown)[] = []
  try {
    const rabbit = await startRabbit({ teardown: (stop: () => unknown) => undo.unshift(stop), comment: () => undefined } as unknown as Test)
    if (rabbit === undefined) return undefined
    const connection = await connect(rabbit.url, { noDelay: true })
    const channel = await connection.createConfirmChannel()
    await channel.assertQueue('floor', { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    const publish = () => new Promise<void>((resolve, reject) => channel.sendToQueue('floor', Buffer.from('{"v":1,"task":"t-0"}'), { persistent: true }, (error) => (error ? reject(error as Error) : resolve())))
    const window1 = await rate(count / 20, 1, publish)
    const window100 = await rate(count, 100, publish)
    await connection.close()
    return { window1, window100 }
  } catch (error) {
    process.stderr.write(`no RabbitMQ floor: ${String(error)}\n`)
    return undefined
  } finally {
    for (const stop of undo) await stop()
  }
}

async function rate(count: number, window: number, publish: () => Promise<void>): Promise<number> {
  const start = performance.now()
  let next = 0
  const lane = async () => {
    while (next++ < count) await publish()
  }
  await Promise.all(Array.from({ length: window }, lane))
  return (count * 1000) / (performance.now() - start)
}
