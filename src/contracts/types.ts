import Type from 'typebox'

/** UUIDv7, any case and version accepted from outside. */
export const Id = Type.String({ format: 'uuid' })

/** An id or code given by a client: short, printable, safe in a URL and in a log line. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
export const Name = Type.String({ pattern: NAME.source })

/**
 * The same from the broker: services that are not ours have ids and codes of their own making, so
 * that length alone is limited.
 */
export const ForeignName = Type.String({ minLength: 1, maxLength: 256 })

/** Why something failed: a code for programs, a sentence, or an exception's text. */
export const Reason = Type.String({ maxLength: 4000 })

/** Integer minor units: 1999 is 19.99. */
export const Money = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** ISO 4217. */
export const Currency = Type.String({ pattern: '^[A-Z]{3}$' })

export const Quantity = Type.Integer({ minimum: 1, maximum: 1_000_000 })

export const Items = Type.Array(Type.Object({ productId: ForeignName, quantity: Quantity }), {
  minItems: 1,
  maxItems: 100
})

/** A gateway's name for how the customer pays. */
export const PaymentMethod = Type.String({ pattern: '^pm_[A-Za-z0-9_]{1,60}$' })

/** Who moves the money, and so which payment methods there are. */
export type PaymentGatewayName = 'simulated' | 'stripe'

/**
 * What the simulated gateway takes: Stripe's test names, and `pm_sim_*` for how a gateway
 * misbehaves.
 */
const SIMULATED_METHODS = [
  'pm_card_visa',
  'pm_card_chargeDeclined',
  'pm_card_chargeDeclinedInsufficientFunds',
  'pm_sim_unavailable',
  'pm_sim_lost_response',
  'pm_sim_slow',
  'pm_sim_fails_twice',
  'pm_sim_answers_twice',
  'pm_sim_refund_refused'
]

/**
 * The methods an order may name. Only Stripe knows its own: a name that means nothing to it is
 * declined when it is to be charged.
 */
export function paymentMethodsOf(gateway: PaymentGatewayName): Type.TUnsafe<string> {
  return Type.Unsafe<string>(gateway === 'simulated' ? Type.Enum(SIMULATED_METHODS) : PaymentMethod)
}
