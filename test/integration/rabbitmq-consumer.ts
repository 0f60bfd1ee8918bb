// Child process of rabbitmq.test.ts: takes a message, says its id, and never acks. argv: URL, prefix.
import { openRabbitBroker } from '@lichen/broker'

const [url = '', prefix = ''] = process.argv.slice(2)
const broker = await openRabbitBroker({ url, prefix })
await broker.consume('tasks', 1, async (message) => {
  process.stdout.write(`${message.id}\n`)
  return new Promise(() => undefined)
})
