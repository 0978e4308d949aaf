import t from 'tap'
import type { Api, OrderRequest } from '../support/api.ts'
import { balances, ledgerFaults, StripeStandIn } from '../support/stripe-stand-in.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(120_000)

t.test('the whole system pays through Stripe', async (t) => {
  const stripe = await StripeStandIn.start(t)
  const { api, system } = await startSystem(t, 'memory', { settings: settingsFor(stripe) })
  await api.putProduct('keyboard', 1000, 1000)
  const byOrder = () => balances(stripe.readLedger())

  await t.test('each order ends as its card does, and is charged once', async (t) => {
    const expected: [OrderRequest, object][] = [
      [{ paymentMethod: 'pm_card_visa' }, { status: 'Completed' }],
      [
        { paymentMethod: 'pm_card_visa_chargeDeclined' },
        { status: 'Failed', failureReason: 'CardDeclined' }
      ],
      [
        { paymentMethod: 'pm_card_visa_chargeDeclinedInsufficientFunds' },
        { status: 'Failed', failureReason: 'InsufficientFunds' }
      ],
      [{ paymentMethod: 'pm_lost_response' }, { status: 'Completed' }],
      [{ paymentMethod: 'pm_500_after' }, { status: 'Completed' }],
      [{ paymentMethod: 'pm_fails_twice' }, { status: 'Completed' }],
      [
        { paymentMethod: 'pm_sim_lost_response' },
        { status: 'Failed', failureReason: 'PaymentMethodRefused' }
      ]
    ]
    await Promise.all(
      expected.map(async ([request, outcome]) => {
        const orderId = await api.placeOrder(request)
        await api.settled(orderId)
        t.match(await api.get(`/orders/${orderId}`), outcome, request.paymentMethod!)
      })
    )
    t.same(ledgerFaults(stripe.readLedger(), await everyOrder(api)), [])
    t.equal(byOrder().size, 4)
  })

  await t.test('an outage is waited for', async (t) => {
    await stripe.tell({ outage: true })
    const orderIds = await Promise.all(Array.from({ length: 5 }, () => api.placeOrder()))
    for (const orderId of orderIds)
      await until('Stripe is missed', async () =>
        /Cannot reach Stripe/.test((await api.call('GET', `/payments/${orderId}`)).body.lastError)
      )
    await stripe.tell({ outage: false })
    for (const orderId of orderIds) t.match(await api.settled(orderId), { status: 'Completed' })
    t.same(ledgerFaults(stripe.readLedger(), await everyOrder(api)), [])
  })

  await t.test('an order of nothing is completed without asking', async (t) => {
    await api.putProduct('leaflet', 10, 0)
    const asked = (await stripe.received()).length
    const orderId = await api.placeOrder({ items: [{ productId: 'leaflet', quantity: 1 }] })
    t.match(await api.settled(orderId), { status: 'Completed' })
    t.match(await api.get(`/payments/${orderId}`), { status: 'Completed', amount: 0 })
    t.equal((await stripe.received()).length, asked)
  })

  await t.test('money taken too late goes back', async (t) => {
    const orderId = await api.placeOrder({ paymentMethod: 'pm_slow' })
    await until('Stripe has the charge', async () =>
      (await stripe.received()).some(({ idempotencyKey }) => idempotencyKey === orderId)
    )
    await system.service('order').database.rows(
      `
          update saga set next_timer_at = now(), timers = jsonb_set(timers, '{0,dueAt}',
            to_jsonb(now())) where saga_id = $1`,
      [orderId]
    )
    t.match(await api.settled(orderId), { status: 'Failed' })
    t.match(await api.get(`/payments/${orderId}`), { status: 'Refunded', refundedAmount: 1000 })
    t.same(byOrder().get(orderId), { charges: 1, refunds: 1, net: 0 })
    t.same(ledgerFaults(stripe.readLedger(), await everyOrder(api)), [])
  })

  await t.test('an order may name any method that Stripe could know', async (t) => {
    t.match(
      await api.call('POST', '/orders', {
        customerId: 'ada',
        items: [{ productId: 'keyboard', quantity: 1 }],
        paymentMethod: 'visa'
      }),
      { status: 400, body: { errors: [{ field: 'paymentMethod', expected: /\^pm_/ }] } }
    )
  })
})

t.test('a key that Stripe refuses shows in the payment, by its setting', async (t) => {
  const stripe = await StripeStandIn.start(t)
  const { api } = await startSystem(t, 'memory', {
    settings: {
      paymentGateway: 'stripe',
      stripe: { secretKey: 'sk_test_expired', apiUrl: stripe.url }
    }
  })
  await api.putProduct('keyboard', 10)
  const orderId = await api.placeOrder()
  const { lastError } = await until('Stripe has refused', async () => {
    const { body } = await api.call('GET', `/payments/${orderId}`)
    return Boolean(body.lastError) && body
  })
  t.match(lastError, /STRIPE_SECRET_KEY/)
  t.notMatch(lastError, /sk_test/)
})

t.test('the ledger tells what went wrong', async (t) => {
  const moved = (kind: 'charge' | 'refund', orderId: string) => ({
    kind,
    orderId,
    reference: 'pi_1',
    amount: 500,
    currency: 'eur',
    at: '2026-11-24T09:00:00.000Z'
  })
  const completed = [{ orderId: 'A', status: 'Completed', total: 500 }]
  const failed = [{ orderId: 'A', status: 'Failed', total: 500 }]
  t.same(ledgerFaults([moved('charge', 'A')], completed), [])
  t.same(ledgerFaults([moved('charge', 'A'), moved('refund', 'A')], failed), [])
  t.same(ledgerFaults([], failed), [])
  t.same(
    ledgerFaults([moved('charge', 'A')], failed, new Map([['A', moved('charge', 'A').amount]])),
    [],
    'settled by hand'
  )
  t.match(
    ledgerFaults([moved('charge', 'A'), moved('refund', 'A')], failed, new Map([['A', 100]])),
    [/settled by hand/]
  )
  t.match(ledgerFaults([], completed), [/0 were taken/])
  t.match(ledgerFaults([moved('charge', 'A'), moved('charge', 'A')], completed), [
    /charged 2 times/,
    /1000 were taken/
  ])
  t.match(
    ledgerFaults([moved('charge', 'A'), moved('charge', 'A'), moved('refund', 'A')], completed),
    [/charged 2 times/, /with 1 refunds/]
  )
  t.match(
    ledgerFaults([moved('charge', 'A'), moved('refund', 'A'), moved('refund', 'A')], failed),
    [/refunded 2 times/, /-500 are kept/]
  )
  t.match(ledgerFaults([moved('charge', 'A')], failed), [/500 are kept/])
  t.match(ledgerFaults([moved('charge', 'B'), moved('charge', 'A')], completed), [
    /B: charged, and there is no such order/
  ])
})

function settingsFor({ url }: StripeStandIn) {
  return {
    paymentGateway: 'stripe' as const,
    stripe: { secretKey: StripeStandIn.KEY, apiUrl: url }
  }
}

async function everyOrder(
  api: Api
): Promise<{ orderId: string; status: string; total: number | null }[]> {
  return (await api.get('/orders?limit=100')).items
}
