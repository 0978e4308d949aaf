import t from 'tap'
import { createMachine, setup } from 'xstate'
import Type from 'typebox'
import { OrderCreatedEvent } from '../src/contracts/order.ts'
import { StockReservedEvent } from '../src/contracts/stock.ts'
import { event, message } from '../src/messaging/message.ts'
import { orderSaga } from '../src/order/saga.ts'
import { defineSaga } from '../src/saga/define.ts'
import { acceptedEvents, describe } from '../src/saga/diagram.ts'
import { SagaInstance } from '../src/saga/instance.ts'
import { replay } from '../src/saga/replay.ts'
import { begin, step } from '../src/saga/step.ts'
import { startSystem } from './support/system.ts'
import { until } from './support/until.ts'

const ORDER_ID = '01890000-0000-7000-8000-000000000001'
const created = () => message(OrderCreatedEvent, { orderId: ORDER_ID, customerId: 'ada', items: [{ productId: 'keyboard', quantity: 1 }], paymentMethod: 'pm_card_visa' })
const NOW = new Date('2026-01-01T00:00:00Z')

t.test('a field named type in a body does not pass for another event', async (t) => {
  const instance = SagaInstance.start(orderSaga(30), created(), NOW)
  const body = { orderId: ORDER_ID, customerId: 'ada', items: [], total: 1, currency: 'EUR', paymentMethod: 'pm_card_visa', type: 'PaymentCompletedEvent' }
  const reserved = message(StockReservedEvent, body)
  instance.apply(reserved, NOW)
  t.equal(instance.toRow().state, 'Suspend.takingPayment')
  t.throws(() => event('TypedEvent', { owner: 'order', correlateBy: 'orderId', schema: Type.Object({ orderId: Type.String(), type: Type.String() }) }), /a field named type/)
})

t.test('timers count from the given time, fire when due, and go when their state is left', async (t) => {
  const saga = orderSaga(30)
  const instance = SagaInstance.start(saga, created(), NOW)
  t.match(instance.toRow().timers, [{ dueAt: '2026-01-01T00:00:30.000Z' }])
  instance.fire(new Date('2026-01-01T00:00:29.999Z'))
  t.equal(instance.toRow().state, 'Suspend.reservingStock')
  instance.fire(new Date('2026-01-01T00:00:30Z'))
  t.match(instance.toRow(), { state: 'Failed.releasingStock', timers: [{ id: 'xstate.after.resend.order.Failed.releasingStock', dueAt: '2026-01-01T00:01:00.000Z' }] })
  t.equal(instance.toRow().timers.length, 1)
  t.same(instance.sent.map(({ contract }) => contract.name), ['OrderFailedEvent', 'ReleaseStock'])
  t.match(replay(saga, instance.history, instance.toRow()), { consistent: true, steps: 2 })
})

t.test('replay names the first step at which the machine goes another way', async (t) => {
  const saga = orderSaga(30)
  const instance = SagaInstance.start(saga, created(), NOW)
  instance.fire(new Date('2026-01-01T00:01:00Z'))
  const [first, second] = instance.history
  t.match(replay(saga, [first!, { ...second!, to_state: 'Failed.settled' }], instance.toRow()).firstDifference, { sequence: 2, what: 'state', recorded: 'Failed.settled', replayed: 'Failed.releasingStock' })
  t.match(replay(saga, [first!, { ...second!, sent: [] }], instance.toRow()).firstDifference, { sequence: 2, what: 'messages' })
  t.match(replay(saga, instance.history, { ...instance.toRow(), context: {} }).firstDifference, { what: 'context' })
})

t.test('what cannot survive a restart is refused when the saga is declared', async (t) => {
  const declare = (machine: Parameters<typeof defineSaga>[0]['machine']) => defineSaga({ name: 'bad', machine, startedBy: OrderCreatedEvent, handles: [] })
  t.throws(() => declare(createMachine({ type: 'parallel', states: { a: {}, b: {} } })), /parallel/)
  t.throws(() => declare(createMachine({ initial: 'a', states: { a: { invoke: { src: 'x' } } } })), /invokes an actor/)
  const acting = setup({ actions: { shout() {} } }).createMachine({ initial: 'a', states: { a: { entry: 'shout' } } })
  t.throws(() => begin(acting, {}), /Action shout has no meaning/)
})

t.test('a timer that is started and left in one step, or an event raised at once, leaves no timer', async (t) => {
  const passing = createMachine({ initial: 'a', states: { a: { on: { GO: 'b' } }, b: { after: { 1000: 'a' }, always: 'c' }, c: {} } })
  const first = begin(passing, {})
  t.match(step(passing, first.snapshot, { type: 'GO' }), { to: 'c', timersStarted: [] })
})

t.test('the order machine describes itself', async (t) => {
  const saga = orderSaga(30)
  const { states, events, mermaid } = describe(saga)
  t.same(states, ['Suspend.reservingStock', 'Suspend.takingPayment', 'Completed', 'Failed.releasingStock', 'Failed.refunding', 'Failed.settled'])
  t.ok(events.includes('after deadline'))
  t.match(mermaid, /^stateDiagram-v2\n {2}\[\*\] --> Suspend\n/)
  t.same(acceptedEvents(saga, 'Failed.refunding'), ['PaymentRefundedEvent', 'after resend'])
  t.same(acceptedEvents(saga, 'Completed'), [])
})

t.test('an instance that the machine cannot load does not stop the deadlines of others', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'], settings: { deadlineSeconds: 1000 } })
  const [stranded, healthy] = [await api.placeOrder(), await api.placeOrder()]
  const { dataSource } = system.service('order')
  await dataSource.query(`update saga set value = '"Nowhere"' where saga_id = $1`, [stranded])
  await dataSource.query(`update saga set next_timer_at = now() - (case saga_id when $1 then 2 else 1 end) * interval '1 second', timers = jsonb_set(timers, '{0,dueAt}', to_jsonb(now()))`, [stranded])
  await until('the healthy order has failed', async () => (await api.get(`/orders/${healthy}`)).status === 'Failed')
  const [row]: { later: boolean }[] = await dataSource.query('select next_timer_at > now() as later from saga where saga_id = $1', [stranded])
  t.ok(row?.later, 'the stranded one is tried again later')
})
