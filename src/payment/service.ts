import { PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent, RefundPayment } from '../contracts/payment.ts'
import { StockReservedEvent } from '../contracts/stock.ts'
import type { PaymentGatewayName } from '../contracts/types.ts'
import type { ServiceContext } from '../messaging/context.ts'
import { handle } from '../messaging/handler.ts'
import { Cashier } from './cashier.ts'
import type { PaymentGateway } from './gateway.ts'
import { refundPayments } from './refund.ts'
import { paymentRoutes } from './routes.ts'
import { SimulatedGateway } from './simulated-gateway.ts'
import { StripeGateway, type StripeSettings } from './stripe-gateway.ts'
import { PaymentEntity } from './tables.ts'
import { takingPayments } from './take.ts'

/** The payment service: charges and refunds through a gateway. */
export const paymentService = {
  name: 'payment',
  migrations: ['messaging', 'payment'],
  entities: [PaymentEntity],
  consumes: [StockReservedEvent, RefundPayment],
  sends: [PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent],
  /** @param settings `stripe` is needed when it is the gateway */
  build({ outbox, requests, log }: ServiceContext, settings: { paymentGateway: PaymentGatewayName; stripe?: StripeSettings }) {
    const cashier = new Cashier(outbox, gatewayOf(settings), log)
    return {
      handlers: [takingPayments(cashier), handle(RefundPayment, refundPayments, { committed: () => cashier.wake() })],
      routes: [paymentRoutes(requests.dataSource, requests.outbox, () => cashier.wake())],
      workers: [cashier]
    }
  }
}

function gatewayOf({ paymentGateway, stripe }: { paymentGateway: PaymentGatewayName; stripe?: StripeSettings }): PaymentGateway {
  if (paymentGateway === 'simulated') return new SimulatedGateway()
  if (!stripe) throw new Error('The payment service charges through Stripe and was given no key')
  return new StripeGateway(stripe)
}
