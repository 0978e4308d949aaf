import { AsyncLocalStorage } from 'node:async_hooks'
import type Stripe from 'stripe'
import {
  GatewayUnavailable,
  type ChargeResult,
  type GatewayRequest,
  type PaymentGateway,
  type RefundResult
} from '../gateway.ts'
import {
  describeStripeError,
  keyWasSpent,
  knownRefusal,
  reasonOfDecline,
  refundRefusalOf,
  refusalOf,
  type Refusal,
  type StripeFailure
} from './errors.ts'

/**
 * Stripe forgets an idempotency key when it is 24 h old; a payment older than this, ms, is looked
 * up before anything is asked for under its key. Its search finds a PaymentIntent about a minute
 * after it was made.
 */
const KEY_MAY_BE_FORGOTTEN_MS = 20 * 3_600_000

export interface StripeSettings {
  secretKey: string
  /** Where Stripe's API is: `https://api.stripe.com`, or a stand-in. */
  apiUrl: string
}

type Intent = Stripe.PaymentIntent

/**
 * Stripe, by PaymentIntents. The order's id is the idempotency key and stands in the metadata.
 *
 * One of two requests can be made under a key: the charge, or, by a refund that finds no charge, a
 * PaymentIntent that is never confirmed. The first that Stripe executes spends the key; Stripe then
 * refuses the other, and that is how the promise "nothing is charged under that key later" is kept
 * by Stripe itself, even for a charge still on its way.
 */
export class StripeGateway implements PaymentGateway {
  /** Loaded when it is needed: the SDK takes 20 MB and 0.2 s. */
  readonly #stripe: Promise<Stripe>
  readonly #signals = new AsyncLocalStorage<AbortSignal>()

  constructor(settings: StripeSettings) {
    this.#stripe = this.#connect(settings)
    // Whoever asks is told.
    this.#stripe.catch(() => {})
  }

  charge(request: GatewayRequest, signal: AbortSignal): Promise<ChargeResult> {
    return this.#ask(signal, async (stripe) => {
      const found = (await lookUpOld(stripe, request)) ?? (await create(stripe, request, 'charge'))
      if ('refused' in found)
        return { outcome: 'declined', reason: found.refused, detail: found.detail }
      return answerOf(stripe, found)
    })
  }

  refund(
    request: GatewayRequest & { reference?: string },
    signal: AbortSignal
  ): Promise<RefundResult> {
    return this.#ask(signal, async (stripe): Promise<RefundResult> => {
      const found = request.reference
        ? { id: request.reference }
        : ((await lookUpOld(stripe, request)) ?? (await create(stripe, request, 'nothing')))
      if (!('refused' in found)) return giveBack(stripe, found.id, request.key)
      return found.known ? { amount: 0 } : { refused: found.refused, detail: found.detail }
    })
  }

  async #connect({ secretKey, apiUrl }: StripeSettings): Promise<Stripe> {
    const { default: Client } = await import('stripe')
    const { protocol, hostname, port } = new URL(apiUrl)
    return new Client(secretKey, {
      protocol: protocol === 'http:' ? 'http' : 'https',
      host: hostname,
      port: port || (protocol === 'http:' ? 80 : 443),
      telemetry: false,
      // The cashier asks again, later and later; a retry in here would go past its claim.
      maxNetworkRetries: 0,
      // The SDK's own client for Node takes no signal, and repeats a request whose connection was
      // cut by itself.
      httpClient: Client.createFetchHttpClient((url, init) =>
        fetch(url, { ...init, signal: this.#signals.getStore() ?? null })
      )
    })
  }

  async #ask<T>(signal: AbortSignal, call: (stripe: Stripe) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    try {
      const stripe = await this.#stripe
      return await this.#signals.run(signal, () => call(stripe))
    } catch (error) {
      throw signal.aborted
        ? new GatewayUnavailable('Stripe did not answer in time', { cause: error })
        : describeStripeError(error)
    }
  }
}

/**
 * Asks for the charge under the key, or for a PaymentIntent that charges nothing; returns what the
 * key was spent on.
 */
async function create(
  stripe: Stripe,
  { key, amount, currency, method }: GatewayRequest,
  wanted: 'charge' | 'nothing'
): Promise<Intent | (Refusal & { known: boolean })> {
  const nothing = {
    amount,
    currency: currency.toLowerCase(),
    allowed_payment_method_types: ['card'],
    metadata: { order_id: key }
  } satisfies Stripe.PaymentIntentCreateParams
  // Nobody is there to answer the bank's questions: a card that needs it is declined.
  const charge = {
    ...nothing,
    payment_method: method,
    confirm: true,
    error_on_requires_action: true
  } satisfies Stripe.PaymentIntentCreateParams
  let spent: unknown
  for (const params of wanted === 'charge' ? [charge, nothing] : [nothing, charge]) {
    try {
      return await stripe.paymentIntents.create(params, { idempotencyKey: key })
    } catch (error) {
      const failure = error as StripeFailure
      if (keyWasSpent(failure)) {
        spent = error
        continue
      }
      const refusal = refusalOf(failure)
      if (refusal && failure.payment_intent) return failure.payment_intent
      if (refusal) return { ...refusal, known: knownRefusal(failure) !== undefined }
      // Stripe repeats a 500 for as long as it knows the key, whatever has become of the
      // PaymentIntent.
      if ((failure.statusCode ?? 0) < 500) throw error
      const found = await search(stripe, key)
      if (!found) throw error
      return found
    }
  }
  // Spent on neither: an earlier release asked in other words.
  const found = await search(stripe, key)
  if (!found) throw spent
  return found
}

async function lookUpOld(
  stripe: Stripe,
  { key, ageMs }: GatewayRequest
): Promise<Intent | undefined> {
  return ageMs > KEY_MAY_BE_FORGOTTEN_MS ? search(stripe, key) : undefined
}

async function search(stripe: Stripe, key: string): Promise<Intent | undefined> {
  const { data } = await stripe.paymentIntents.search({ query: `metadata['order_id']:'${key}'` })
  return data.find(({ status }) => status === 'succeeded') ?? data[0]
}

/**
 * What became of the charge. A repeated answer tells how it stood at first: what was open then is
 * read anew.
 */
async function answerOf(stripe: Stripe, known: Intent): Promise<ChargeResult> {
  const intent = isOpen(known) ? await stripe.paymentIntents.retrieve(known.id) : known
  if (intent.status === 'succeeded') return { outcome: 'charged', reference: intent.id }
  if (intent.status === 'canceled') return { outcome: 'declined', reason: 'Cancelled' }
  if (intent.last_payment_error)
    return { outcome: 'declined', reason: reasonOfDecline(intent.last_payment_error) }
  if (intent.status === 'processing') throw new Error(`Stripe is still processing ${intent.id}`)
  // Never confirmed: a refund spent the key, or Stripe failed half-way. It must not be charged by
  // anybody any more.
  await stripe.paymentIntents.cancel(intent.id)
  return { outcome: 'declined', reason: 'Cancelled' }
}

function isOpen({ status, last_payment_error: declined }: Intent): boolean {
  return status !== 'succeeded' && !declined
}

/**
 * Gives everything back and says how much it was, with what was given back by hand; what was not
 * charged is cancelled. Needs no key: Stripe never gives back more than was charged, and remembers
 * that for ever.
 */
async function giveBack(stripe: Stripe, id: string, orderId: string): Promise<RefundResult> {
  try {
    const intent = await stripe.paymentIntents.retrieve(id, { expand: ['latest_charge.refunds'] })
    if (intent.status === 'processing') throw new Error(`Stripe is still processing ${id}`)
    if (intent.status !== 'succeeded') {
      if (intent.status !== 'canceled') await stripe.paymentIntents.cancel(id)
      return { amount: 0 }
    }
    const { refunded, amount_refunded: before, refunds } = intent.latest_charge as Stripe.Charge
    const known = refunds?.data ?? []
    // A refund may fail days later: until Stripe has decided, nothing has gone back.
    const open = known.find(({ status }) => status === 'pending' || status === 'requires_action')
    if (open) throw new Error(`Stripe's refund ${open.id} of ${id} is ${open.status}`)
    if (refunded) return { amount: before }
    const failed = known.find(({ status }) => status === 'failed' || status === 'canceled')
    if (failed) return refusedBy(failed)
    const made = await stripe.refunds.create({
      payment_intent: id,
      metadata: { order_id: orderId }
    })
    if (made.status === 'failed' || made.status === 'canceled') return refusedBy(made)
    if (made.status !== 'succeeded')
      throw new Error(`Stripe's refund ${made.id} of ${id} is ${made.status}`)
    return { amount: before + made.amount }
  } catch (error) {
    const failure = error as StripeFailure
    // By hand, since it was looked at: the next look says how much.
    if (failure.code === 'charge_already_refunded') throw error
    const refusal = refundRefusalOf(failure)
    if (!refusal) throw error
    return refusal
  }
}

/** It would fail once more: the card has expired, or its account is closed. */
function refusedBy({ id, status, failure_reason: reason }: Stripe.Refund): RefundResult {
  return {
    refused: 'RefundFailed',
    detail: `Stripe's refund ${id} has ${status}${reason ? `: ${reason}` : ''}`
  }
}
