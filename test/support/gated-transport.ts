import type { Topology } from '../../src/messaging/topology.ts'
import type { Delivery, Parcel, PublishOutcome, Subscription, Transport } from '../../src/messaging/transport.ts'
import { until } from './until.ts'

interface Hold {
  endpoint: string
  type: string
  held: (() => void)[]
}

/**
 * Stands between a system and its transport: remembers every message, can hold some back at an endpoint and send others
 * again, and knows when nothing is on its way any more.
 */
export class GatedTransport implements Transport {
  readonly address: string
  readonly published: Parcel[] = []
  readonly #inner: Transport
  readonly #topology: Topology
  #holds: Hold[] = []
  #expected = 0
  #settled = 0

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

  problem(): string | undefined {
    return this.#inner.problem()
  }

  stop(): Promise<void> {
    for (const { endpoint, type } of this.#holds) this.release(endpoint, type)
    return this.#inner.stop()
  }

  publish(parcel: Parcel): Promise<PublishOutcome> {
    this.published.push(parcel)
    return this.send(parcel)
  }

  /** Sends a message that no outbox knows. */
  send(parcel: Parcel): Promise<PublishOutcome> {
    this.#expected += this.#reach(parcel.destination)
    return this.#inner.publish(parcel)
  }

  subscribe(endpoint: string, receive: (delivery: Delivery) => void): Subscription {
    return this.#inner.subscribe(endpoint, (delivery) => {
      const type = typeOf(delivery.payload.toString())
      const observed = this.#observe(delivery)
      const hold = this.#holds.find((candidate) => candidate.endpoint === endpoint && candidate.type === type)
      if (hold) hold.held.push(() => receive(observed))
      else receive(observed)
    })
  }

  /** Keeps messages of a type from an endpoint until they are released. */
  hold(endpoint: string, type: string): void {
    this.#holds.push({ endpoint, type, held: [] })
  }

  release(endpoint: string, type: string): void {
    const released = this.#holds.filter((hold) => hold.endpoint === endpoint && hold.type === type)
    this.#holds = this.#holds.filter((hold) => !released.includes(hold))
    for (const { held } of released) for (const deliver of held) deliver()
  }

  /** Waits until every message sent has been handled by every endpoint that takes it. */
  async quiet(outboxesAreEmpty: () => Promise<boolean>): Promise<void> {
    await until('no message is on its way', async () => {
      const before = this.published.length
      return this.#settled === this.#expected && (await outboxesAreEmpty()) && this.#settled === this.#expected && this.published.length === before
    })
  }

  #observe(delivery: Delivery): Delivery {
    return {
      ...delivery,
      ack: () => {
        this.#settled++
        delivery.ack()
      }
    }
  }

  /** How many queues a message to this exchange arrives in. */
  #reach(exchange: string): number {
    return this.#topology.bindings
      .filter(({ source }) => source === exchange)
      .reduce((count, { destination, destinationType }) => count + (destinationType === 'queue' ? 1 : this.#reach(destination)), 0)
  }
}

/** `OrderCreatedEvent` of an envelope. */
export function typeOf(payload: string): string {
  return (JSON.parse(payload) as { messageType: string[] }).messageType[0]!.split(':').at(-1)!
}
