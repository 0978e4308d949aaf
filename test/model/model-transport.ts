import type { MemoryTransport } from '../../src/messaging/memory-transport.ts'
import type { Delivery, Parcel, PublishOutcome, Subscription, Transport } from '../../src/messaging/transport.ts'
import type { Route } from './case.ts'

interface Seen {
  type: string
  orderId: string | undefined
}

/**
 * What one process has of the bus: it holds back, and loses acknowledgements of, the messages of single orders, and forgets all it
 * has in hand when the process dies.
 */
export class ModelTransport implements Transport {
  readonly address: string
  readonly canPublish = true
  readonly #inner: MemoryTransport
  readonly #journal: Journal
  readonly #holds = new Map<string, (() => void)[]>()
  readonly #lost = new Set<string>()
  readonly #died: Promise<never>
  #dead = false
  #kill!: (error: Error) => void

  constructor(inner: MemoryTransport, journal: Journal) {
    this.#inner = inner
    this.#journal = journal
    this.address = inner.address
    this.#died = new Promise((_, reject) => (this.#kill = reject))
    this.#died.catch(() => {})
  }

  start(flowing: () => void): void {
    this.#inner.start(flowing)
  }

  problem(): undefined {}

  stop(): Promise<void> {
    return this.#inner.stop()
  }

  publish(parcel: Parcel): Promise<PublishOutcome> {
    this.#journal.sent(parcel)
    return this.#dead ? this.#died : Promise.race([this.#inner.publish(parcel), this.#died])
  }

  /** Sends a message that no outbox knows; resolves when it was handled, or lost with the process. */
  async send(parcel: Parcel): Promise<void> {
    await Promise.race([this.#inner.publish(parcel), this.#died]).catch(() => {})
  }

  subscribe(endpoint: string, receive: (delivery: Delivery) => void): Subscription {
    const deliver = (delivery: Delivery): void => {
      const { orderId, type } = look(delivery.payload)
      const key = keyOf(orderId, [endpoint, type])
      if (!this.#lost.delete(key)) return receive(delivery)
      receive({ ...delivery, ack: () => deliver({ ...delivery, redeliveries: delivery.redeliveries + 1 }) })
    }
    return this.#inner.subscribe(endpoint, (delivery) => {
      const { orderId, type } = look(delivery.payload)
      const held = this.#holds.get(keyOf(orderId, [endpoint, type]))
      if (held) held.push(() => deliver(delivery))
      else deliver(delivery)
    })
  }

  hold(orderId: string, route: Route): void {
    const key = keyOf(orderId, route)
    if (!this.#holds.has(key)) this.#holds.set(key, [])
  }

  release(orderId: string, route: Route): void {
    const key = keyOf(orderId, route)
    const held = this.#holds.get(key) ?? []
    this.#holds.delete(key)
    for (const deliver of held) deliver()
  }

  loseAck(orderId: string, route: Route): void {
    this.#lost.add(keyOf(orderId, route))
  }

  /** Releases all, and forgets what was to be lost. */
  calm(orderIds: readonly string[]): void {
    for (const key of [...this.#holds.keys()]) {
      const [orderId, endpoint, type] = key.split(' ')
      if (orderIds.includes(orderId!)) this.release(orderId!, [endpoint, type] as unknown as Route)
    }
    for (const key of this.#lost) if (orderIds.includes(key.split(' ')[0]!)) this.#lost.delete(key)
  }

  /** How many messages are kept from their endpoints. */
  heldOf(orderIds: readonly string[]): number {
    return [...this.#holds].filter(([key]) => orderIds.includes(key.split(' ')[0]!)).reduce((sum, [, held]) => sum + held.length, 0)
  }

  /** Nothing that is under way is acknowledged any more: whatever was not committed is to be done again. */
  die(): void {
    this.#dead = true
    this.#kill(new Error('The process died'))
  }
}

/** All messages that the services have sent, for each order. */
export class Journal {
  readonly #parcels = new Map<string, Map<string, Parcel & Seen>>()

  sent(parcel: Parcel): void {
    const seen = look(parcel.payload)
    if (seen.orderId === undefined) return
    const ofOrder = this.#parcels.get(seen.orderId) ?? new Map<string, Parcel & Seen>()
    this.#parcels.set(seen.orderId, ofOrder.set(parcel.messageId, { ...parcel, ...seen }))
  }

  of(orderId: string): (Parcel & Seen)[] {
    return [...(this.#parcels.get(orderId)?.values() ?? [])]
  }

  forget(orderIds: readonly string[]): void {
    for (const orderId of orderIds) this.#parcels.delete(orderId)
  }
}

function look(payload: string | Buffer): Seen {
  const { messageType, message } = JSON.parse(payload.toString()) as { messageType: string[]; message: { orderId?: string } }
  return { type: messageType[0]!.split(':').at(-1)!, orderId: message.orderId }
}

function keyOf(orderId: string | undefined, [endpoint, type]: readonly [string, string]): string {
  return `${orderId} ${endpoint} ${type}`
}
