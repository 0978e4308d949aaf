import type Stripe from 'stripe'
import { GatewayUnavailable } from '../gateway.ts'

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

/** Stripe has looked at the request and does not begin with it: asked again, it says the same. */
const REFUSED = [400, 402, 404]

/** Also 400, and yet not about the payment: whatever is asked with this key is refused. */
const MISCONFIGURED = [
  'testmode_charges_only',
  'livemode_mismatch',
  'secret_key_required',
  'account_invalid',
  'platform_account_required',
  'tls_version_unsupported'
]

/** Also 400, and mended by time: an account gets money again, a PaymentIntent another state. */
const PASSES = [
  'balance_insufficient',
  'insufficient_funds',
  'payment_intent_unexpected_state',
  'lock_timeout'
]

/** Stripe says where the object is, when it is only the key that is of the other mode. */
const OTHER_MODE = /similar object exists in (?:test|live) mode/

export interface Refusal {
  /** Answered without a PaymentIntent: Stripe does not even begin. */
  refused: string
  /** Stripe's own words. */
  detail: string
}

/**
 * Why Stripe does not begin with such a charge, now or later; undefined: the error says nothing
 * about the charge.
 */
export function refusalOf(failure: StripeFailure): Refusal | undefined {
  const { param } = failure
  // Any client may name a payment method of the other mode: that is no setting of ours.
  if (!isDecline(failure) && !isFinal(failure, param === 'payment_method')) return undefined
  return {
    refused: knownRefusal(failure) ?? nameOf(failure, 'ChargeRefused'),
    detail: describeStripeError(failure).message
  }
}

/** Why Stripe gives nothing back, now or later; undefined: asking again may help. */
export function refundRefusalOf(failure: StripeFailure): Refusal | undefined {
  if (!isFinal(failure) || PASSES.includes(failure.code ?? '')) return undefined
  return { refused: nameOf(failure, 'RefundRefused'), detail: describeStripeError(failure).message }
}

/** Why no charge with this amount and card can ever have been made. */
export function knownRefusal(failure: StripeFailure): string | undefined {
  const { code, param } = failure
  if (isDecline(failure)) return 'CardDeclined'
  if (code === 'amount_too_small') return 'AmountTooSmall'
  if (code === 'amount_too_large') return 'AmountTooLarge'
  if (param === 'payment_method') return 'PaymentMethodRefused'
  if (param === 'currency') return 'CurrencyRefused'
  return undefined
}

/** The SDK calls every 402 a card error. */
function isDecline({ type, rawType }: StripeFailure): boolean {
  return type === 'StripeCardError' && rawType !== 'invalid_request_error'
}

function isFinal(failure: StripeFailure, inAnyMode = false): boolean {
  const { rawType, statusCode = 0 } = failure
  return (
    rawType === 'invalid_request_error' &&
    REFUSED.includes(statusCode) &&
    (inAnyMode || !isMisconfigured(failure))
  )
}

function isMisconfigured({ code = '', message, param }: StripeFailure): boolean {
  return MISCONFIGURED.includes(code) || (param !== 'payment_method' && OTHER_MODE.test(message))
}

/** `charge_disputed` -> `ChargeDisputed` */
function nameOf({ code }: StripeFailure, otherwise: string): string {
  if (!code || !/^[a-z][a-z0-9_]{0,80}$/.test(code)) return otherwise
  return code.replaceAll(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

export function reasonOfDecline({
  decline_code: decline,
  code
}: Pick<Stripe.PaymentIntent.LastPaymentError, 'decline_code' | 'code'>): string {
  return decline === 'insufficient_funds' || code === 'insufficient_funds'
    ? 'InsufficientFunds'
    : 'CardDeclined'
}

/**
 * The error as an operator is to read it, without anything of the secret key. A GatewayUnavailable
 * when every payment would meet it now.
 */
export function describeStripeError(error: unknown): Error {
  const failure = error as StripeFailure
  const { type, code, statusCode, message, detail } = failure
  // Stripe's own words show part of the key.
  const hidden = (text: string) => text.replaceAll(/\b[rs]k_\w+[\w*]*/g, '(key)')
  const unavailable = (text: string) => new GatewayUnavailable(hidden(text))
  if (type === 'StripeAuthenticationError')
    return unavailable(
      'Stripe refuses the key in STRIPE_SECRET_KEY (401): expected a secret key of this account that is not expired'
    )
  if (type === 'StripePermissionError')
    return unavailable(
      'Stripe refuses the key in STRIPE_SECRET_KEY (403): expected one that may write PaymentIntents and Refunds'
    )
  if (type === 'StripeConnectionError')
    return unavailable(`Cannot reach Stripe: ${causeOf(detail)}`)
  if (!type) return error as Error
  const said = `Stripe answered ${[statusCode, code, message].filter(Boolean).join(' ')}`
  if (statusCode === 429) return unavailable(said)
  if (isMisconfigured(failure))
    return unavailable(
      `${said}; expected STRIPE_SECRET_KEY to be a key of the account and mode that charged`
    )
  return new Error(hidden(said))
}

function causeOf(detail: string | Error | undefined): string {
  if (!(detail instanceof Error)) return detail ?? 'no reason known'
  return detail.cause instanceof Error ? detail.cause.message : detail.message
}
