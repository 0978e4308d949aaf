import { destinationOf } from './envelope.ts'
import type { Contract } from './message.ts'

export interface EndpointTopology {
  name: string
  /** What its handlers take. */
  consumes: readonly Contract[]
}

export interface Topology {
  /** Durable fanout exchanges: one a message type, one an endpoint, one for each endpoint's dead letters. */
  exchanges: string[]
  /** Quorum queues. */
  queues: { name: string; deadLetterExchange?: string }[]
  bindings: { source: string; destination: string; destinationType: 'exchange' | 'queue' }[]
}

/** Where the broker puts what an endpoint could not handle, named as MassTransit names it. */
export function errorQueue(endpoint: string): string {
  return `${endpoint}_error`
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
    const errors = errorQueue(name)
    exchanges.add(name)
    exchanges.add(errors)
    queues.push({ name, deadLetterExchange: errors }, { name: errors })
    bindings.push({ source: name, destination: name, destinationType: 'queue' }, { source: errors, destination: errors, destinationType: 'queue' })
    for (const contract of consumes) {
      exchanges.add(contract.exchange)
      bindings.push({ source: contract.exchange, destination: name, destinationType: 'exchange' })
    }
  }
  return { exchanges: [...exchanges], queues, bindings }
}
