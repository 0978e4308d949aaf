import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import type { GatewayRequest } from '../src/payment/gateway.ts'
import { StripeGateway } from '../src/payment/stripe-gateway.ts'
import { gatewayConformance } from './gateway-conformance.ts'
import { balances, StripeStandIn } from './support/stripe-stand-in.ts'
import { until } from './support/until.ts'

const DAY_MS = 24 * 3_600_000
const TAKEN_ONCE = { charges: 1, refunds: 0, net: 500 }

const signal = () => AbortSignal.timeout(60_000)
const request = (method = 'pm_card_visa', given: Partial<GatewayRequest> = {}): GatewayRequest => ({ key: randomUUID(), amount: 500, currency: 'EUR', method, ageMs: 0, ...given })

async function open(t: Test) {
  const stripe = await StripeStandIn.start(t)
  return { stripe, gateway: new StripeGateway({ secretKey: StripeStandIn.KEY, apiUrl: stripe.url }), balance: (key: string) => balances(stripe.readLedger()).get(key) }
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
      takesSeconds: 'pm_slow'
    },
    balance: (key) => balance(key) ?? { charges: 0, refunds: 0, net: 0 }
  }
})

t.test('one request a charge, and none that the cashier did not ask for', async (t) => {
  const { stripe, gateway } = await open(t)
  const order = request()
  await gateway.charge(order, signal())
  t.same(await stripe.received(), [{ method: 'POST', path: '/v1/payment_intents', idempotencyKey: order.key }])
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
    const [charged, declined, lost] = [request(), request('pm_card_chargeDeclinedInsufficientFunds'), request('pm_lost_response')]
    const first = await gateway.charge(charged, signal())
    await gateway.charge(declined, signal())
    await t.rejects(gateway.charge(lost, signal()))
    await stripe.tell({ forgetKeys: true })
    t.same(await gateway.charge({ ...charged, ageMs: DAY_MS }, signal()), first)
    t.same(await gateway.charge({ ...declined, ageMs: DAY_MS }, signal()), { outcome: 'declined', reason: 'InsufficientFunds' })
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
    t.same(await gateway.charge({ ...order, ageMs: DAY_MS }, signal()), { outcome: 'declined', reason: 'Cancelled' })
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
  await t.test('after the charge: what was charged is found as soon as the search knows it', async (t) => {
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
  })
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

t.test('a charge that was given up and a refund meanwhile: the refund waits for Stripe to decide', async (t) => {
  const { stripe, gateway, balance } = await open(t)
  const order = request('pm_slow')
  const giveUp = new AbortController()
  const asking = gateway.charge(order, giveUp.signal)
  await until('Stripe has the charge', async () => (await stripe.received()).length === 1)
  giveUp.abort(new Error('no time left'))
  await t.rejects(asking, /did not answer in time/)
  await t.rejects(gateway.refund(order, signal()), /409 idempotency_key_in_use/)
  const given = await until('Stripe has decided', () => gateway.refund(order, signal()).catch(() => undefined))
  t.same(given, { amount: 500 })
  t.same(balance(order.key), { charges: 1, refunds: 1, net: 0 })
})

t.test('what Stripe does not take is declined, with a reason', async (t) => {
  const { stripe, gateway } = await open(t)
  for (const [order, reason] of [
    [request('pm_sim_slow'), 'PaymentMethodRefused'],
    [request('pm_card_authenticationRequired'), 'CardDeclined'],
    [request('pm_card_visa', { amount: 49 }), 'AmountTooSmall'],
    [request('pm_card_visa', { amount: 100_000_000 }), 'AmountTooLarge']
  ] as const) {
    t.same(await gateway.charge(order, signal()), { outcome: 'declined', reason })
    t.same(await gateway.refund(order, signal()), { amount: 0 })
  }
  t.same(stripe.readLedger(), [])
})

t.test('a key that Stripe refuses is named by its setting and not shown', async (t) => {
  const { stripe } = await open(t)
  const gateway = new StripeGateway({ secretKey: 'sk_test_wrongwrongwrong', apiUrl: stripe.url })
  const error = await gateway.charge(request(), signal()).then(() => undefined, (reason: Error) => reason)
  t.match(error, { message: /STRIPE_SECRET_KEY/ })
  t.notMatch(error?.message, /sk_test/)
  t.notMatch(JSON.stringify(error), /sk_test/)
})
