import { PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent, RefundPayment } from '../contracts/payment.ts'
import { StockReservedEvent } from '../contracts/stock.ts'
import type { ServiceContext } from '../messaging/context.ts'
import { handle } from '../messaging/endpoint.ts'
import { Cashier } from './cashier.ts'
import { refundPayments } from './refund.ts'
import { paymentRoutes } from './routes.ts'
import { SimulatedGateway } from './simulated-gateway.ts'
import { PaymentEntity } from './tables.ts'
import { takingPayments } from './take.ts'

/** The payment service: charges and refunds through a gateway. */
export const paymentService = {
  name: 'payment',
  migrations: ['messaging', 'payment'],
  entities: [PaymentEntity],
  consumes: [StockReservedEvent, RefundPayment],
  sends: [PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent],
  build({ dataSource, outbox, log }: ServiceContext) {
    const cashier = new Cashier(outbox, new SimulatedGateway(), log)
    return {
      handlers: [takingPayments(cashier), handle(RefundPayment, refundPayments, { committed: () => cashier.wake() })],
      routes: [paymentRoutes(dataSource)],
      workers: [cashier]
    }
  }
}
