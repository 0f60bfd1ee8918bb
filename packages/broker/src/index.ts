export * from './broker.js'
export { openEmbeddedBroker, type EmbeddedBrokerOptions } from './embedded/embedded-broker.js'
export type { BrokerLog } from './topology.js'
export { openRabbitBroker, type RabbitBrokerOptions } from './rabbitmq/rabbit-broker.js'
