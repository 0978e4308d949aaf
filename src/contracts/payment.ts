import Type from 'typebox'
import { contracts } from 'sagabox'
import { Currency, Id, Money, Reason } from './types.ts'

const payment = contracts('payment', { correlateBy: 'orderId' })

/** The money was taken. */
export const PaymentCompletedEvent = payment.event('PaymentCompletedEvent', {
  orderId: Id,
  amount: Money,
  currency: Currency
})

/** No money was taken, and none will be. */
export const PaymentFailedEvent = payment.event('PaymentFailedEvent', {
  orderId: Id,
  reason: Reason
})

/** Gives back the money taken for an order; when none is yet, none ever will be. */
export const RefundPayment = payment.command('RefundPayment', { orderId: Id })

/**
 * Nothing more is given back: `amount` went back, zero when none had been taken. With a `reason` a
 * person said so, and the rest of what was taken is kept.
 */
export const PaymentRefundedEvent = payment.event('PaymentRefundedEvent', {
  orderId: Id,
  amount: Money,
  reason: Type.Optional(Reason)
})
