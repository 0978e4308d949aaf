import { fileURLToPath } from 'node:url'
import { defineService, handleBatch } from 'sagabox'
import { RefundPayment } from '../contracts/payment.ts'
import { StockReservedEvent } from '../contracts/stock.ts'
import type { PaymentGatewayName } from '../contracts/types.ts'
import { Cashier } from './cashier.ts'
import type { PaymentGateway } from './gateway.ts'
import { refundPayments } from './refund.ts'
import { paymentRoutes } from './routes.ts'
import { SimulatedGateway } from './simulated-gateway.ts'
import { StripeGateway, type StripeSettings } from './stripe/gateway.ts'
import { takingPayments } from './take.ts'

export interface PaymentSettings {
  paymentGateway: PaymentGatewayName
  /** Needed when it is the gateway. */
  stripe?: StripeSettings
}

/** The payment service: charges and refunds through a gateway. */
export function paymentService(settings: PaymentSettings) {
  return defineService('payment', {
    handles: [StockReservedEvent, RefundPayment],
    migrations: [fileURLToPath(new URL('../../migrations/payment', import.meta.url))],
    avoidScans: true,
    build({ outbox, requests, log }) {
      const cashier = new Cashier(outbox, gatewayOf(settings), log)
      const wake = () => cashier.wake()
      return {
        handlers: [
          takingPayments(cashier),
          handleBatch(RefundPayment, refundPayments, { committed: wake })
        ],
        routes: [paymentRoutes(requests.database, requests.outbox, wake)],
        workers: [cashier]
      }
    }
  })
}

function gatewayOf({ paymentGateway, stripe }: PaymentSettings): PaymentGateway {
  if (paymentGateway === 'simulated') return new SimulatedGateway()
  if (!stripe) throw new Error('The payment service charges through Stripe and was given no key')
  return new StripeGateway(stripe)
}
