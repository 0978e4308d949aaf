import type { Handler } from '../messaging/endpoint/handler.ts'
import type { Contract } from '../messaging/message/message.ts'
import type { EndpointTopology } from '../messaging/transport/topology.ts'

/** `OrderPlaced` -> `order-placed` */
function kebab(name: string): string {
  return name.replaceAll(/(?<=[a-z0-9])(?=[A-Z])|[_+]/g, '-').toLowerCase()
}

/**
 * By which queue a service takes each contract: the one that is said, a command's own, one of its
 * own for what has no envelope, or the service's.
 * @param named what comes by a queue of another name
 * @throws what `refuse` throws
 */
export function queuesOf(
  service: string,
  consumes: readonly Contract[],
  named: Readonly<Record<string, readonly Contract[]>>,
  refuse: (what: string) => never
): EndpointTopology[] {
  const queues = new Map<string, Contract[]>()
  const chosen = new Map<Contract, string>()
  for (const [queue, contracts] of Object.entries(named))
    for (const contract of contracts) {
      if (!consumes.includes(contract))
        refuse(`its queue ${queue} names ${contract.name}, which it has no handler for`)
      if (chosen.has(contract)) refuse(`${contract.name} is in two of its queues; expected one`)
      if (contract.kind === 'command' && queue !== (contract.queue ?? contract.owner))
        refuse(
          `${contract.name} goes to ${contract.queue ?? contract.owner}, and not to ${queue}: say so at the contract, by which its senders go, too`
        )
      chosen.set(contract, queue)
    }
  for (const contract of consumes) {
    const queue = chosen.get(contract) ?? queueOf(service, contract)
    queues.set(queue, [...(queues.get(queue) ?? []), contract])
  }
  for (const [queue, contracts] of queues) {
    const raw = contracts.find((contract) => contract.foreign)
    if (raw && contracts.length > 1)
      refuse(
        `${raw.name} has no envelope to be told by, and its queue ${queue} takes others, too; expected a queue of its own`
      )
  }
  if (queues.size === 0) queues.set(service, [])
  return [...queues].map(([name, contracts]) => ({ name, consumes: contracts }))
}

function queueOf(service: string, contract: Contract): string {
  if (contract.foreign) return `${service}-${kebab(contract.name)}`
  return contract.kind === 'command' ? (contract.queue ?? service) : service
}

/** The handlers of a queue, as far as they take what comes by it. */
export function handlersFor(
  { consumes }: EndpointTopology,
  handlers: readonly Handler[]
): Handler[] {
  return handlers.flatMap((handler) => {
    const contracts = handler.contracts.filter((contract) => consumes.includes(contract))
    if (contracts.length === 0) return []
    if (contracts.length === handler.contracts.length) return [handler]
    return [
      {
        contracts,
        handle: (messages, tx) => handler.handle(messages, tx),
        committed: (messages) => handler.committed?.(messages),
        retry: handler.retry
      }
    ]
  })
}
