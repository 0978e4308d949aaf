import { fileURLToPath } from 'node:url'
import { defineService } from 'sagabox'
import type { Audit } from 'sagabox/fastify'
import type { PaymentGatewayName } from '../contracts/types.ts'
import { cancelOrder } from './cancel-order.ts'
import { OrderIntake } from './place-orders.ts'
import { orderRoutes } from './routes.ts'
import { orderSaga } from '../saga/order-saga.ts'

export interface OrderSettings {
  /** How long an order may stay `Suspend`. */
  deadlineSeconds: number
  /** Whose payment methods an order may name. */
  paymentGateway: PaymentGatewayName
  /** Queues of dead letters of services that are not ours. */
  lettersOf?: readonly string[]
}

/** The order service: takes orders, follows each by a saga, ends it. */
export function orderService({ deadlineSeconds, paymentGateway, lettersOf }: OrderSettings) {
  const saga = orderSaga(deadlineSeconds)
  return defineService('order', {
    sagas: [saga],
    lettersOf,
    migrations: [fileURLToPath(new URL('../../migrations/order', import.meta.url))],
    avoidScans: true,
    build({ outbox, requests, ...context }) {
      const host = context.saga(saga)
      const intake = new OrderIntake(outbox, host)
      const cancel = (orderId: string, audit: Audit) =>
        cancelOrder(requests.outbox, host, orderId, audit)
      return { routes: [orderRoutes(requests.database, intake, paymentGateway, cancel)], intake }
    }
  })
}
