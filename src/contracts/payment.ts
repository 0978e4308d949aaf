import Type from 'typebox'
import { command, event } from 'sagabox'
import { Currency, Id, Money, Reason } from './types.ts'

/** The money was taken. */
export const PaymentCompletedEvent = event('PaymentCompletedEvent', {
  owner: 'payment',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id, amount: Money, currency: Currency })
})

/** No money was taken, and none will be. */
export const PaymentFailedEvent = event('PaymentFailedEvent', {
  owner: 'payment',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id, reason: Reason })
})

/** Gives back the money taken for an order; when none is yet, none ever will be. */
export const RefundPayment = command('RefundPayment', {
  owner: 'payment',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id })
})

/**
 * Nothing more is given back: `amount` went back, zero when none had been taken. With a `reason` a
 * person said so, and the rest of what was taken is kept.
 */
export const PaymentRefundedEvent = event('PaymentRefundedEvent', {
  owner: 'payment',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id, amount: Money, reason: Type.Optional(Reason) })
})
