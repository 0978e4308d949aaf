import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { GatewayUnavailable, type GatewayRequest } from '../../src/payment/gateway.ts'
import { StripeGateway } from '../../src/payment/stripe/gateway.ts'
import { gatewayConformance } from '../support/gateway-conformance.ts'
import { balances, StripeStandIn } from '../support/stripe-stand-in.ts'
import { until } from '../support/until.ts'

const DAY_MS = 24 * 3_600_000
const TAKEN_ONCE = { charges: 1, refunds: 0, net: 500 }

const signal = () => AbortSignal.timeout(60_000)
const request = (method = 'pm_card_visa', given: Partial<GatewayRequest> = {}): GatewayRequest => ({
  key: randomUUID(),
  amount: 500,
  currency: 'EUR',
  method,
  ageMs: 0,
  ...given
})

async function open(t: Test) {
  const stripe = await StripeStandIn.start(t)
  return {
    stripe,
    gateway: new StripeGateway({ secretKey: StripeStandIn.KEY, apiUrl: stripe.url }),
    balance: (key: string) => balances(stripe.readLedger()).get(key)
  }
}

gatewayConformance(t, async (t) => {
  const { gateway, balance } = await open(t)
  return {
    gateway,
    methods: {
      pays: 'pm_card_visa',
      isDeclined: 'pm_card_chargeDeclined',
      lacksFunds: 'pm_card_chargeDeclinedInsufficientFunds',
      losesItsAnswer: 'pm_lost_response',
      failsTwice: 'pm_fails_twice',
      takesSeconds: 'pm_slow',
      refusesItsRefund: 'pm_refund_refused'
    },
    balance: (key) => balance(key) ?? { charges: 0, refunds: 0, net: 0 }
  }
})

t.test('one request a charge, and none that the cashier did not ask for', async (t) => {
  const { stripe, gateway } = await open(t)
  const order = request()
  await gateway.charge(order, signal())
  t.same(await stripe.received(), [
    { method: 'POST', path: '/v1/payment_intents', idempotencyKey: order.key }
  ])
  await t.rejects(gateway.charge(request('pm_lost_response'), signal()), /Cannot reach Stripe: /)
  t.equal((await stripe.received()).length, 2, 'a cut connection is not tried again in secret')
})

t.test('an outage is unknown; afterwards it works', async (t) => {
  const { stripe, gateway, balance } = await open(t)
  const order = request()
  await stripe.tell({ outage: true })
  await t.rejects(gateway.charge(order, signal()), /Cannot reach Stripe: /)
  await t.rejects(gateway.refund(order, signal()), /Cannot reach Stripe: /)
  await stripe.tell({ outage: false, script: ['rate limited'] })
  await t.rejects(gateway.charge(order, signal()), /Stripe answered 429 rate_limit/)
  t.match(await gateway.charge(order, signal()), { outcome: 'charged' })
  t.same(balance(order.key), TAKEN_ONCE)
})

t.test('asked again after Stripe forgot the key', async (t) => {
  await t.test('what was charged is found', async (t) => {
    const { stripe, gateway, balance } = await open(t)
    const [charged, declined, lost] = [
      request(),
      request('pm_card_chargeDeclinedInsufficientFunds'),
      request('pm_lost_response')
    ]
    const first = await gateway.charge(charged, signal())
    await gateway.charge(declined, signal())
    await t.rejects(gateway.charge(lost, signal()))
    await stripe.tell({ forgetKeys: true })
    t.same(await gateway.charge({ ...charged, ageMs: DAY_MS }, signal()), first)
    t.same(await gateway.charge({ ...declined, ageMs: DAY_MS }, signal()), {
      outcome: 'declined',
      reason: 'InsufficientFunds'
    })
    t.same(await gateway.refund({ ...lost, ageMs: DAY_MS }, signal()), { amount: 500 })
    t.same(await gateway.refund({ ...lost, ageMs: DAY_MS }, signal()), { amount: 500 })
    t.same(balance(charged.key), TAKEN_ONCE)
    t.same(balance(lost.key), { charges: 1, refunds: 1, net: 0 })
  })
  await t.test('what was cancelled stays so', async (t) => {
    const { stripe, gateway } = await open(t)
    const order = request()
    t.same(await gateway.refund(order, signal()), { amount: 0 })
    await stripe.tell({ forgetKeys: true })
    t.same(await gateway.charge({ ...order, ageMs: DAY_MS }, signal()), {
      outcome: 'declined',
      reason: 'Cancelled'
    })
    t.same(stripe.readLedger(), [])
  })
  await t.test('what never reached Stripe is charged', async (t) => {
    const { stripe, gateway } = await open(t)
    const order = request('pm_card_visa', { ageMs: 3 * DAY_MS })
    t.match(await gateway.charge(order, signal()), { outcome: 'charged' })
    t.equal(stripe.readLedger().length, 1)
  })
})

t.test('a 500 tells nothing', async (t) => {
  await t.test(
    'after the charge: what was charged is found as soon as the search knows it',
    async (t) => {
      const { stripe, gateway, balance } = await open(t)
      const order = request('pm_500_after')
      await stripe.tell({ indexing: false })
      await t.rejects(gateway.charge(order, signal()), /Stripe answered 500/)
      await t.rejects(gateway.charge(order, signal()), /Stripe answered 500/)
      await t.rejects(gateway.refund(order, signal()), /Stripe answered 500/)
      await stripe.tell({ indexing: true })
      t.match(await gateway.charge(order, signal()), { outcome: 'charged' })
      t.same(balance(order.key), TAKEN_ONCE)
      t.same(await gateway.refund(order, signal()), { amount: 500 })
    }
  )
  await t.test('before it: charged when the key is free again', async (t) => {
    const { stripe, gateway, balance } = await open(t)
    const order = request('pm_card_visa')
    await stripe.tell({ script: ['500 before'] })
    await t.rejects(gateway.charge(order, signal()), /Stripe answered 500/)
    await t.rejects(gateway.charge(order, signal()), /Stripe answered 500/)
    await stripe.tell({ forgetKeys: true })
    t.match(await gateway.charge({ ...order, ageMs: DAY_MS }, signal()), { outcome: 'charged' })
    t.same(balance(order.key), TAKEN_ONCE)
  })
  await t.test('of a refund: given back once', async (t) => {
    const { stripe, gateway, balance } = await open(t)
    for (const trouble of ['500 before', '500 after', 'lost response'] as const) {
      const order = request()
      await gateway.charge(order, signal())
      await stripe.tell({ script: [trouble] })
      await t.rejects(gateway.refund(order, signal()), trouble)
      t.same(await gateway.refund(order, signal()), { amount: 500 }, trouble)
      t.same(balance(order.key), { charges: 1, refunds: 1, net: 0 }, trouble)
    }
  })
})

t.test('a PaymentIntent that is being processed is looked at again', async (t) => {
  const { stripe, gateway, balance } = await open(t)
  const order = request('pm_processing')
  await t.rejects(gateway.charge(order, signal()), /still processing pi_/)
  await t.rejects(gateway.refund(order, signal()), /still processing pi_/)
  await stripe.tell({ settleProcessing: true })
  t.match(await gateway.charge(order, signal()), { outcome: 'charged' })
  t.same(balance(order.key), TAKEN_ONCE)
})

t.test(
  'a charge that was given up and a refund meanwhile: the refund waits for Stripe to decide',
  async (t) => {
    const { stripe, gateway, balance } = await open(t)
    const order = request('pm_slow')
    const giveUp = new AbortController()
    const asking = gateway.charge(order, giveUp.signal)
    await until('Stripe has the charge', async () => (await stripe.received()).length === 1)
    giveUp.abort(new Error('no time left'))
    await t.rejects(asking, /did not answer in time/)
    await t.rejects(gateway.refund(order, signal()), /409 idempotency_key_in_use/)
    const given = await until('Stripe has decided', () =>
      gateway.refund(order, signal()).catch(() => undefined)
    )
    t.same(given, { amount: 500 })
    t.same(balance(order.key), { charges: 1, refunds: 1, net: 0 })
  }
)

t.test('what Stripe does not take is declined, with a reason', async (t) => {
  const { stripe, gateway } = await open(t)
  for (const [order, reason] of [
    [request('pm_sim_slow'), 'PaymentMethodRefused'],
    [request('pm_card_authenticationRequired'), 'CardDeclined'],
    [request('pm_card_visa', { amount: 49 }), 'AmountTooSmall'],
    [request('pm_card_visa', { amount: 100_000_000 }), 'AmountTooLarge']
  ] as const) {
    t.match(await gateway.charge(order, signal()), { outcome: 'declined', reason })
    t.same(await gateway.refund(order, signal()), { amount: 0 })
  }
  t.same(stripe.readLedger(), [])
})

t.test('a key that Stripe refuses is named by its setting and not shown', async (t) => {
  const { stripe } = await open(t)
  const gateway = new StripeGateway({ secretKey: 'sk_test_wrongwrongwrong', apiUrl: stripe.url })
  const error = await gateway.charge(request(), signal()).then(
    () => undefined,
    (reason: Error) => reason
  )
  t.match(error, { message: /STRIPE_SECRET_KEY/ })
  t.notMatch(error?.message, /sk_test/)
  t.notMatch(JSON.stringify(error), /sk_test/)
})

const refused = (
  status: number,
  code: string | undefined,
  param?: string,
  type = 'invalid_request_error'
) => ({
  status,
  error: {
    type,
    ...(code && { code }),
    ...(param && { param }),
    message: `Stripe says ${code ?? 'no'}`
  }
})

t.test(
  'what Stripe has looked at and not begun is declined with a reason; anything else says nothing about the charge',
  async (t) => {
    const { stripe, gateway } = await open(t)
    for (const [answer, reason] of [
      [refused(400, 'payment_method_customer_decline'), 'PaymentMethodCustomerDecline'],
      [refused(400, undefined), 'ChargeRefused'],
      [refused(400, 'Strange Code!'), 'ChargeRefused'],
      [refused(402, 'payment_method_unactivated'), 'PaymentMethodUnactivated'],
      [refused(404, 'resource_missing', 'customer'), 'ResourceMissing'],
      [refused(400, 'parameter_invalid', 'currency'), 'CurrencyRefused'],
      [
        {
          status: 400,
          error: {
            type: 'invalid_request_error',
            code: 'resource_missing',
            param: 'payment_method',
            message:
              "No such PaymentMethod: 'pm_1'; a similar object exists in live mode, but a test mode key was used to make this request."
          }
        },
        'PaymentMethodRefused'
      ]
    ] as const) {
      await stripe.tell({ script: [answer] })
      t.match(
        await gateway.charge(request(), signal()),
        { outcome: 'declined', reason, detail: /^Stripe answered 40/ },
        reason
      )
    }
    for (const answer of [
      refused(409, 'lock_timeout'),
      refused(429, 'rate_limit'),
      refused(403, 'anything'),
      refused(500, undefined, undefined, 'api_error'),
      refused(400, 'testmode_charges_only'),
      refused(400, 'account_invalid')
    ]) {
      await stripe.tell({ script: [answer] })
      await t.rejects(gateway.charge(request(), signal()), `${answer.status}`)
    }
    for (const answer of [
      refused(429, 'rate_limit'),
      refused(403, 'anything'),
      refused(400, 'testmode_charges_only')
    ]) {
      await stripe.tell({ script: [answer] })
      await t.rejects(
        gateway.charge(request(), signal()),
        GatewayUnavailable,
        `${answer.status}: everybody meets it`
      )
    }
  }
)

t.test('a refund that Stripe refuses for good is told from one that may work later', async (t) => {
  const { stripe, gateway, balance } = await open(t)
  const charged = async () => {
    const order = request()
    const answer = await gateway.charge(order, signal())
    return { ...order, reference: answer.outcome === 'charged' ? answer.reference : '' }
  }
  await t.test('for good', async (t) => {
    for (const [answer, reason] of [
      [refused(400, 'charge_disputed'), 'ChargeDisputed'],
      [refused(400, undefined), 'RefundRefused'],
      [refused(400, 'charge_expired_for_capture'), 'ChargeExpiredForCapture'],
      [refused(404, 'resource_missing'), 'ResourceMissing'],
      ['refund failed', 'RefundFailed']
    ] as const) {
      const order = await charged()
      await stripe.tell({ script: [answer] })
      t.match(await gateway.refund(order, signal()), { refused: reason, detail: /Stripe/ }, reason)
      t.same(balance(order.key), TAKEN_ONCE)
    }
  })
  await t.test('later', async (t) => {
    for (const answer of [
      refused(400, 'balance_insufficient'),
      refused(409, 'lock_timeout'),
      refused(429, 'rate_limit'),
      refused(403, 'anything'),
      refused(401, 'anything'),
      refused(500, undefined, undefined, 'api_error')
    ]) {
      const order = await charged()
      await stripe.tell({ script: [answer] })
      await t.rejects(gateway.refund(order, signal()), `${answer.status}`)
      t.same(await gateway.refund(order, signal()), { amount: 500 })
      t.same(balance(order.key), { charges: 1, refunds: 1, net: 0 })
    }
  })
  await t.test('what was given back by hand counts, and only the rest goes back', async (t) => {
    const [whole, part] = [await charged(), await charged()]
    await stripe.tell({ refundByHand: 200 })
    t.same(await gateway.refund(part, signal()), { amount: 500 })
    t.same(balance(part.key), { charges: 1, refunds: 2, net: 0 })
    await stripe.tell({ refundByHand: 500 })
    t.same(await gateway.refund(whole, signal()), { amount: 500 })
    t.same(balance(whole.key), { charges: 1, refunds: 2, net: 0 })
    const since = await charged()
    await stripe.tell({ script: [refused(400, 'charge_already_refunded')] })
    await t.rejects(
      gateway.refund(since, signal()),
      /charge_already_refunded/,
      'between look and refund: the next look tells'
    )
  })
  await t.test('a refund that is pending has not gone back, and may fail', async (t) => {
    for (const outcome of ['succeeded', 'failed'] as const) {
      const order = await charged()
      await stripe.tell({ script: ['refund pending'] })
      await t.rejects(gateway.refund(order, signal()), /refund re_\w+ of pi_\w+ is pending/)
      await t.rejects(gateway.refund(order, signal()), /is pending/, 'it is not asked for twice')
      await stripe.tell({ settleRefunds: outcome })
      t.match(
        await gateway.refund(order, signal()),
        outcome === 'succeeded'
          ? { amount: 500 }
          : { refused: 'RefundFailed', detail: /has failed: expired_or_canceled_card/ }
      )
      t.equal(balance(order.key)?.refunds, outcome === 'succeeded' ? 1 : 0)
    }
  })
  await t.test(
    'a key of the other mode is a setting, and another account has nothing to give back',
    async (t) => {
      const order = await charged()
      await stripe.tell({ elsewhere: 'mode' })
      await t.rejects(gateway.refund(order, signal()), {
        name: 'GatewayUnavailable',
        message: /STRIPE_SECRET_KEY/
      })
      await stripe.tell({ elsewhere: 'account' })
      t.match(await gateway.refund(order, signal()), { refused: 'ResourceMissing' })
    }
  )
})

t.test(
  'a charge that is not known to be impossible is not taken for one that was never made',
  async (t) => {
    const { stripe, gateway } = await open(t)
    // The refund makes a PaymentIntent that charges nothing; the script is for confirmed ones, so
    // the key is spent first.
    await stripe.tell({ script: [refused(400, 'something_else')] })
    const order = request()
    t.match(await gateway.charge(order, signal()), { outcome: 'declined', reason: 'SomethingElse' })
    t.same(
      await gateway.refund(order, signal()),
      { amount: 0 },
      'it was not begun, and now it never will be'
    )
  }
)
