import { destinationOf } from './envelope.ts'
import { ANY_FAULT, faultOf, isFault } from './fault.ts'
import type { Contract } from './message.ts'

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
 * It is derived for all endpoints known, also those of other processes: a publisher that starts before its
 * consumer then finds the consumer's queue, and an event published to two never-yet-started consumers reaches both.
 */
export function topologyOf(endpoints: readonly EndpointTopology[], contracts: readonly Contract[]): Topology {
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
  for (const contract of new Set(endpoints.flatMap(({ consumes }) => consumes))) {
    if (isFault(contract)) continue
    const { exchange } = faultOf(contract)
    exchanges.add(exchange)
    exchanges.add(ANY_FAULT.exchange)
    bindings.push({ source: exchange, destination: ANY_FAULT.exchange, destinationType: 'exchange' })
  }
  return { exchanges: [...exchanges], queues, bindings }
}
