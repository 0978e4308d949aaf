import t from 'tap'
import {
  OrderCompletedEvent,
  OrderCreatedEvent,
  OrderFailedEvent
} from '../../src/contracts/order.ts'
import { PaymentCompletedEvent, RefundPayment } from '../../src/contracts/payment.ts'
import { ReleaseStock, StockReservedEvent } from '../../src/contracts/stock.ts'
import { message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { CANCEL_ORDER } from '../../src/saga/machine.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { milliseconds } from '../../packages/sagabox/src/messaging/message/duration.ts'
import { tell } from '../../packages/sagabox/src/testing/story.ts'

const orderId = '01890000-0000-7000-8000-000000000001'
const order = {
  orderId,
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const created = message(OrderCreatedEvent, order)
const reserved = message(StockReservedEvent, { ...order, total: 8900, currency: 'EUR' })
const paid = message(PaymentCompletedEvent, { orderId, amount: 8900, currency: 'EUR' })

const { given, when } = tell(orderSaga(30))

t.test('a story is held to the state and to all that was sent since the last look', (t) => {
  const completed = given(created, reserved).when(paid).then('Completed', [OrderCompletedEvent])
  completed.then('Completed')
  when(created).then('Suspend.reservingStock')
  t.match(completed.context, { total: 8900 })
  given(created, reserved)
    .when(paid)
    .then('Completed', [
      message(OrderCompletedEvent, { orderId, customerId: 'ada', total: 8900, currency: 'EUR' })
    ])
  t.throws(
    () =>
      given(created, reserved)
        .when(paid)
        .then('Completed', [
          message(OrderCompletedEvent, { orderId, customerId: 'ada', total: 1, currency: 'EUR' })
        ]),
    /"total":1,.*\n.*"total":8900/
  )
  t.end()
})

t.test('what is not as expected is told with the whole history', (t) => {
  t.throws(() => given(created, reserved).advance('31s').then('Completed', [OrderCompletedEvent]), {
    name: 'AssertionError',
    message: `Expected Completed, sent OrderCompletedEvent
     Got Failed.releasingStock, sent OrderFailedEvent, ReleaseStock
History
  +0s  OrderCreatedEvent  - -> Suspend.reservingStock
  +0s  StockReservedEvent  Suspend.reservingStock -> Suspend.takingPayment
  +30s  after deadline  Suspend.takingPayment -> Failed.releasingStock  sends OrderFailedEvent, ReleaseStock
Timers
  in 29s  after resend`
  })
  t.end()
})

t.test('time passes only when it is told to, and timers fire at their own times', (t) => {
  const late = given(created)
    .advance('29.999s')
    .then('Suspend.reservingStock')
    .advance('1ms')
    .then('Failed.releasingStock', [OrderFailedEvent, ReleaseStock])
  late.advance('5m').then('Failed.releasingStock', [ReleaseStock, ReleaseStock, ReleaseStock])
  t.same(late.timers, [{ event: 'after resend', dueInMs: 30_000 }])
  t.end()
})

t.test('a story can be told on in several ways', (t) => {
  const waiting = given(created, reserved)
  waiting.when(paid).then('Completed', [OrderCompletedEvent])
  waiting
    .when({ type: CANCEL_ORDER })
    .then('Failed.releasingStock', [OrderFailedEvent, ReleaseStock])
  t.equal(waiting.state, 'Suspend.takingPayment')
  t.end()
})

t.test('a copy of a message is dropped, the same news under another id is not', (t) => {
  const completed = given(created, reserved, paid)
  t.equal(completed.when(paid).history.length, 3)
  completed.when(message(PaymentCompletedEvent, paid.body)).thenIgnored('already completed')
  t.throws(
    () => completed.when(message(PaymentCompletedEvent, paid.body)).thenIgnored('too late'),
    /Expected PaymentCompletedEvent to be ignored: too late\n {5}Got ignored: already completed/
  )
  t.throws(
    () => given(created, reserved).when(paid).thenIgnored(),
    /Got handled: Suspend.takingPayment -> Completed/
  )
  t.end()
})

t.test('what could not happen is refused', (t) => {
  t.throws(
    () => given(reserved),
    /order is started by OrderCreatedEvent, not by StockReservedEvent/
  )
  t.throws(
    () => given(created).when(message(RefundPayment, { orderId })),
    /RefundPayment never reaches order/
  )
  t.throws(
    () =>
      given(created).when(
        message(PaymentCompletedEvent, {
          ...paid.body,
          orderId: '01890000-0000-7000-8000-000000000002'
        })
      ),
    /give both the same orderId/
  )
  t.throws(
    () =>
      given(created).when(
        message(PaymentCompletedEvent, { ...paid.body, amount: 'much' as unknown as number })
      ),
    /PaymentCompletedEvent cannot be sent: amount must be integer/
  )
  t.throws(() => given(created).advance('soon'), /"soon" is no duration/)
  t.throws(() => given(created).then((() => {}) as unknown as string), /A story is no promise/)
  t.end()
})

t.test('durations', (t) => {
  t.same(
    ['500ms', '31s', '1.5m', '2h', '1d', 7].map(milliseconds),
    [500, 31_000, 90_000, 7_200_000, 86_400_000, 7]
  )
  for (const wrong of ['', '31', '-1s', '1w', Number.NaN, -1])
    t.throws(() => milliseconds(wrong), /is no duration/)
  t.end()
})
