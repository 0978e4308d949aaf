import t from 'tap'
import { createMachine, setup } from 'xstate'
import Type from 'typebox'
import { OrderCreatedEvent, OrderFailedEvent } from '../../src/contracts/order.ts'
import { ReleaseStock, StockReservedEvent } from '../../src/contracts/stock.ts'
import { event, message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import type { SagaDefinition } from '../../packages/sagabox/src/saga/define.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'
import { describe } from '../../packages/sagabox/src/saga/inspect/diagram.ts'
import { acceptedEvents, timedStatesOf } from '../../packages/sagabox/src/saga/machine/states.ts'
import { replay } from '../../packages/sagabox/src/saga/inspect/replay.ts'
import { begin, step } from '../../packages/sagabox/src/saga/machine/step.ts'
import { tell } from '../../packages/sagabox/src/testing/story.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

const ORDER_ID = '01890000-0000-7000-8000-000000000001'
const order = {
  orderId: ORDER_ID,
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const saga = orderSaga(30)
const placed = tell(saga).given(message(OrderCreatedEvent, order))

t.test('a field named type in a body does not pass for another event', (t) => {
  const body = { ...order, total: 1, currency: 'EUR', type: 'PaymentCompletedEvent' }
  placed.when(message(StockReservedEvent, body)).then('Suspend.takingPayment')
  t.throws(
    () =>
      event('TypedEvent', {
        owner: 'order',
        correlateBy: 'orderId',
        schema: Type.Object({ orderId: Type.String(), type: Type.String() })
      }),
    /a field named type/
  )
  t.end()
})

t.test('timers count from the start, fire when due, and go when their state is left', (t) => {
  t.same(placed.timers, [{ event: 'after deadline', dueInMs: 30_000 }])
  const waiting = placed.advance('29.999s').then('Suspend.reservingStock')
  const failed = waiting
    .advance('1ms')
    .then('Failed.releasingStock', [OrderFailedEvent, ReleaseStock])
  t.same(failed.timers, [{ event: 'after resend', dueInMs: 30_000 }])
  t.match(replay(saga, failed.history, failed.row), { consistent: true, steps: 2 })
  t.end()
})

t.test('replay names the first step at which the machine goes another way', (t) => {
  const { history, row } = placed.advance('30s')
  const [first, second] = history
  t.match(replay(saga, [first!, { ...second!, to_state: 'Failed.settled' }], row).firstDifference, {
    sequence: 2,
    what: 'state',
    recorded: 'Failed.settled',
    replayed: 'Failed.releasingStock'
  })
  t.match(replay(saga, [first!, { ...second!, sent: [] }], row).firstDifference, {
    sequence: 2,
    what: 'messages'
  })
  t.match(replay(saga, history, { ...row, context: {} }).firstDifference, { what: 'context' })
  t.end()
})

t.test('what cannot survive a restart is refused when the saga is declared', async (t) => {
  const declare = (machine: Parameters<typeof defineSaga>[0]['machine']) =>
    defineSaga({ name: 'bad', machine, startedBy: OrderCreatedEvent, handles: [] })
  t.throws(() => declare(createMachine({ type: 'parallel', states: { a: {}, b: {} } })), /parallel/)
  t.throws(
    () => declare(createMachine({ initial: 'a', states: { a: { invoke: { src: 'x' } } } })),
    /invokes an actor/
  )
  const acting = setup({ actions: { shout() {} } }).createMachine({
    initial: 'a',
    states: { a: { entry: 'shout' } }
  })
  t.throws(() => begin(acting, {}), /Action shout has no meaning/)
})

t.test(
  'a timer that is started and left in one step, or an event raised at once, leaves no timer',
  async (t) => {
    const passing = createMachine({
      initial: 'a',
      states: { a: { on: { GO: 'b' } }, b: { after: { 1000: 'a' }, always: 'c' }, c: {} }
    })
    const first = begin(passing, {})
    t.match(step(passing, first.snapshot, { type: 'GO' }), { to: 'c', timersStarted: [] })
  }
)

t.test('an event that only starts a timer again is taken', async (t) => {
  const waiting = createMachine({
    initial: 'a',
    states: {
      a: { on: { EXTEND: { target: 'a', reenter: true }, LOOK: {} }, after: { 1000: 'b' } },
      b: {}
    }
  })
  const { snapshot } = begin(waiting, {})
  t.match(step(waiting, snapshot, { type: 'EXTEND' }), {
    decision: 'handled',
    from: 'a',
    to: 'a',
    timersStarted: [{ delayMs: 1000 }]
  })
  t.match(step(waiting, snapshot, { type: 'UNKNOWN' }), {
    decision: 'undecided',
    timersStarted: []
  })
})

t.test('which states always have a timer', async (t) => {
  const timed = (states: object, after?: object) =>
    timedStatesOf({
      machine: createMachine({ initial: 'a', states, ...(after && { after }) } as never)
    } as unknown as SagaDefinition)
  t.same(timedStatesOf(saga), [
    'Suspend.reservingStock',
    'Suspend.takingPayment',
    'Failed.releasingStock',
    'Failed.refunding'
  ])
  t.same(timed({ a: { after: { 1000: 'b' } }, b: {} }), ['a'])
  t.same(timed({ a: { after: { 1000: { target: 'a', reenter: true } } } }), ['a'])
  t.same(timed({ a: { after: { 1000: 'a' } } }), [], 'it stays, and its timer is spent')
  t.same(timed({ a: { after: { 1000: { actions: [] } } } }), [])
  t.same(
    timed({ a: { initial: 'x', after: { 1000: '.y' }, states: { x: {}, y: {} } } }),
    [],
    'it is reminded once'
  )
  t.same(timed({ a: { initial: 'x', after: { 1000: 'b' }, states: { x: {}, y: {} } }, b: {} }), [
    'a.x',
    'a.y'
  ])
  t.same(
    timed({ a: { after: { 1000: { target: 'b', guard: () => false } } }, b: {} }),
    [],
    'a guard may spend it'
  )
  t.same(timed({ a: {}, b: {} }, { 1000: '.b' }), [], 'the machine itself is never left')
})

t.test('the order machine describes itself', async (t) => {
  const { states, events, mermaid } = describe(saga)
  t.same(states, [
    'Suspend.reservingStock',
    'Suspend.takingPayment',
    'Completed',
    'Failed.releasingStock',
    'Failed.refunding',
    'Failed.settled'
  ])
  t.ok(events.includes('after deadline'))
  t.match(mermaid, /^stateDiagram-v2\n {2}\[\*\] --> Suspend\n/)
  t.same(acceptedEvents(saga, 'Failed.refunding'), ['PaymentRefundedEvent', 'after resend'])
  t.same(acceptedEvents(saga, 'Completed'), [])
})

t.test(
  'an instance that the machine cannot load does not stop the deadlines of others',
  async (t) => {
    const { api, system } = await startSystem(t, 'memory', {
      services: ['order'],
      settings: { deadlineSeconds: 1000 }
    })
    const [stranded, healthy] = [await api.placeOrder(), await api.placeOrder()]
    const { database } = system.service('order')
    await database.rows(`update saga set value = '"Nowhere"' where saga_id = $1`, [stranded])
    await database.rows(
      `
        update saga set next_timer_at = now() - (case saga_id when $1 then 2 else 1 end) * interval '1 second', timers = jsonb_set(timers, '{0,dueAt}', to_jsonb(now()))`,
      [stranded]
    )
    await until(
      'the healthy order has failed',
      async () => (await api.get(`/orders/${healthy}`)).status === 'Failed'
    )
    const [row]: { later: boolean }[] = await database.rows(
      'select next_timer_at > now() as later from saga where saga_id = $1',
      [stranded]
    )
    t.ok(row?.later, 'the stranded one is tried again later')
  }
)
