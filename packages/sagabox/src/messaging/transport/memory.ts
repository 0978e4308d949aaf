import { queuesOf } from './routing.ts'
import { addressOf, type ForeignExchange, type Topology } from './topology.ts'
import {
  PublishRefused,
  type Delivery,
  type TransportMessage,
  type PublishOutcome,
  type Subscription,
  type Transport
} from './transport.ts'

interface QueuedMessage {
  message: TransportMessage
  redeliveries: number
  /** Called once, when an endpoint has committed it. */
  done(): void
}

/**
 * Carries messages inside one process. It keeps nothing: a message counts as accepted only when
 * every endpoint that takes it has committed, so that until then it stays in its sender's outbox
 * and a crash loses nothing.
 */
export class MemoryTransport implements Transport {
  readonly address = 'loopback://localhost/'
  readonly canPublish = true
  readonly #queues = new Map<string, MemoryQueue>()
  /** exchange -> the queues that it reaches */
  readonly #routes = new Map<string, MemoryQueue[]>()

  /** Exchanges of others: in memory they are there, and what is published to them comes back. */
  readonly #foreign = new Map<string, ForeignExchange>()

  constructor(topology: Topology) {
    for (const { name } of topology.queues) this.#queues.set(name, new MemoryQueue())
    for (const exchange of topology.exchanges)
      this.#routes.set(exchange, this.#reach(topology, exchange))
    for (const foreign of topology.foreign) this.#foreign.set(foreign.exchange, foreign)
  }

  #reach(topology: Topology, exchange: string): MemoryQueue[] {
    return topology.bindings
      .filter(({ source }) => source === exchange)
      .flatMap(({ destination, destinationType }) =>
        destinationType === 'queue'
          ? [this.#queue(destination)]
          : this.#reach(topology, destination)
      )
  }

  #queue(name: string): MemoryQueue {
    const queue = this.#queues.get(name)
    if (!queue) throw new Error(`No endpoint named ${name}: declare it in the topology`)
    return queue
  }

  #matching({ destination, headers }: TransportMessage): MemoryQueue[] | undefined {
    const { exchange, routingKey } = addressOf(destination)
    const foreign = this.#foreign.get(exchange)
    return foreign && queuesOf(foreign, routingKey, headers ?? {}).map((name) => this.#queue(name))
  }

  start(flowing: () => void): void {
    flowing()
  }

  knows(destination: string): boolean {
    return this.#routes.has(destination) || this.#foreign.has(destination)
  }

  publish(message: TransportMessage): Promise<PublishOutcome> {
    const queues = this.#routes.get(message.destination) ?? this.#matching(message)
    if (!queues)
      return Promise.reject(
        new PublishRefused('destination', `there is no exchange ${message.destination}`)
      )
    if (queues.length === 0) return Promise.resolve(message.required ? 'returned' : 'accepted')
    return new Promise((resolve) => {
      let missing = queues.length
      const done = () => {
        if (--missing === 0) resolve('accepted')
      }
      for (const queue of queues) queue.push({ message, redeliveries: message.again ? 1 : 0, done })
    })
  }

  subscribe(endpoint: string, receive: (delivery: Delivery) => void): Subscription {
    return this.#queue(endpoint).subscribe(receive)
  }

  problem(): undefined {}

  /** What is still queued stays in its sender's outbox. */
  async stop(): Promise<void> {
    for (const queue of this.#queues.values()) queue.clear()
  }
}

/** Competing consumers take turns; without one, messages wait. */
class MemoryQueue {
  #waiting: QueuedMessage[] = []
  #consumers: ((delivery: Delivery) => void)[] = []
  #turn = 0

  push(queued: QueuedMessage): void {
    if (this.#consumers.length === 0) this.#waiting.push(queued)
    else this.#deliver(queued)
  }

  subscribe(receive: (delivery: Delivery) => void): Subscription {
    this.#consumers.push(receive)
    for (const queued of this.#waiting.splice(0)) this.#deliver(queued)
    return {
      cancel: async () => {
        this.#consumers = this.#consumers.filter((consumer) => consumer !== receive)
      }
    }
  }

  clear(): void {
    this.#waiting = []
  }

  #deliver(queued: QueuedMessage): void {
    const { message, redeliveries } = queued
    let settled = false
    const settle = (action: () => void) => {
      if (settled) return
      settled = true
      action()
    }
    const receive = this.#consumers[this.#turn++ % this.#consumers.length]!
    // On a later turn of the event loop, as a network would: a publisher never runs a consumer's
    // code.
    setImmediate(receive, {
      payload: message.payload,
      contentType: message.contentType ?? undefined,
      messageId: message.messageId,
      headers: message.headers ?? {},
      redeliveries,
      ack: () => settle(queued.done),
      requeue: () => settle(() => this.push({ ...queued, redeliveries: redeliveries + 1 }))
    } satisfies Delivery)
  }
}
