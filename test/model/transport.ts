import { MemoryTransport } from '../../packages/sagabox/src/messaging/transport/memory.ts'
import type { Topology } from '../../packages/sagabox/src/messaging/transport/topology.ts'
import type {
  Delivery,
  TransportMessage,
  PublishOutcome,
  Subscription
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { WatchedTransport } from '../../packages/sagabox/src/testing/watched-transport.ts'
import type { Traffic } from './traffic.ts'

interface Held {
  endpoint: string
  delivery: Delivery
  deliver(): void
}

/**
 * What one process has of the bus. When it dies, all that it had in hand comes again to the next.
 */
export class ModelTransport extends WatchedTransport {
  readonly #traffic: Traffic
  readonly #died: Promise<never>
  #held: Held[] = []
  #dead = false
  #kill!: (error: Error) => void

  constructor(topology: Topology, traffic: Traffic) {
    super(new MemoryTransport(topology), topology)
    this.#traffic = traffic
    this.#died = new Promise((_, reject) => (this.#kill = reject))
    this.#died.catch(() => {})
  }

  override publish(message: TransportMessage): Promise<PublishOutcome> {
    this.#traffic.note(message)
    return super.publish(message)
  }

  override send(message: TransportMessage): Promise<PublishOutcome> {
    return this.#dead ? this.#died : Promise.race([super.send(message), this.#died])
  }

  override subscribe(endpoint: string, receive: (delivery: Delivery) => void): Subscription {
    const deliver = (delivery: Delivery): void => {
      if (this.#dead) return
      if (!this.#traffic.losesAck(endpoint, delivery.payload)) receive(delivery)
      else
        receive({
          ...delivery,
          ack: () => deliver({ ...delivery, redeliveries: delivery.redeliveries + 1 })
        })
    }
    return super.subscribe(endpoint, (delivery) => {
      if (this.#traffic.holds(endpoint, delivery.payload))
        this.#held.push({ endpoint, delivery, deliver: () => deliver(delivery) })
      else deliver(delivery)
    })
  }

  /** Lets messages go that are no longer to be held, the last first: they overtake each other. */
  letGo(): void {
    const free = this.#held.filter(
      ({ endpoint, delivery }) => !this.#traffic.holds(endpoint, delivery.payload)
    )
    this.#held = this.#held.filter((one) => !free.includes(one))
    for (const { deliver } of free.toReversed()) deliver()
  }

  /** Messages before an endpoint that are not held. */
  get moving(): number {
    return this.onTheWay - this.#held.length
  }

  get heldIds(): string[] {
    return this.#held.map(({ delivery }) => delivery.messageId!)
  }

  /** Nothing arrives any more, and nothing that is under way counts as sent. */
  die(): void {
    this.#dead = true
    this.#kill(new Error('The process died'))
  }
}
