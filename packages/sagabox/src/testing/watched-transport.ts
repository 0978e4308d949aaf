import type { Topology } from '../messaging/transport/topology.ts'
import type {
  Delivery,
  TransportMessage,
  PublishOutcome,
  Subscription,
  Transport
} from '../messaging/transport/transport.ts'

/**
 * Stands between a system and its transport: remembers every message that was sent, and knows
 * whether any is still on its way. All endpoints of the topology must be behind it.
 */
export class WatchedTransport implements Transport {
  readonly address: string
  readonly published: TransportMessage[] = []
  readonly #inner: Transport
  readonly #topology: Topology
  #expected = 0
  #handled = 0

  constructor(inner: Transport, topology: Topology) {
    this.#inner = inner
    this.#topology = topology
    this.address = inner.address
  }

  start(flowing: () => void): void {
    this.#inner.start(flowing)
  }

  get canPublish(): boolean {
    return this.#inner.canPublish
  }

  get keeps() {
    return this.#inner.keeps
  }

  get awaited() {
    return this.#inner.awaited
  }

  knows(destination: string): boolean {
    return this.#inner.knows(destination)
  }

  problem(): string | undefined {
    return this.#inner.problem()
  }

  async depthOf(endpoint: string): Promise<number | undefined> {
    return this.#inner.depthOf?.(endpoint)
  }

  stop(): Promise<void> {
    return this.#inner.stop()
  }

  publish(message: TransportMessage): Promise<PublishOutcome> {
    this.published.push(message)
    return this.send(message)
  }

  /** Sends a message that no outbox knows. */
  send(message: TransportMessage): Promise<PublishOutcome> {
    this.#expected += this.#reach(message.destination)
    return this.#inner.publish(message)
  }

  subscribe(endpoint: string, receive: (delivery: Delivery) => void, most?: number): Subscription {
    const counted = (delivery: Delivery) =>
      receive({
        ...delivery,
        ack: () => {
          this.#handled++
          delivery.ack()
        }
      })
    return this.#inner.subscribe(endpoint, counted, most)
  }

  get takeAnswers() {
    return this.#inner.takeAnswers?.bind(this.#inner)
  }

  /** How many messages an endpoint has yet to handle. */
  get onTheWay(): number {
    return this.#expected - this.#handled
  }

  /** How many queues a message to this exchange arrives in. */
  #reach(exchange: string): number {
    return this.#topology.bindings
      .filter(({ source }) => source === exchange)
      .reduce(
        (count, { destination, destinationType }) =>
          count + (destinationType === 'queue' ? 1 : this.#reach(destination)),
        0
      )
  }
}
