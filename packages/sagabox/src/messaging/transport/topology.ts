import { destinationOf } from '../message/envelope.ts'
import { ANY_FAULT, faultOf, isFault } from '../message/fault.ts'
import type { Contract } from '../message/message.ts'

export interface EndpointTopology {
  name: string
  /** What its handlers take. */
  consumes: readonly Contract[]
}

export interface Topology {
  /** Durable fanout exchanges: one a message type and one for its faults, one a queue. */
  exchanges: string[]
  /** Quorum queues. */
  queues: { name: string; deadLetterExchange?: string }[]
  bindings: { source: string; destination: string; destinationType: 'exchange' | 'queue' }[]
  /** Endpoints of the same system that others declare, as far as they take what is sent here. */
  elsewhere: EndpointElsewhere[]
}

export interface EndpointElsewhere {
  endpoint: string
  /**
   * The exchanges that it is sent to by: those of the event types it takes, its own when it takes
   * commands.
   */
  takes: string[]
}

/** Where what an endpoint could not handle goes, named as MassTransit names it. */
export function errorQueue(endpoint: string): string {
  return `${endpoint}_error`
}

/** Where what no handler of an endpoint takes goes. */
export function skippedQueue(endpoint: string): string {
  return `${endpoint}_skipped`
}

/**
 * MassTransit's topology: type exchange -> endpoint exchange -> queue.
 * @param endpoints those to declare, with their queues
 * @param contracts what is sent
 * @param others endpoints of the same system that are not declared here, because another process
 * does, in its own way
 */
export function topologyOf(
  endpoints: readonly EndpointTopology[],
  contracts: readonly Contract[],
  others: readonly EndpointTopology[] = []
): Topology {
  const exchanges = new Set<string>()
  const queues: Topology['queues'] = []
  const bindings: Topology['bindings'] = []
  for (const contract of contracts) {
    exchanges.add(contract.exchange)
    exchanges.add(destinationOf(contract))
  }
  for (const { name, consumes } of endpoints) {
    const [errors, skipped] = [errorQueue(name), skippedQueue(name)]
    queues.push({ name, deadLetterExchange: errors }, { name: errors }, { name: skipped })
    for (const queue of [name, errors, skipped]) {
      exchanges.add(queue)
      bindings.push({ source: queue, destination: queue, destinationType: 'queue' })
    }
    for (const contract of consumes) {
      exchanges.add(contract.exchange)
      bindings.push({ source: contract.exchange, destination: name, destinationType: 'exchange' })
    }
  }
  const taken = new Set(endpoints.flatMap(({ consumes }) => consumes))
  const faults = [...taken].filter((contract) => !isFault(contract)).map(faultOf)
  for (const { exchange } of faults) {
    exchanges.add(exchange)
    exchanges.add(ANY_FAULT.exchange)
    bindings.push({
      source: exchange,
      destination: ANY_FAULT.exchange,
      destinationType: 'exchange'
    })
  }
  const sent = new Set([...contracts, ...faults])
  const elsewhere = others.map(({ name, consumes }) => {
    const destinations = consumes.filter((contract) => sent.has(contract)).map(destinationOf)
    return { endpoint: name, takes: [...new Set(destinations)] }
  })
  const needed = elsewhere.filter(({ takes }) => takes.length > 0)
  return { exchanges: [...exchanges], queues, bindings, elsewhere: needed }
}
