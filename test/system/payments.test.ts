import t, { type Test } from 'tap'
import { pino } from 'pino'
import { shopTopology } from '../../src/shop.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { StripeStandIn } from '../support/stripe-stand-in.ts'
import { startSystem, watched } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(120_000)

type Running = Awaited<ReturnType<typeof openShop>>

async function openShop(t: Test, settings: Parameters<typeof startSystem>[2] = {}) {
  let gate!: GatedTransport
  const running = await startSystem(t, 'memory', {
    ...settings,
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  const { api, system } = running
  await api.putProduct('keyboard', 1000, 8900)
  const payments = system.service('payment').database
  return {
    ...running,
    payments,
    gate,
    quiet: () => settled(watched(system, gate)),
    payment: (orderId: string) => api.get(`/payments/${orderId}`),
    settle: (orderId: string, body: unknown) =>
      api.call('POST', `/payments/${orderId}/settle`, body),
    statusIs: (orderId: string, status: string) =>
      until(
        `the payment is ${status}`,
        async () => (await api.call('GET', `/payments/${orderId}`)).body.status === status
      ),
    /** What payment has published about the order's refund. */
    refunds: async (orderId: string) =>
      (await api.get(`/sagas/${orderId}`)).history.filter(
        ({ event }: { event: string }) => event === 'PaymentRefundedEvent'
      ).length
  }
}

/** An order that failed after it was paid, and whose gateway gives nothing back. */
async function refusedRefund(
  { api, gate, statusIs }: Running,
  paymentMethod = 'pm_sim_refund_refused'
): Promise<string> {
  // Its payment's answer comes after the cancel.
  gate.hold('order', 'PaymentCompletedEvent')
  const orderId = await api.placeOrder({ paymentMethod })
  await statusIs(orderId, 'Completed')
  t.equal((await api.call('POST', `/orders/${orderId}/cancel`)).status, 202)
  await statusIs(orderId, 'RefundRefused')
  gate.release('order', 'PaymentCompletedEvent')
  return orderId
}

t.test('a refund that the gateway refuses waits for a person', async (t) => {
  const shop = await openShop(t)
  const { api, payment, settle, statusIs, refunds, quiet, payments } = shop

  await t.test('it is asked once, says why, and is listed', async (t) => {
    const orderId = await refusedRefund(shop)
    t.match(await payment(orderId), {
      status: 'RefundRefused',
      failureReason: 'ChargeDisputed',
      lastError: /disputes the charge/,
      attempts: 1,
      nextAttemptAt: null,
      refundedAmount: 0,
      settledBy: null,
      settledAt: null,
      settledWhy: null
    })
    t.match(await api.get('/payments?status=RefundRefused'), {
      items: [{ orderId, status: 'RefundRefused', lastError: /disputes/ }],
      nextCursor: null
    })
    t.match(await api.get(`/sagas/${orderId}`), { state: 'Failed.refunding' })
    await api.call('POST', `/sagas/${orderId}/retry`)
    await quiet()
    t.match(
      await payment(orderId),
      { status: 'RefundRefused', attempts: 1 },
      'the order asks again, and the gateway is not asked'
    )

    const done = {
      outcome: 'refunded',
      amount: 8900,
      reason: 'Sent by bank transfer, see #12',
      by: 'ada'
    }
    t.match(await settle(orderId, done), {
      status: 200,
      body: {
        status: 'Refunded',
        refundedAmount: 8900,
        lastError: /disputes/,
        settledBy: 'ada',
        settledWhy: done.reason,
        settledAt: /Z$/
      }
    })
    t.match(await api.settled(orderId), { state: 'Failed.settled' })
    const { history } = await api.get(`/sagas/${orderId}`)
    const rows = await shop.system
      .service('order')
      .database.rows<{ body: object }>(
        `select body from saga_history where saga_id = $1 and event = 'PaymentRefundedEvent'`,
        [orderId]
      )
    t.same(
      rows.map(({ body }) => body),
      [{ orderId, amount: 8900, reason: 'Sent by bank transfer see 12' }]
    )
    t.match(history.at(-1), { event: 'PaymentRefundedEvent', to: 'Failed.settled' })
    t.same((await api.get('/payments?status=RefundRefused')).items, [])

    for (const again of await Promise.all([settle(orderId, done), settle(orderId, done)]))
      t.match(again, { status: 200, body: { status: 'Refunded' } })
    t.match(
      await settle(orderId, { ...done, by: 'bob' }),
      { status: 200, body: { settledBy: 'ada' } },
      'who says the same again changes nothing'
    )
    for (const other of [
      { ...done, amount: 8800 },
      { ...done, outcome: 'kept' },
      { ...done, reason: 'Other' }
    ])
      t.match(await settle(orderId, other), {
        status: 409,
        body: { detail: /settled before: Refunded, 8900 given back/ }
      })
    await quiet()
    t.equal(await refunds(orderId), 1, 'the order is told once')
  })

  await t.test('what is kept is kept, and the order settles all the same', async (t) => {
    const [all, part] = [await refusedRefund(shop), await refusedRefund(shop)]
    t.match(await settle(all, { outcome: 'kept', amount: 8900, reason: 'Dispute won' }), {
      status: 200,
      body: { status: 'Kept', refundedAmount: 0, settledBy: '127.0.0.1' }
    })
    t.match(await settle(part, { outcome: 'kept', amount: 900, reason: 'Fee' }), {
      status: 200,
      body: { status: 'Kept', refundedAmount: 8000 }
    })
    for (const orderId of [all, part])
      t.match(await api.settled(orderId), { state: 'Failed.settled' })
    t.match(await api.get('/payments?status=Kept'), {
      items: [{ orderId: part }, { orderId: all }]
    })
  })

  await t.test('it can be asked for once more', async (t) => {
    const orderId = await refusedRefund(shop)
    await payments.rows(`update payments set payment_method = 'pm_card_visa' where order_id = $1`, [
      orderId
    ])
    t.match(await api.call('POST', `/payments/${orderId}/retry`), { status: 202 })
    await statusIs(orderId, 'Refunded')
    t.match(
      await payment(orderId),
      { refundedAmount: 8900, lastError: /disputes/, settledAt: null },
      'what went wrong on the way stays'
    )
    t.match(await api.settled(orderId), { state: 'Failed.settled' })
    t.match(await api.call('POST', `/payments/${orderId}/retry`), { status: 409 })
  })

  await t.test('amounts and outcomes that cannot be', async (t) => {
    const orderId = await refusedRefund(shop)
    const right = { outcome: 'refunded', amount: 8900, reason: 'x' }
    for (const [body, field] of [
      [{ ...right, amount: -1 }, 'amount'],
      [{ ...right, amount: 0.5 }, 'amount'],
      [{ ...right, amount: '8900' }, 'amount'],
      [{ ...right, amount: 2 ** 53 }, 'amount'],
      [{ ...right, amount: undefined }, 'amount'],
      [{ ...right, outcome: 'kept', amount: 0 }, 'amount'],
      [{ ...right, outcome: 'lost' }, 'outcome'],
      [{ ...right, reason: '' }, 'reason'],
      [{ ...right, reason: 'a\0b' }, 'reason'],
      [{ ...right, by: '' }, 'by'],
      [{ ...right, status: 'Refunded' }, 'status']
    ] as const)
      t.match(
        await settle(orderId, body),
        { status: 400, body: { errors: [{ field }] } },
        JSON.stringify(body)
      )
    for (const amount of [8901, 0])
      t.match(
        await settle(orderId, { ...right, amount }),
        { status: 409, body: { errors: [{ field: 'amount' }] } },
        `${amount}`
      )
    t.match(await settle(orderId, { ...right, outcome: 'kept', amount: 8901 }), { status: 409 })
    t.match(await payment(orderId), { status: 'RefundRefused', settledAt: null })
    t.match(await settle(orderId, right), { status: 200 })
  })

  await t.test('nothing else is settled by hand', async (t) => {
    const completed = await api.placeOrder()
    await api.settled(completed)
    const declined = await api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' })
    await api.settled(declined)
    const waiting = await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })
    await until(
      'the gateway was asked',
      async () => (await api.call('GET', `/payments/${waiting}`)).body.lastError
    )
    for (const [orderId, why] of [
      [completed, /Completed and waits for no person: nothing is open/],
      [declined, /Failed and waits/],
      [waiting, /Pending and waits for no person: the gateway is being asked/]
    ] as const) {
      t.match(await settle(orderId, { outcome: 'refunded', amount: 1, reason: 'x' }), {
        status: 409,
        body: { detail: why }
      })
      t.match(await api.call('POST', `/payments/${orderId}/retry`), { status: 409 })
    }
    const nobody = '01890000-0000-7000-8000-000000000009'
    t.match(await settle(nobody, { outcome: 'refunded', amount: 1, reason: 'x' }), { status: 404 })
    t.match(await api.call('POST', `/payments/${nobody}/retry`), { status: 404 })
    await api.call('POST', `/orders/${waiting}/cancel`)
    t.match(
      await api.settled(waiting),
      { state: 'Failed.settled' },
      'the simulated gateway answers a refund'
    )
  })

  await t.test('payments are listed by status and page by page', async (t) => {
    const ids = async (query: string) => {
      const found: string[] = []
      for (let cursor = ''; ;) {
        const { items, nextCursor } = await api.get(`/payments?limit=2${query}${cursor}`)
        found.push(...items.map(({ orderId }: { orderId: string }) => orderId))
        if (nextCursor === null) return found
        cursor = `&cursor=${nextCursor}`
      }
    }
    const rows = await payments.rows<{ order_id: string; status: string }>(
      'select order_id, status from payments order by order_id desc'
    )
    t.same(
      await ids(''),
      rows.map((row) => row.order_id)
    )
    for (const status of [
      'Pending',
      'Completed',
      'Failed',
      'Refunding',
      'Refunded',
      'Cancelled',
      'RefundRefused',
      'Kept'
    ]) {
      t.same(
        await ids(`&status=${status}`),
        rows.filter((row) => row.status === status).map((row) => row.order_id),
        status
      )
    }
    t.match(await api.call('GET', '/payments?status=Lost'), {
      status: 400,
      body: { errors: [{ field: 'status' }] }
    })
    t.match(await api.call('GET', '/payments?cursor=abc'), {
      status: 400,
      body: { errors: [{ field: 'cursor' }] }
    })
  })
})

t.test('a gateway that is gone for ever', async (t) => {
  const stripe = await StripeStandIn.start(t)
  const lines: { msg: string; reason?: string }[] = []
  const log = pino(
    { level: 'info' },
    { write: (line: string) => void lines.push(JSON.parse(line)) }
  )
  const shop = await openShop(t, {
    settings: {
      paymentGateway: 'stripe',
      stripe: { secretKey: 'sk_test_gone', apiUrl: stripe.url }
    },
    log
  })
  const { api, payment, settle, statusIs } = shop
  const said = (part: RegExp) => lines.filter(({ msg }) => part.test(msg))

  const orders = await Promise.all(Array.from({ length: 8 }, () => api.placeOrder()))
  for (const orderId of orders)
    await until('Stripe has refused the key', async () =>
      /STRIPE_SECRET_KEY/.test((await api.call('GET', `/payments/${orderId}`)).body.lastError)
    )
  t.match(said(/answers nobody/), [{ reason: /STRIPE_SECRET_KEY \(401\)/ }])
  t.equal(said(/answers nobody/).length, 1, 'it is said once, and not once a payment')

  const [orderId, other] = orders as [string, string]
  await api.call('POST', `/orders/${orderId}/cancel`)
  await until(
    'its refund is wanted',
    async () =>
      (await api.get(`/sagas/${orderId}`)).state === 'Failed.refunding' &&
      (
        await settle(orderId, {
          outcome: 'refunded',
          amount: 0,
          reason: 'The account was closed; nothing was charged'
        })
      ).status === 200
  )
  t.match(await payment(orderId), {
    status: 'Cancelled',
    refundedAmount: 0,
    nextAttemptAt: null,
    lastError: /STRIPE_SECRET_KEY/
  })
  t.match(await api.settled(orderId), { state: 'Failed.settled' })

  await api.call('POST', `/orders/${other}/cancel`)
  await until(
    'its refund is wanted',
    async () =>
      (await settle(other, { outcome: 'refunded', amount: 8900, reason: 'By bank transfer' }))
        .status === 200
  )
  await statusIs(other, 'Refunded')
  t.match(await api.settled(other), { state: 'Failed.settled' })
})

t.test('Stripe refuses the refund of a disputed charge', async (t) => {
  const stripe = await StripeStandIn.start(t)
  const shop = await openShop(t, {
    settings: {
      paymentGateway: 'stripe',
      stripe: { secretKey: StripeStandIn.KEY, apiUrl: stripe.url }
    }
  })
  const orderId = await refusedRefund(shop, 'pm_refund_refused')
  t.match(await shop.payment(orderId), {
    failureReason: 'ChargeDisputed',
    lastError: /Stripe answered 400 charge_disputed .*has been charged back/
  })
  const asked = (await stripe.received()).filter(({ path }) => path === '/v1/refunds').length
  t.equal(asked, 1)
  t.match(
    await shop.settle(orderId, { outcome: 'refunded', amount: 8900, reason: 'Dispute lost' }),
    { status: 200 }
  )
  t.match(await shop.api.settled(orderId), { state: 'Failed.settled' })

  const declined = await shop.api.placeOrder({ paymentMethod: 'pm_nobody_knows' })
  await shop.api.settled(declined)
  t.match(
    await shop.payment(declined),
    { status: 'Failed', failureReason: 'PaymentMethodRefused', lastError: /No such PaymentMethod/ },
    'Stripe’s words stay when the payment has ended'
  )
})
