import Type from 'typebox'
import { contracts } from 'sagabox'
import { Currency, Id, Items, Money, ForeignName, PaymentMethod, Reason } from './types.ts'

const order = contracts('order', { correlateBy: 'orderId' })

/** An order was recorded and waits for stock and payment. */
export const OrderCreatedEvent = order.event('OrderCreatedEvent', {
  orderId: Id,
  customerId: ForeignName,
  items: Items,
  paymentMethod: PaymentMethod,
  expectedTotal: Type.Optional(Money)
})

/** Stock is reserved and the money is taken. For whoever listens. */
export const OrderCompletedEvent = order.event(
  'OrderCompletedEvent',
  { orderId: Id, customerId: ForeignName, total: Money, currency: Currency },
  { optional: true }
)

/** The order ended without being fulfilled. For whoever listens. */
export const OrderFailedEvent = order.event(
  'OrderFailedEvent',
  { orderId: Id, customerId: ForeignName, reason: Reason },
  { optional: true }
)
