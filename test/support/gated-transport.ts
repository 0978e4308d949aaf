import type {
  Delivery,
  Subscription
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { WatchedTransport } from '../../packages/sagabox/src/testing/watched-transport.ts'

interface Hold {
  endpoint: string
  type: string
  held: (() => void)[]
}

/** Keeps messages of some types from an endpoint, until they are released. */
export class GatedTransport extends WatchedTransport {
  #holds: Hold[] = []

  override stop(): Promise<void> {
    for (const { endpoint, type } of this.#holds) this.release(endpoint, type)
    return super.stop()
  }

  override subscribe(endpoint: string, receive: (delivery: Delivery) => void): Subscription {
    return super.subscribe(endpoint, (delivery) => {
      const type = typeOf(delivery.payload.toString())
      const hold = this.#holds.find(
        (candidate) => candidate.endpoint === endpoint && candidate.type === type
      )
      if (hold) hold.held.push(() => receive(delivery))
      else receive(delivery)
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
}

/** `OrderCreatedEvent` of an envelope. */
export function typeOf(payload: string): string {
  return (JSON.parse(payload) as { messageType: string[] }).messageType[0]!.split(':').at(-1)!
}
