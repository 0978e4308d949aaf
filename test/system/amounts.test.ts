import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import {
  OrderCompletedEvent,
  OrderCreatedEvent,
  OrderFailedEvent
} from '../../src/contracts/order.ts'
import {
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent,
  RefundPayment
} from '../../src/contracts/payment.ts'
import {
  ReleaseStock,
  StockNotReservedEvent,
  StockReleasedEvent,
  StockReservedEvent
} from '../../src/contracts/stock.ts'
import { message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { CANCEL_ORDER } from '../../src/saga/machine.ts'
import { orderMachine1 } from '../../src/saga/machine-1.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { checkSaga } from '../../packages/sagabox/src/saga/inspect/check.ts'
import { replay } from '../../packages/sagabox/src/saga/inspect/replay.ts'
import { shopTopology } from '../../src/shop.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { tell } from '../../packages/sagabox/src/testing/story.ts'
import { firstSaga } from '../support/renamed-state.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { orderSagas, startSystem, watched } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(120_000)

const orderId = '01890000-0000-7000-8000-000000000001'
const order = {
  orderId,
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const PRICE = { total: 8_900_000, currency: 'EUR' }

const created = message(OrderCreatedEvent, order)
const reserved = (price: Partial<typeof PRICE> = {}) =>
  message(StockReservedEvent, { ...order, ...PRICE, ...price })
const paid = (amount = PRICE.total, currency = PRICE.currency) =>
  message(PaymentCompletedEvent, { orderId, amount, currency })
const released = message(StockReleasedEvent, { orderId })
const refunded = message(PaymentRefundedEvent, { orderId, amount: 1 })

const OTHER_AMOUNTS: [amount: number, currency: string][] = [
  [1, 'XXX'],
  [PRICE.total, 'XXX'],
  [1, PRICE.currency],
  [0, PRICE.currency],
  [PRICE.total - 1, PRICE.currency],
  [PRICE.total + 1, PRICE.currency]
]
const UNDOES = [OrderFailedEvent, ReleaseStock]

const { given } = tell(orderSaga(30))

t.test('what is paid is what stock asked, before its answer or after', (t) => {
  given(created, reserved()).when(paid()).then('Completed', [OrderCompletedEvent])
  const early = given(created).when(paid()).then('Suspend.reservingStock')
  early
    .when(reserved())
    .then('Completed', [message(OrderCompletedEvent, { orderId, customerId: 'ada', ...PRICE })])
  t.end()
})

t.test('another amount or currency is given back with the stock, whenever it comes', (t) => {
  for (const [amount, currency] of OTHER_AMOUNTS) {
    for (const story of [
      given(created, reserved()).when(paid(amount, currency)),
      given(created, paid(amount, currency)).when(reserved())
    ]) {
      const failed = story.then('Failed.releasingStock', UNDOES)
      t.match(failed.context, { failureReason: 'AmountMismatch', ...PRICE })
      failed
        .when(released)
        .then('Failed.refunding', [RefundPayment])
        .when(refunded)
        .then('Failed.settled')
    }
  }
  t.end()
})

t.test('one amount among several is not enough', (t) => {
  given(created, paid(1, 'XXX'), paid()).when(reserved()).then('Failed.releasingStock', UNDOES)
  // What was paid in full first is sold; what came beside it shows in the history.
  const both = given(created, paid(), paid(1, 'XXX'))
    .when(reserved())
    .then('Completed', [OrderCompletedEvent])
  t.match(both.history.at(-1), { note: /ignored: already completed, and this is another amount/ })
  t.end()
})

t.test('a second price ends the order, whichever is stock’s', (t) => {
  for (const [first, second] of [
    [reserved({ total: 1 }), reserved()],
    [reserved(), reserved({ total: 1 })],
    [reserved(), reserved({ currency: 'USD' })]
  ] as const) {
    const failed = given(created, first).when(second).then('Failed.releasingStock', UNDOES)
    t.match(failed.context, { failureReason: 'AmountMismatch' })
    failed
      .when(paid())
      .when(released)
      .then('Failed.refunding', [RefundPayment])
      .when(refunded)
      .then('Failed.settled')
  }
  given(created, reserved()).when(reserved()).thenIgnored('stock was reserved before')
  given(created, reserved(), paid())
    .when(reserved({ total: 1 }))
    .thenIgnored('already completed, and this is another price: who beside stock names prices?')
  t.end()
})

t.test('what was paid before stock answered goes back when the order fails otherwise', (t) => {
  const early = given(created, paid())
  early
    .when(message(StockNotReservedEvent, { orderId, reason: 'OutOfStock' }))
    .then('Failed.refunding', [OrderFailedEvent, RefundPayment])
  early
    .advance('30s')
    .when(released)
    .then('Failed.refunding', [...UNDOES, RefundPayment])
  early
    .when({ type: CANCEL_ORDER })
    .when(released)
    .then('Failed.refunding', [...UNDOES, RefundPayment])
  t.end()
})

t.test(
  'an order under way on version 1 is held to it too; one that has ended stays as it was',
  (t) => {
    const first = { ...firstSaga(30), machine: orderMachine1(30) }
    const waiting = tell(first).given(created, reserved())
    t.equal(waiting.when(paid(1, 'XXX')).state, 'Completed', 'version 1 would have sold it')
    const failed = waiting
      .with(orderSaga(30))
      .when(paid(1, 'XXX'))
      .then('Failed.releasingStock', UNDOES)
    t.match(replay(orderSaga(30), failed.history, failed.row), {
      consistent: true,
      unknownVersions: 0
    })
    tell(first)
      .given(created)
      .with(orderSaga(30))
      .when(paid(1, 'XXX'))
      .when(reserved())
      .then('Failed.releasingStock', UNDOES)
    const completed = tell(first)
      .given(created, reserved(), paid())
      .with(orderSaga(30))
      .when(paid())
    t.match(completed.row, { state: 'Completed', machine_version: 1 })
    const newer = tell({ ...first, version: 3 }).given(created, reserved())
    t.throws(
      () => newer.with(orderSaga(30)).when(paid()),
      { name: 'Stranded' },
      'a newer one waits for its version'
    )
    t.end()
  }
)

t.test('on every path with several prices and amounts, what was done is undone', (t) => {
  const samples = {
    StockReservedEvent: [reserved().body, reserved({ total: 1 }).body],
    PaymentCompletedEvent: [paid().body, paid(1, 'XXX').body],
    PaymentFailedEvent: [message(PaymentFailedEvent, { orderId, reason: 'CardDeclined' }).body]
  }
  t.same(checkSaga(orderSaga(30), { samples }), [])
  t.end()
})

/** Everything, and a publisher on the broker who is none of the services. */
async function openShop(t: Test) {
  let gate!: GatedTransport
  const running = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  await running.api.putProduct('keyboard', 10, PRICE.total)
  const forge = (destination: string, type: string, body: object) => {
    const messageId = randomUUID()
    return gate.send({
      messageId,
      destination,
      required: true,
      payload: JSON.stringify({
        messageId,
        messageType: [`urn:message:Contracts:${type}`],
        message: body
      })
    })
  }
  return { ...running, gate, forge }
}

t.test('in the whole system', async (t) => {
  const { api, system, gate, forge } = await openShop(t)

  await t.test('a payment that nobody took sells nothing', async (t) => {
    gate.hold('stock', 'OrderCreatedEvent')
    const placed = await api.placeOrder()
    await forge('order', 'PaymentCompletedEvent', { orderId: placed, amount: 1, currency: 'XXX' })
    await until(
      'it is kept for later',
      async () => (await api.get(`/sagas/${placed}`)).version === 2
    )
    gate.release('stock', 'OrderCreatedEvent')
    t.match(await api.settled(placed), { state: 'Failed.settled' })
    t.match(await api.get(`/orders/${placed}`), {
      status: 'Failed',
      failureReason: 'AmountMismatch'
    })
    await settled(watched(system, gate))
    t.match(
      await api.get(`/payments/${placed}`),
      { status: /^(Refunded|Cancelled)$/ },
      'what payment took is given back'
    )
    t.match(await api.get('/products/keyboard'), { onHand: 10, reserved: 0 })
  })

  await t.test(
    'payment charges what the first reservation says, and another price is a dead letter',
    async (t) => {
      const placed = await api.placeOrder()
      t.match(await api.settled(placed), { state: 'Completed' })
      const payment = await api.get(`/payments/${placed}`)
      await forge('payment', 'StockReservedEvent', {
        ...order,
        orderId: placed,
        total: 1,
        currency: 'EUR'
      })
      const {
        items: [letter]
      } = await until('it is a dead letter', async () => {
        const page = await api.get('/ops/payment/dead-letters')
        return page.items.length === 1 && page
      })
      t.match(letter, {
        type: 'StockReservedEvent',
        exception: 'OtherPrice',
        reason: new RegExp(
          `order ${placed} is to be paid 8900000 EUR.*expected the same, and this one says 1 EUR`
        )
      })
      t.same(await api.get(`/payments/${placed}`), payment)
      await forge('payment', 'StockReservedEvent', { ...order, orderId: placed, ...PRICE })
      await settled(watched(system, gate))
      t.match(
        await api.get(`/sagas/${placed}`),
        {
          state: 'Completed',
          history: [
            {},
            {},
            {},
            { event: 'PaymentCompletedEvent', note: 'ignored: already completed' }
          ]
        },
        'the same again is answered again'
      )
    }
  )

  await t.test('an order that was cancelled before is told so, whatever its price', async (t) => {
    const nobody = randomUUID()
    await forge('payment', 'RefundPayment', { orderId: nobody })
    await until(
      'it will never be charged',
      async () => (await api.call('GET', `/payments/${nobody}`)).body.status === 'Cancelled'
    )
    await forge('payment', 'StockReservedEvent', { ...order, orderId: nobody, ...PRICE })
    await settled(watched(system, gate))
    t.match(await api.get(`/payments/${nobody}`), { status: 'Cancelled', amount: 0 })
    t.equal((await api.get('/ops/payment/dead-letters')).items.length, 1)
  })

  await t.test(
    'a price that changes between reservation and payment changes nothing',
    async (t) => {
      gate.hold('payment', 'StockReservedEvent')
      const placed = await api.placeOrder()
      await until(
        'it is priced',
        async () => (await api.get(`/sagas/${placed}`)).state === 'Suspend.takingPayment'
      )
      await api.putProduct('keyboard', 5, 1, 'USD')
      gate.release('payment', 'StockReservedEvent')
      t.match(await api.settled(placed), { state: 'Completed' })
      t.match(await api.get(`/orders/${placed}`), PRICE)
      t.match(await api.get(`/payments/${placed}`), { amount: PRICE.total, currency: 'EUR' })
    }
  )

  await t.test('negative totals, fractions and small letters are no prices', async (t) => {
    const placed = await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })
    await until(
      'it is priced',
      async () => (await api.get(`/sagas/${placed}`)).state === 'Suspend.takingPayment'
    )
    const before = (await api.get('/ops/order/dead-letters')).items.length
    const bad = [
      { amount: -1, currency: 'USD' },
      { amount: 0.5, currency: 'USD' },
      { amount: 1, currency: 'usd' },
      { amount: 2 ** 53, currency: 'USD' },
      { amount: '1', currency: 'USD' }
    ]
    for (const body of bad)
      await forge('order', 'PaymentCompletedEvent', { orderId: placed, ...body })
    await until(
      'each is a dead letter',
      async () => (await api.get('/ops/order/dead-letters')).items.length === before + bad.length
    )
    t.match(await api.get(`/sagas/${placed}`), { state: 'Suspend.takingPayment' })
    await advance(orderSagas(system), '30s', [placed])
    t.match(await api.settled(placed), { state: 'Failed.settled' })
  })
})
