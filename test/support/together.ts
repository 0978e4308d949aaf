import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { spied } from './spied-transport.ts'

/**
 * The same transport, but the first so many messages of an endpoint are handed out in one turn:
 * they are one batch.
 */
export function together(transport: Transport, endpoint: string, count: number): Transport {
  const held: (() => void)[] = []
  return {
    ...spied(transport, {}),
    get canPublish() {
      return transport.canPublish
    },
    subscribe: (queue, receive, most) =>
      transport.subscribe(
        queue,
        (delivery) => {
          if (queue !== endpoint || held.length === count) return receive(delivery)
          held.push(() => receive(delivery))
          if (held.length === count) for (const hand of held) hand()
        },
        most
      )
  }
}
