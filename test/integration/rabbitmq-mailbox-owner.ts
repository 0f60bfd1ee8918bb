// Child process of rabbitmq-mailbox.test.ts: opens a mailbox, says so, and prints what it gets. argv: URL, prefix, name.
import { openRabbitBroker } from '@lichen/broker'

const [url = '', prefix = '', name = ''] = process.argv.slice(2)
const broker = await openRabbitBroker({ url, prefix })
await broker.openMailbox(name, (message) => process.stdout.write(`${Buffer.from(message.body).toString()}\n`))
process.stdout.write('open\n')
