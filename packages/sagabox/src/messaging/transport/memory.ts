import { newId } from '../message/id.ts'
import { queuesOf } from './routing.ts'
import { addressOf, type ForeignExchange, type Topology } from './topology.ts'
import {
  PublishRefused,
  queueOf,
  type Answers,
  type Delivery,
  type TransportMessage,
  type PublishOutcome,
  type Subscription,
  type Transport
} from './transport.ts'

/**
 * What a queue holds while its consumers take nothing. All of it is in its senders' hands, and those
 * take no more than twice as much: others would wait for it.
 */
const MOST_WAITING = 2000

interface QueuedMessage {
  message: TransportMessage
  redeliveries: number
  /** By performance.now(). */
  expiresAt: number
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
  /** By the name of the queue. */
  readonly #answers = new Map<string, (delivery: Delivery) => void>()

  /** Exchanges of others: in memory they are there, and what is published to them comes back. */
  readonly #foreign = new Map<string, ForeignExchange>()

  constructor(topology: Topology) {
    for (const { name } of topology.queues) this.#queues.set(name, new MemoryQueue())
    for (const exchange of topology.exchanges)
      this.#routes.set(exchange, [...new Set(this.#reach(topology, exchange))])
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
    const queue = queueOf(message.destination)
    if (queue !== undefined) return Promise.resolve(this.#answer(queue, message))
    const queues = this.#routes.get(message.destination) ?? this.#matching(message)
    if (!queues)
      return Promise.reject(
        new PublishRefused('destination', `there is no exchange ${message.destination}`)
      )
    if (queues.length === 0) return Promise.resolve(message.required ? 'returned' : 'accepted')
    if (queues.some(({ isFull }) => isFull)) return Promise.resolve('refused')
    return new Promise((resolve) => {
      let missing = queues.length
      const done = () => {
        if (--missing === 0) resolve('accepted')
      }
      const expiresAt =
        message.expiresMs === undefined ? Infinity : performance.now() + message.expiresMs
      const redeliveries = message.again ? 1 : 0
      for (const each of queues) each.push({ message, redeliveries, expiresAt, done })
    })
  }

  takeAnswers(receive: (delivery: Delivery) => void): Answers {
    const name = `memory_node_bus_${newId()}`
    this.#answers.set(name, receive)
    return {
      source: name,
      address: `${this.address}${name}?temporary=true`,
      isOpen: true,
      cancel: async () => void this.#answers.delete(name)
    }
  }

  #answer(queue: string, message: TransportMessage): PublishOutcome {
    const receive = this.#answers.get(queue)
    if (!receive) return message.required ? 'returned' : 'accepted'
    const nothing = () => {}
    setImmediate(receive, deliveryOf(message, 0, nothing, nothing))
    return 'accepted'
  }

  subscribe(
    endpoint: string,
    receive: (delivery: Delivery) => void,
    most?: number,
    mayLack = false
  ): Subscription {
    // In memory nobody else declares any.
    if (mayLack && !this.#queues.has(endpoint)) return { cancel: async () => {} }
    return this.#queue(endpoint).subscribe(receive, most)
  }

  depthOf(endpoint: string): Promise<number> {
    return Promise.resolve(this.#queue(endpoint).depth)
  }

  problem(): undefined {}

  /** What is still queued stays in its sender's outbox. */
  async stop(): Promise<void> {
    for (const queue of this.#queues.values()) queue.clear()
  }
}

interface Consumer {
  receive(delivery: Delivery): void
  /** Messages handed out and not settled. */
  most: number
  inHand: number
}

/** Competing consumers take turns; while none has room, messages wait. */
class MemoryQueue {
  #waiting: QueuedMessage[] = []
  #consumers: Consumer[] = []
  #turn = 0

  /** It takes no more: whoever sends must not wait for all of it. */
  get isFull(): boolean {
    return this.#waiting.length >= MOST_WAITING
  }

  /** Messages that wait or are in somebody's hands. */
  get depth(): number {
    return this.#consumers.reduce((sum, { inHand }) => sum + inHand, this.#waiting.length)
  }

  push(queued: QueuedMessage): void {
    const consumer = this.#waiting.length === 0 ? this.#withRoom() : undefined
    if (consumer) this.#deliver(queued, consumer)
    else this.#waiting.push(queued)
  }

  subscribe(receive: (delivery: Delivery) => void, most = Infinity): Subscription {
    const consumer = { receive, most, inHand: 0 }
    this.#consumers.push(consumer)
    this.#flow()
    return {
      cancel: async () => {
        this.#consumers = this.#consumers.filter((other) => other !== consumer)
      }
    }
  }

  clear(): void {
    this.#waiting = []
  }

  #flow(): void {
    while (this.#waiting.length > 0) {
      const consumer = this.#withRoom()
      if (!consumer) return
      const queued = this.#waiting.shift()!
      if (performance.now() > queued.expiresAt) queued.done()
      else this.#deliver(queued, consumer)
    }
  }

  /** The next one whose turn it is. */
  #withRoom(): Consumer | undefined {
    for (let tried = 0; tried < this.#consumers.length; tried++) {
      const consumer = this.#consumers[this.#turn++ % this.#consumers.length]!
      if (consumer.inHand < consumer.most) return consumer
    }
    return undefined
  }

  #deliver(queued: QueuedMessage, consumer: Consumer): void {
    const { message, redeliveries } = queued
    consumer.inHand++
    let settled = false
    const settle = (action: () => void) => {
      if (settled) return
      settled = true
      consumer.inHand--
      action()
      this.#flow()
    }
    const ack = () => settle(queued.done)
    const requeue = () => settle(() => this.push({ ...queued, redeliveries: redeliveries + 1 }))
    // On a later turn of the event loop, as a network would: a publisher never runs a consumer's
    // code.
    setImmediate(consumer.receive, deliveryOf(message, redeliveries, ack, requeue))
  }
}

function deliveryOf(
  { payload, contentType, messageId, headers }: TransportMessage,
  redeliveries: number,
  ack: () => void,
  requeue: () => void
): Delivery {
  return {
    payload,
    contentType: contentType ?? undefined,
    messageId,
    headers: headers ?? {},
    redeliveries,
    ack,
    requeue
  }
}
