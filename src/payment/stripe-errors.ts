import type Stripe from 'stripe'

/** What is read of the errors that the SDK throws. */
export interface StripeFailure extends Error {
  type?: string
  rawType?: string
  code?: string
  param?: string
  statusCode?: number
  /** Of a declined card: with the reason in `last_payment_error`. */
  payment_intent?: Stripe.PaymentIntent
  /** What broke the connection. */
  detail?: string | Error
}

/** The idempotency key was used for another request, which is what counts. */
export function keyWasSpent({ rawType, code }: StripeFailure): boolean {
  return rawType === 'idempotency_error' && code !== 'idempotency_key_in_use'
}

/** Why Stripe does not begin with such a charge, now or later; undefined: the error says nothing about the charge. */
export function refusalOf({ type, code, param }: StripeFailure): string | undefined {
  if (type === 'StripeCardError') return 'CardDeclined'
  if (type !== 'StripeInvalidRequestError') return undefined
  if (code === 'amount_too_small') return 'AmountTooSmall'
  if (code === 'amount_too_large') return 'AmountTooLarge'
  if (param === 'payment_method') return 'PaymentMethodRefused'
  if (param === 'currency') return 'CurrencyRefused'
  return undefined
}

export function reasonOfDecline({ decline_code: decline, code }: Pick<Stripe.PaymentIntent.LastPaymentError, 'decline_code' | 'code'>): string {
  return decline === 'insufficient_funds' || code === 'insufficient_funds' ? 'InsufficientFunds' : 'CardDeclined'
}

/** The error as an operator is to read it, without anything of the secret key. */
export function describeStripeError(error: unknown): Error {
  const { type, code, statusCode, message, detail } = error as StripeFailure
  const said = (text: string) => new Error(text.replaceAll(/\b[rs]k_\w+[\w*]*/g, '(key)'))
  // Stripe's own words show part of the key.
  if (type === 'StripeAuthenticationError') return said('Stripe refuses the key in STRIPE_SECRET_KEY (401): expected a secret key of this account that is not expired')
  if (type === 'StripePermissionError') return said('Stripe refuses the key in STRIPE_SECRET_KEY (403): expected one that may write PaymentIntents and Refunds')
  if (type === 'StripeConnectionError') return said(`Cannot reach Stripe: ${causeOf(detail)}`)
  if (type) return said(`Stripe answered ${[statusCode, code, message].filter(Boolean).join(' ')}`)
  return error as Error
}

function causeOf(detail: string | Error | undefined): string {
  if (!(detail instanceof Error)) return detail ?? 'no reason known'
  return detail.cause instanceof Error ? detail.cause.message : detail.message
}
