import { destinationOf } from '../message/envelope.ts'
import { ANY_FAULT, faultOf, isFault } from '../message/fault.ts'
import { InvalidContract } from '../message/contract-rules.ts'
import type { Contract, ExchangeType, Foreign } from '../message/message.ts'

/** A queue, and what comes by it. */
export interface EndpointTopology {
  name: string
  /** What its handlers take. */
  consumes: readonly Contract[]
}

/** What a process declares at the broker, or in memory: see systemTopology. */
export interface Topology {
  /** Durable fanout exchanges: one a message type and one for its faults, one a queue. */
  exchanges: string[]
  /** Quorum queues. */
  queues: { name: string; deadLetterExchange?: string }[]
  bindings: { source: string; destination: string; destinationType: 'exchange' | 'queue' }[]
  /** Endpoints that others declare, as far as they take what is sent here. */
  elsewhere: EndpointElsewhere[]
  /** Exchanges of others, with what is bound to them here: never declared. */
  foreign: ForeignExchange[]
}

/** An exchange of others, and what is bound to it here. */
export interface ForeignExchange {
  exchange: string
  type: ExchangeType
  bindings: ForeignBinding[]
}

/** A queue of ours at an exchange of others. */
export interface ForeignBinding {
  queue: string
  /** What comes by it. */
  contract: string
  key: string
  /** Of an exchange of type headers. */
  headers: Readonly<Record<string, string | number | boolean>>
}

/** An endpoint that another process declares. */
export interface EndpointElsewhere {
  endpoint: string
  /**
   * The exchanges that it is sent to by: those of the event types it takes, its own when it takes
   * commands.
   */
  takes: string[]
}

/** Where messages of a foreign contract are sent to: its exchange, and the key that they have. */
export interface ForeignAddress {
  exchange: string
  routingKey: string
}

/**
 * A destination as the outbox has it: an exchange, or of others `exchange#routing key`, so that what
 * one key's queues do not take does not keep back what goes by another.
 */
export function foreignDestination({ exchange, routingKey }: ForeignAddress): string {
  return `${exchange}#${routingKey}`
}

/** Our own exchanges have no # in their names. */
export function addressOf(destination: string): ForeignAddress {
  const at = destination.indexOf('#')
  if (at === -1) return { exchange: destination, routingKey: '' }
  return { exchange: destination.slice(0, at), routingKey: destination.slice(at + 1) }
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
  const foreign = new Map<string, ForeignExchange>()
  const based = new Set<Contract>()
  // As MassTransit does: the exchange of a type is bound to those of its bases.
  function bindBases(contract: Contract): void {
    if (based.has(contract)) return
    based.add(contract)
    for (const base of contract.also ?? []) {
      exchanges.add(base.exchange)
      bindings.push({
        source: contract.exchange,
        destination: base.exchange,
        destinationType: 'exchange'
      })
      bindBases(base)
    }
  }
  for (const contract of contracts) {
    if (contract.foreign) {
      foreignOf(foreign, contract.foreign)
      continue
    }
    exchanges.add(contract.exchange)
    exchanges.add(destinationOf(contract))
    bindBases(contract)
  }
  for (const { name, consumes } of endpoints) {
    const [errors, skipped] = [errorQueue(name), skippedQueue(name)]
    queues.push({ name, deadLetterExchange: errors }, { name: errors }, { name: skipped })
    for (const queue of [name, errors, skipped]) {
      exchanges.add(queue)
      bindings.push({ source: queue, destination: queue, destinationType: 'queue' })
    }
    for (const contract of consumes) {
      if (contract.foreign) {
        const { key, headers = {} } = contract.foreign
        const binding = { queue: name, contract: contract.name, key, headers }
        foreignOf(foreign, contract.foreign).bindings.push(binding)
        continue
      }
      exchanges.add(contract.exchange)
      bindings.push({ source: contract.exchange, destination: name, destinationType: 'exchange' })
      bindBases(contract)
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
  const takes = new Map<string, Set<string>>()
  const wait = (endpoint: string, contract: Contract) => {
    if (!takes.has(endpoint)) takes.set(endpoint, new Set())
    takes.get(endpoint)!.add(destinationOf(contract))
  }
  for (const { name, consumes } of others)
    for (const contract of consumes)
      for (const one of sent) if (!one.foreign && isA(one, contract)) wait(name, one)
  for (const contract of contracts)
    for (const endpoint of contract.takenBy ?? [])
      if (endpoints.every(({ name }) => name !== endpoint)) wait(endpoint, contract)
  const elsewhere = [...takes].map(([endpoint, some]) => ({ endpoint, takes: [...some] }))
  return {
    exchanges: [...exchanges],
    queues,
    bindings,
    elsewhere,
    foreign: [...foreign.values()]
  }
}

/** Whether who takes the second gets what is sent as the first. */
function isA(sent: Contract, taken: Contract): boolean {
  return sent === taken || (sent.also?.some((base) => isA(base, taken)) ?? false)
}

/** @throws InvalidContract when two contracts call one exchange differently */
function foreignOf(
  known: Map<string, ForeignExchange>,
  { exchange, type }: Foreign
): ForeignExchange {
  let found = known.get(exchange)
  if (!found) known.set(exchange, (found = { exchange, type, bindings: [] }))
  if (found.type !== type)
    throw new InvalidContract(
      `The exchange ${exchange} is of type ${found.type} in one contract, and of type ${type} in another`
    )
  return found
}
