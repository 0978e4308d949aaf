import { destinationOf } from '../messaging/message/envelope.ts'
import { faultOf, isFault } from '../messaging/message/fault.ts'
import type { Contract } from '../messaging/message/message.ts'
import { errorQueue, skippedQueue } from '../messaging/transport/topology.ts'
import { sentBy, type ServiceDefinition } from './define.ts'

/** What a user of RabbitMQ may do, each a regular expression for names of queues and exchanges. */
export interface BrokerRights {
  configure: string
  write: string
  read: string
}

/** The exchange without a name, by which answers go to the queue of who asked. */
const DEFAULT_EXCHANGE = 'amq.default'
/** The queues in which processes take answers to what they ask: each makes its own. */
const ANSWER_QUEUES = '[A-Za-z0-9]*_node_bus_[0-9a-f]+'

/**
 * The least that services need which declare nothing (`TOPOLOGY=none`): to publish what they send,
 * and to take what is theirs.
 * @param own those that use the user
 * @param system all services
 */
export function brokerRights(
  own: readonly ServiceDefinition[],
  system: readonly ServiceDefinition[]
): BrokerRights {
  const consumed = own.flatMap(({ consumes }) => consumes)
  const queues = own
    .flatMap((service) => service.queues)
    .flatMap(({ name }) => [name, errorQueue(name), skippedQueue(name)])
  const sent = sentBy(own, system)
  const written = [
    ...queues,
    ...sent.map((contract) => contract.foreign?.exchange ?? destinationOf(contract)),
    ...consumed.filter((one) => !isFault(one)).map((contract) => faultOf(contract).exchange),
    ...(consumed.some(isRequest) ? [DEFAULT_EXCHANGE] : [])
  ]
  const asks = sent.some(isRequest) ? [ANSWER_QUEUES] : []
  return {
    configure: anyOf(asks),
    write: anyOf([...written.map(literally), ...asks]),
    read: anyOf([...queues.map(literally), ...asks])
  }
}

function isRequest(contract: Contract): boolean {
  return 'response' in contract && contract.response !== undefined
}

function literally(name: string): string {
  return name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

/** Of none, what RabbitMQ takes for nothing at all. */
function anyOf(names: readonly string[]): string {
  return names.length === 0 ? '^$' : `^(${[...new Set(names)].join('|')})$`
}
