import Type from 'typebox'
import { event } from 'sagabox'
import { Currency, Id, Items, Money, Name, PaymentMethod, Reason } from './types.ts'

/** An order was recorded and waits for stock and payment. */
export const OrderCreatedEvent = event('OrderCreatedEvent', {
  owner: 'order',
  correlateBy: 'orderId',
  schema: Type.Object({
    orderId: Id,
    customerId: Name,
    items: Items,
    paymentMethod: PaymentMethod,
    expectedTotal: Type.Optional(Money)
  })
})

/** Stock is reserved and the money is taken. For whoever listens. */
export const OrderCompletedEvent = event('OrderCompletedEvent', {
  owner: 'order',
  correlateBy: 'orderId',
  optional: true,
  schema: Type.Object({ orderId: Id, customerId: Name, total: Money, currency: Currency })
})

/** The order ended without being fulfilled. For whoever listens. */
export const OrderFailedEvent = event('OrderFailedEvent', {
  owner: 'order',
  correlateBy: 'orderId',
  optional: true,
  schema: Type.Object({ orderId: Id, customerId: Name, reason: Reason })
})
