import type {
  Delivery,
  Transport
} from '../../packages/sagabox/src/messaging/transport/transport.ts'

export interface Spy {
  deliver?(endpoint: string, delivery: Delivery): void
  ack?(delivery: Delivery): void
  requeue?(delivery: Delivery): void
}

/** The same transport, but it tells what is handed out and how it is settled. */
export function spied(transport: Transport, told: Spy): Transport {
  return {
    address: transport.address,
    get canPublish() {
      return transport.canPublish
    },
    ...(transport.keeps && { keeps: true }),
    awaited: transport.awaited,
    start: (flowing) => transport.start(flowing),
    stop: () => transport.stop(),
    problem: () => transport.problem(),
    knows: (destination) => transport.knows(destination),
    publish: (message) => transport.publish(message),
    takeAnswers: transport.takeAnswers?.bind(transport),
    subscribe: (endpoint, receive) =>
      transport.subscribe(endpoint, (delivery) => {
        told.deliver?.(endpoint, delivery)
        receive({
          ...delivery,
          ack() {
            told.ack?.(delivery)
            delivery.ack()
          },
          requeue() {
            told.requeue?.(delivery)
            delivery.requeue()
          }
        })
      })
  }
}
