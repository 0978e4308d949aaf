import { AsyncLocalStorage } from 'node:async_hooks'
import type Stripe from 'stripe'
import type { ChargeResult, GatewayRequest, PaymentGateway } from './gateway.ts'
import { describeStripeError, keyWasSpent, refusalOf, reasonOfDecline, type StripeFailure } from './stripe-errors.ts'

/**
 * Stripe forgets an idempotency key when it is 24 h old; a payment older than this, ms, is looked up before anything is
 * asked for under its key. Its search finds a PaymentIntent about a minute after it was made.
 */
const KEY_MAY_BE_FORGOTTEN_MS = 20 * 3_600_000

export interface StripeSettings {
  secretKey: string
  /** Where Stripe's API is: `https://api.stripe.com`, or a stand-in. */
  apiUrl: string
}

type Intent = Stripe.PaymentIntent

/** Answered without a PaymentIntent: Stripe does not even begin with such a charge. */
interface Refusal {
  refused: string
}

/**
 * Stripe, by PaymentIntents. The order's id is the idempotency key and stands in the metadata.
 *
 * One of two requests can be made under a key: the charge, or, by a refund that finds no charge, a PaymentIntent that is
 * never confirmed. The first that Stripe executes spends the key; Stripe then refuses the other, and that is how the
 * promise "nothing is charged under that key later" is kept by Stripe itself, even for a charge still on its way.
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
      return 'refused' in found ? { outcome: 'declined', reason: found.refused } : await answerOf(stripe, found)
    })
  }

  refund(request: GatewayRequest & { reference?: string }, signal: AbortSignal): Promise<{ amount: number }> {
    return this.#ask(signal, async (stripe) => {
      const found = request.reference ? { id: request.reference } : ((await lookUpOld(stripe, request)) ?? (await create(stripe, request, 'nothing')))
      return { amount: 'refused' in found ? 0 : await giveBack(stripe, found.id, request.key) }
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
      // The SDK's own client for Node takes no signal, and repeats a request whose connection was cut by itself.
      httpClient: Client.createFetchHttpClient((url, init) => fetch(url, { ...init, signal: this.#signals.getStore() ?? null }))
    })
  }

  async #ask<T>(signal: AbortSignal, call: (stripe: Stripe) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    try {
      const stripe = await this.#stripe
      return await this.#signals.run(signal, () => call(stripe))
    } catch (error) {
      throw signal.aborted ? new Error('Stripe did not answer in time', { cause: error }) : describeStripeError(error)
    }
  }
}

/** Asks for the charge under the key, or for a PaymentIntent that charges nothing; returns what the key was spent on. */
async function create(stripe: Stripe, { key, amount, currency, method }: GatewayRequest, wanted: 'charge' | 'nothing'): Promise<Intent | Refusal> {
  const nothing = { amount, currency: currency.toLowerCase(), allowed_payment_method_types: ['card'], metadata: { order_id: key } } satisfies Stripe.PaymentIntentCreateParams
  // Nobody is there to answer the bank's questions: a card that needs it is declined.
  const charge = { ...nothing, payment_method: method, confirm: true, error_on_requires_action: true } satisfies Stripe.PaymentIntentCreateParams
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
      if (failure.type === 'StripeCardError' && failure.payment_intent) return failure.payment_intent
      const refused = refusalOf(failure)
      if (refused) return { refused }
      // Stripe repeats a 500 for as long as it knows the key, whatever has become of the PaymentIntent.
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

async function lookUpOld(stripe: Stripe, { key, ageMs }: GatewayRequest): Promise<Intent | undefined> {
  return ageMs > KEY_MAY_BE_FORGOTTEN_MS ? search(stripe, key) : undefined
}

async function search(stripe: Stripe, key: string): Promise<Intent | undefined> {
  const { data } = await stripe.paymentIntents.search({ query: `metadata['order_id']:'${key}'` })
  return data.find(({ status }) => status === 'succeeded') ?? data[0]
}

/** What became of the charge. A repeated answer tells how it stood at first: what was open then is read anew. */
async function answerOf(stripe: Stripe, known: Intent): Promise<ChargeResult> {
  const intent = isOpen(known) ? await stripe.paymentIntents.retrieve(known.id) : known
  if (intent.status === 'succeeded') return { outcome: 'charged', reference: intent.id }
  if (intent.status === 'canceled') return { outcome: 'declined', reason: 'Cancelled' }
  if (intent.last_payment_error) return { outcome: 'declined', reason: reasonOfDecline(intent.last_payment_error) }
  if (intent.status === 'processing') throw new Error(`Stripe is still processing ${intent.id}`)
  // Never confirmed: a refund spent the key, or Stripe failed half-way. It must not be charged by anybody any more.
  await stripe.paymentIntents.cancel(intent.id)
  return { outcome: 'declined', reason: 'Cancelled' }
}

function isOpen({ status, last_payment_error: declined }: Intent): boolean {
  return status !== 'succeeded' && !declined
}

/**
 * Gives everything back and returns how much it was; what was not charged is cancelled. Needs no key: Stripe never gives
 * back more than was charged, and remembers that for ever.
 */
async function giveBack(stripe: Stripe, id: string, orderId: string): Promise<number> {
  const intent = await stripe.paymentIntents.retrieve(id, { expand: ['latest_charge'] })
  if (intent.status === 'processing') throw new Error(`Stripe is still processing ${id}`)
  if (intent.status !== 'succeeded') {
    if (intent.status !== 'canceled') await stripe.paymentIntents.cancel(id)
    return 0
  }
  if (!(intent.latest_charge as Stripe.Charge).refunded) {
    const { status } = await stripe.refunds.create({ payment_intent: id, metadata: { order_id: orderId } })
    if (status === 'failed' || status === 'canceled') throw new Error(`Stripe's refund of ${id} has ${status}`)
  }
  return intent.amount_received
}
