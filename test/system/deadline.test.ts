import t from 'tap'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { Api } from '../support/api.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { orderSagas, startSystem, type TestSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

/** Long enough for an order to begin, short enough to wait for. */
const DEADLINE = { settings: { deadlineSeconds: 0.5 } }

t.test('stock is away past the deadline', async (t) => {
  const shared = await sharedPlaces()
  const stock = await startSystem(t, 'rabbitmq', { ...shared, services: ['stock'] })
  await stock.api.putProduct('keyboard', 10)
  await stock.system.stop()

  const order = await startSystem(t, 'rabbitmq', { ...shared, services: ['order'], ...DEADLINE })
  const orderIds = await Promise.all(Array.from({ length: 5 }, () => order.api.placeOrder()))
  for (const orderId of orderIds) {
    t.match(await failed(order.api, orderId), { failureReason: 'DeadlineExceeded', total: null })
    t.match(await order.api.get(`/sagas/${orderId}`), {
      state: 'Failed.releasingStock',
      timers: [{ event: 'after resend' }],
      history: [
        { event: 'OrderCreatedEvent' },
        {
          event: 'after deadline',
          messageId: null,
          sent: [{ type: 'OrderFailedEvent' }, { type: 'ReleaseStock' }]
        }
      ]
    })
  }

  await t.test(
    'then the release overtakes the order: it leaves a tombstone, and nothing is ever reserved',
    async (t) => {
      const held = new Gate((payload) =>
        payload.includes('"urn:message:Contracts:OrderCreatedEvent"')
      )
      const later = await startSystem(t, 'rabbitmq', {
        ...shared,
        services: ['stock', 'payment'],
        wrap: (transport) => held.before(transport)
      })
      const api = apiOf(order, later)
      for (const orderId of orderIds) {
        const tombstone = await until('the release has left its mark', async () => {
          const { status, body } = await api.call('GET', `/reservations/${orderId}`)
          return status === 200 && body
        })
        t.match(tombstone, { status: 'Released', lines: [], total: null })
      }
      held.open()
      for (const orderId of orderIds) {
        await until('the order is refused', async () =>
          (await api.get(`/sagas/${orderId}`)).history.some(
            ({ event }: { event: string }) => event === 'StockNotReservedEvent'
          )
        )
        t.match(await api.settled(orderId), {
          state: 'Failed.settled',
          context: { failureReason: 'DeadlineExceeded', mayBePaid: false }
        })
        t.match(await api.get(`/orders/${orderId}`), {
          status: 'Failed',
          failureReason: 'DeadlineExceeded'
        })
        t.match(await api.get(`/reservations/${orderId}`), { status: 'Released', lines: [] })
        t.equal(
          (await api.call('GET', `/payments/${orderId}`)).status,
          404,
          'nobody was asked to pay'
        )
        t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true })
      }
      t.match(await api.get('/products/keyboard'), { onHand: 10, reserved: 0 })
    }
  )
})

t.test('stock comes back after the deadline and takes the order before its release', async (t) => {
  const shared = await sharedPlaces()
  const stock = await startSystem(t, 'rabbitmq', { ...shared, services: ['stock'] })
  await stock.api.putProduct('keyboard', 10)
  await stock.system.stop()
  const order = await startSystem(t, 'rabbitmq', { ...shared, services: ['order'], ...DEADLINE })
  const orderId = await order.api.placeOrder()
  await failed(order.api, orderId)

  const held = new Gate((payload) => payload.includes('"urn:message:Contracts:ReleaseStock"'))
  const later = await startSystem(t, 'rabbitmq', {
    ...shared,
    services: ['stock', 'payment'],
    wrap: (transport) => held.before(transport)
  })
  const api = apiOf(order, later)
  await until(
    'the late order is paid',
    async () => (await api.call('GET', `/payments/${orderId}`)).body.status === 'Completed'
  )
  held.open()
  await until(
    'the money is back',
    async () => (await api.get(`/payments/${orderId}`)).status === 'Refunded'
  )
  t.match(await api.settled(orderId), { state: 'Failed.settled', context: { mayBePaid: false } })
  t.match(await api.get(`/orders/${orderId}`), {
    status: 'Failed',
    failureReason: 'DeadlineExceeded',
    total: null
  })
  t.match(await api.get(`/payments/${orderId}`), {
    status: 'Refunded',
    amount: 1000,
    refundedAmount: 1000
  })
  t.match(await api.get(`/reservations/${orderId}`), {
    status: 'Released',
    lines: [{ productId: 'keyboard', quantity: 1 }]
  })
  t.match(await api.get('/products/keyboard'), { onHand: 10, reserved: 0 })
  t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true })
})

t.test('payment is away past the deadline: when it is back it keeps no money', async (t) => {
  const shared = await sharedPlaces()
  // It has been there before: otherwise what it takes would wait for it.
  await (await startSystem(t, 'rabbitmq', { ...shared, services: ['payment'] })).system.stop()
  const first = await startSystem(t, 'rabbitmq', { ...shared, services: ['order', 'stock'] })
  await first.api.putProduct('keyboard', 10)
  const orderIds = await Promise.all(Array.from({ length: 10 }, () => first.api.placeOrder()))
  // A deadline before stock has answered would let the release come first, and payment need not be
  // asked.
  for (const orderId of orderIds)
    await until(
      'stock is reserved',
      async () => (await first.api.get(`/sagas/${orderId}`)).state === 'Suspend.takingPayment'
    )
  await advance(orderSagas(first.system), '31s')
  for (const orderId of orderIds) {
    t.match(await failed(first.api, orderId), { failureReason: 'DeadlineExceeded' })
    await until(
      'stock is back and payment is asked',
      async () => (await first.api.get(`/sagas/${orderId}`)).state === 'Failed.refunding'
    )
  }
  t.match(await first.api.get('/products/keyboard'), { onHand: 10, reserved: 0 })

  const payment = await startSystem(t, 'rabbitmq', { ...shared, services: ['payment'] })
  const api = new Api({
    order: first.system.url,
    stock: first.system.url,
    payment: payment.system.url
  })
  for (const orderId of orderIds) {
    t.match(await api.settled(orderId), { state: 'Failed.settled', context: { mayBePaid: false } })
    const { status, amount, refundedAmount } = await api.get(`/payments/${orderId}`)
    t.ok(
      status === 'Cancelled' || (status === 'Refunded' && refundedAmount === amount),
      `no money is kept: ${status}`
    )
    t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true })
  }
})

t.test('a deadline passes while no process runs', async (t) => {
  const shared = await sharedPlaces()
  const before = await startSystem(t, 'rabbitmq', { ...shared, services: ['order'], ...DEADLINE })
  const orderId = await before.api.placeOrder()
  const { timers } = await before.api.get(`/sagas/${orderId}`)
  await before.system.stop()
  const after = await startSystem(t, 'rabbitmq', {
    ...shared,
    services: ['order'],
    settings: { deadlineSeconds: 2_000_000 }
  })
  t.match(await failed(after.api, orderId), { failureReason: 'DeadlineExceeded' })
  const { history } = await after.api.get(`/sagas/${orderId}`)
  t.ok(timers[0].dueAt <= history[1].at, 'at the time that was set when the order came')
})

for (const transport of ['memory', 'rabbitmq'] as const) {
  t.test(`${transport}: a gateway that cannot be reached`, async (t) => {
    const { api, system } = await startSystem(t, transport)
    await api.putProduct('keyboard', 10)
    const orderIds = await Promise.all(
      Array.from({ length: 5 }, () => api.placeOrder({ paymentMethod: 'pm_sim_unavailable' }))
    )
    for (const orderId of orderIds)
      await until(
        'payment has the order',
        async () => (await api.call('GET', `/payments/${orderId}`)).status === 200
      )
    await advance(orderSagas(system), '31s')
    for (const orderId of orderIds) {
      t.match(await api.settled(orderId), {
        state: 'Failed.settled',
        context: { failureReason: 'DeadlineExceeded', mayBePaid: false }
      })
      t.match(await api.get(`/orders/${orderId}`), {
        status: 'Failed',
        failureReason: 'DeadlineExceeded'
      })
      t.match(await api.get(`/payments/${orderId}`), {
        status: 'Cancelled',
        refundedAmount: 0,
        gatewayReference: null,
        nextAttemptAt: null
      })
      t.match(await api.get(`/reservations/${orderId}`), { status: 'Released' })
      t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true })
    }
    t.match(await api.get('/products/keyboard'), { onHand: 10, reserved: 0 })
  })

  t.test(
    `${transport}: a gateway whose answer is lost is asked again and charges once`,
    async (t) => {
      const { api } = await startSystem(t, transport)
      await api.putProduct('keyboard', 10)
      const orderIds = await Promise.all(
        Array.from({ length: 5 }, () => api.placeOrder({ paymentMethod: 'pm_sim_lost_response' }))
      )
      for (const orderId of orderIds) {
        const { state, history } = await api.settled(orderId)
        t.equal(state, 'Completed')
        t.equal(
          history.filter(({ event }: { event: string }) => event === 'PaymentCompletedEvent')
            .length,
          1
        )
        t.match(await api.get(`/payments/${orderId}`), {
          status: 'Completed',
          attempts: 2,
          amount: 1000,
          refundedAmount: 0,
          gatewayReference: `sim_${orderId}`
        })
      }
      t.match(await api.get('/products/keyboard'), { onHand: 5, reserved: 5 })
    }
  )
}

/** A database and a virtual host that several systems share. */
async function sharedPlaces() {
  const [databaseUrl, rabbitmqUrl] = await Promise.all([
    postgresForTests().then((server) => server.createDatabase()),
    rabbitmqForTests().then((broker) => broker.createVhost())
  ])
  return { databaseUrl, rabbitmqUrl }
}

function apiOf(order: TestSystem, others: TestSystem): Api {
  return new Api({ order: order.system.url, stock: others.system.url, payment: others.system.url })
}

/** Waits until the order has failed, whatever is still to be undone. */
function failed(api: Api, orderId: string) {
  return until(`order ${orderId} has failed`, async () => {
    const order = await api.get(`/orders/${orderId}`)
    return order.status === 'Failed' && order
  })
}

/** Keeps the messages that it is told to from an endpoint until it is opened. */
class Gate {
  readonly #keeps: (payload: string) => boolean
  #kept: (() => void)[] | undefined = []

  constructor(keeps: (payload: string) => boolean) {
    this.#keeps = keeps
  }

  before(transport: Transport): Transport {
    return new Proxy(transport, {
      get: (target, key) => {
        if (key === 'subscribe')
          return (...[endpoint, receive]: Parameters<Transport['subscribe']>) =>
            target.subscribe(endpoint, (delivery) =>
              this.#kept && this.#keeps(String(delivery.payload))
                ? this.#kept.push(() => receive(delivery))
                : receive(delivery)
            )
        const value: unknown = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      }
    })
  }

  open(): void {
    const kept = this.#kept
    this.#kept = undefined
    for (const deliver of kept ?? []) deliver()
  }
}
