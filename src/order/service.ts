import { OrderCompletedEvent, OrderCreatedEvent, OrderFailedEvent } from '../contracts/order.ts'
import { RefundPayment } from '../contracts/payment.ts'
import { ReleaseStock } from '../contracts/stock.ts'
import type { PaymentGatewayName } from '../contracts/types.ts'
import type { ServiceContext } from '../messaging/context.ts'
import { faultHandler } from '../saga/faults.ts'
import { SagaHost } from '../saga/host.ts'
import { SagaInspector } from '../saga/inspect.ts'
import { sagaRoutes } from '../saga/routes.ts'
import { TimerLoop } from '../saga/timers.ts'
import { undoOf } from '../saga/undo.ts'
import { cancelOrder } from './cancel-order.ts'
import { ORDER_EVENTS } from './machine.ts'
import { OrderIntake } from './place-orders.ts'
import { orderRoutes } from './routes.ts'
import { ORDER_FAULTS, orderSaga } from './saga.ts'
import { OrderEntity, OrderLineEntity } from './tables.ts'

/** The order service: takes orders, follows each by a saga, ends it. */
export const orderService = {
  name: 'order',
  migrations: ['messaging', 'saga', 'order'],
  entities: [OrderEntity, OrderLineEntity],
  consumes: [...ORDER_EVENTS, ...ORDER_FAULTS],
  sends: [OrderCreatedEvent, OrderCompletedEvent, OrderFailedEvent, ReleaseStock, RefundPayment],
  /** @param settings `deadlineSeconds`: how long an order may stay `Suspend`; `paymentGateway`: whose payment methods it may name */
  build({ outbox, requests, log }: ServiceContext, { deadlineSeconds, paymentGateway }: { deadlineSeconds: number; paymentGateway: PaymentGatewayName }) {
    const host = new SagaHost(orderSaga(deadlineSeconds))
    const intake = new OrderIntake(outbox, host)
    return {
      handlers: [host.handler(), faultHandler(host)],
      routes: [
        orderRoutes(requests.dataSource, intake, paymentGateway, (orderId) => cancelOrder(requests.outbox, host, orderId)),
        sagaRoutes(new SagaInspector(requests.dataSource, host.definition), host, requests.outbox)
      ],
      workers: [new TimerLoop(host, outbox, log)],
      undo: undoOf(host.definition),
      intake
    }
  }
}
