import t from 'tap'
import { createMachine } from 'xstate'
import {
  OrderCompletedEvent,
  OrderCreatedEvent,
  OrderFailedEvent
} from '../../src/contracts/order.ts'
import { PaymentCompletedEvent } from '../../src/contracts/payment.ts'
import { ReleaseStock, StockReservedEvent } from '../../src/contracts/stock.ts'
import { message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { orderMachine } from '../../src/saga/machine.ts'
import { defer, sagaActions, type SagaDefinition } from '../../packages/sagabox/src/saga/define.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'
import { replay } from '../../packages/sagabox/src/saga/inspect/replay.ts'
import { tell } from '../../packages/sagabox/src/testing/story.ts'
import { firstSaga, renamedSaga, toCharging } from '../support/renamed-state.ts'

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

/** Under way on version 1, in the state that version 2 has renamed. */
const waiting = tell(firstSaga(30)).given(created, reserved)

t.test('an instance remembers its version, and so does every step', (t) => {
  t.equal(waiting.row.machine_version, 1)
  const { row, history } = tell(renamedSaga({ version: 2 })).given(created, reserved)
  t.match(row, { state: 'Suspend.charging', machine_version: 2 })
  t.same(
    history.map((step) => step.machine_version),
    [2, 2]
  )
  t.end()
})

t.test('side by side: each instance is moved by the machine of its own version', (t) => {
  const saga = renamedSaga({ version: 2, previous: { 1: orderMachine(30) } })
  const completed = waiting.with(saga).when(paid).then('Completed', [OrderCompletedEvent])
  t.same(
    completed.history.map((step) => step.machine_version),
    [1, 1, 1]
  )
  waiting.with(saga).advance('31s').then('Failed.releasingStock', [OrderFailedEvent, ReleaseStock])
  tell(saga).given(created, reserved).then('Suspend.charging')
  t.end()
})

t.test('migrate moves an instance before its next event, as a step of its own', (t) => {
  const saga = renamedSaga({ version: 2, migrate: toCharging })
  const completed = waiting.with(saga).when(paid).then('Completed', [OrderCompletedEvent])
  t.match(completed.history.slice(1), [
    { event: 'StockReservedEvent', machine_version: 1 },
    {
      sequence: 3,
      event: 'migrate',
      body: { from: 1, value: { Suspend: 'charging' }, context: { total: 8900 } },
      from_state: 'Suspend.takingPayment',
      to_state: 'Suspend.charging',
      sent: [],
      machine_version: 2,
      message_id: null
    },
    {
      sequence: 4,
      event: 'PaymentCompletedEvent',
      from_state: 'Suspend.charging',
      machine_version: 2
    }
  ])
  t.equal(completed.row.machine_version, 2)
  t.match(replay(saga, completed.history, completed.row), {
    consistent: true,
    steps: 4,
    unknownVersions: 2
  })
  t.match(
    replay({ ...saga, previous: { 1: orderMachine(30) } }, completed.history, completed.row),
    { consistent: true, unknownVersions: 0 }
  )
  t.end()
})

t.test(
  'a replay notices when a kept machine or the machine after a migration goes another way',
  (t) => {
    const saga = renamedSaga({ version: 2, migrate: toCharging })
    const { history, row } = waiting.with(saga).when(paid)
    t.match(replay({ ...saga, previous: { 1: saga.machine } }, history, row).firstDifference, {
      sequence: 2,
      what: 'state',
      recorded: 'Suspend.takingPayment',
      replayed: 'Suspend.charging'
    })
    t.match(replay(saga, history.with(3, { ...history[3]!, sent: [] }), row).firstDifference, {
      sequence: 4,
      what: 'messages'
    })
    t.end()
  }
)

t.test('a migrated instance keeps the time of a timer whose delay the new state has too', (t) => {
  const saga = renamedSaga({ version: 2, migrate: toCharging })
  waiting
    .advance('20s')
    .with(saga)
    .advance('9.999s')
    .then('Suspend.takingPayment')
    .advance('1ms')
    .then('Failed.releasingStock', [OrderFailedEvent, ReleaseStock])
  t.end()
})

const trip = (
  version: number,
  machine: SagaDefinition['machine'],
  more: Partial<SagaDefinition> = {}
) =>
  defineSaga({
    name: 'trip',
    startedBy: OrderCreatedEvent,
    handles: [StockReservedEvent],
    version,
    machine,
    ...more
  })
const booking = createMachine({
  id: 'trip',
  initial: 'Booking',
  states: {
    Booking: { on: { StockReservedEvent: 'Booked' }, after: { 60_000: 'GivenUp' } },
    Booked: {},
    GivenUp: {}
  }
})
const confirming = createMachine({
  id: 'travel',
  initial: 'Confirming',
  states: {
    Confirming: {
      initial: 'asking',
      states: { asking: {} },
      on: { StockReservedEvent: 'Booked' },
      after: { 60_000: 'GivenUp', 90_000: 'Booked' }
    },
    Booked: {},
    GivenUp: {}
  }
})

t.test(
  'timers of a migrated instance: one of the same delay goes on under its new name, one that is missing starts, others go',
  (t) => {
    const { timers, row } = tell(trip(1, booking))
      .given(created)
      .advance('10s')
      .with(trip(2, confirming, { migrate: ({ context }) => ({ value: 'Confirming', context }) }))
      .when(message(StockReservedEvent, reserved.body))
    t.same({ state: row.state, timers }, { state: 'Booked', timers: [] })
    const moved = tell(trip(1, booking))
      .given(created)
      .advance('10s')
      .with(
        trip(
          2,
          createMachine({
            ...confirming.config,
            states: {
              ...confirming.config.states,
              Confirming: {
                ...confirming.config.states!.Confirming,
                on: { StockReservedEvent: {} }
              }
            }
          }),
          { migrate: ({ context }) => ({ value: 'Confirming', context }) }
        )
      )
      .when(reserved)
    t.same(moved.timers, [
      { event: 'after 60000', dueInMs: 50_000 },
      { event: 'after 90000', dueInMs: 90_000 }
    ])
    t.match(moved.row, {
      state: 'Confirming.asking',
      timers: [
        {
          id: 'xstate.after.60000.travel.Confirming',
          event: 'xstate.after.60000.travel.Confirming'
        },
        {}
      ]
    })
    const rescheduled = tell(trip(1, booking))
      .given(created)
      .with(
        trip(2, confirming, {
          migrate: ({ context }) => ({ value: 'Confirming', context, timers: [] })
        })
      )
    t.equal(rescheduled.advance('60s').row.timers.length, 2, 'counted from the migration')
    t.end()
  }
)

t.test('timers of one delay on two levels are not mistaken for each other', (t) => {
  const twice = (id: string, inner: string) =>
    createMachine({
      id,
      initial: 'Outer',
      states: {
        Outer: {
          initial: inner,
          after: { 60_000: 'Late' },
          states: {
            [inner]: { on: { StockReservedEvent: 'next' } },
            next: { after: { 60_000: '#' + id + '.Late' } }
          }
        },
        Late: {}
      }
    })
  const before = tell(trip(1, twice('trip', 'first')))
    .given(created)
    .advance('10s')
    .when(reserved)
  t.same(
    before.timers.map(({ dueInMs }) => dueInMs),
    [50_000, 60_000]
  )
  const dues = (machine: SagaDefinition['machine']) =>
    before
      .with(
        trip(2, machine, {
          migrate: ({ value, context, timers }) => ({ value, context, timers: timers.toReversed() })
        })
      )
      .when(message(StockReservedEvent, reserved.body)).row.timers
  const of = (timers: ReturnType<typeof dues>, end: string) =>
    timers.find(({ id }) => id.endsWith(end))!.dueAt
  const same = dues(twice('trip', 'first'))
  t.same(
    [of(same, '.Outer'), of(same, '.next')],
    ['2026-01-01T00:01:00.000Z', '2026-01-01T00:01:10.000Z']
  )
  t.equal(
    new Set(dues(twice('travel', 'first')).map(({ dueAt }) => dueAt)).size,
    2,
    'under other ids each is taken once'
  )
  t.end()
})

t.test('a timer that starts with the migration takes its delay from the machine', (t) => {
  const saga = renamedSaga(
    { version: 2, migrate: (snapshot, from) => ({ ...toCharging!(snapshot, from)!, timers: [] }) },
    45
  )
  t.same(
    waiting.advance('20s').with(saga).when(message(StockReservedEvent, reserved.body)).timers,
    [{ event: 'after deadline', dueInMs: 45_000 }]
  )
  t.end()
})

t.test('migrate is not asked about an instance of today', (t) => {
  const saga = renamedSaga({
    version: 2,
    migrate() {
      throw new Error('asked')
    }
  })
  tell(saga).given(created, reserved).when(paid).then('Completed', [OrderCompletedEvent])
  t.end()
})

t.test(
  'what was deferred comes again, and what was stuck is not, once an instance was migrated',
  (t) => {
    const machine = (early: object) =>
      createMachine({
        id: 'trip',
        initial: 'Waiting',
        states: {
          Waiting: {
            on: { StockReservedEvent: early, OrderFailedEvent: {} },
            after: { 60_000: { target: 'Waiting', reenter: true } }
          },
          Booked: {}
        }
      } as never).provide({ actions: sagaActions } as never) as SagaDefinition['machine']
    const more = { handles: [StockReservedEvent, OrderFailedEvent] }
    const kept = tell(trip(1, machine(defer()), more))
      .given(created, reserved)
      .advance('61s')
    t.match(kept.row, {
      state: 'Waiting',
      deferred: [{ event: { type: 'StockReservedEvent' } }],
      stuck_since: Date
    })
    const saga = trip(2, machine({ target: 'Booked' }), {
      ...more,
      migrate: ({ value, context }) => ({ value, context })
    })
    const moved = kept.with(saga).advance('2m').then('Booked')
    t.match(moved.history.slice(-2), [
      { event: 'migrate', to_state: 'Waiting' },
      { event: 'StockReservedEvent', note: 'deferred earlier', to_state: 'Booked' }
    ])
    t.same(moved.row.deferred, null)
    const still = kept
      .with({ ...saga, machine: machine(defer()) })
      .when(message(StockReservedEvent, reserved.body))
    t.match(still.row, { state: 'Waiting', stuck_since: null, machine_version: 2 })
    t.end()
  }
)

t.test('without a migration, steps after those of an unknown version cannot be folded', (t) => {
  const { history, row } = waiting.when(paid)
  const [first, ...others] = history
  t.match(replay(firstSaga(30), [{ ...first!, machine_version: 7 }, ...others], row), {
    consistent: true,
    unknownVersions: 3,
    state: 'Completed'
  })
  t.end()
})

t.test('migrate may leave an instance to the machine of its own version', (t) => {
  const saga = renamedSaga({
    version: 3,
    previous: { 1: orderMachine(30) },
    migrate: () => undefined
  })
  t.equal(
    waiting.with(saga).when(paid).then('Completed', [OrderCompletedEvent]).row.machine_version,
    1
  )
  t.throws(
    () => waiting.with({ ...saga, previous: {} }).when(paid),
    /keep that machine under previous, or let migrate bring it to version 3/
  )
  t.end()
})

t.test('what no machine can move says which instance, which version, and what to do', (t) => {
  const fails = (saga: SagaDefinition, why: RegExp) =>
    t.throws(() => waiting.with(saga).when(paid), { name: 'Stranded', message: why })
  fails(
    renamedSaga({}),
    /^order saga 01890000-0000-7000-8000-000000000001 is in Suspend.takingPayment, which version 1 of its machine lacks: raise the version, and keep the machine that has it under previous or let migrate bring the instance over$/
  )
  fails(
    renamedSaga({ version: 2 }),
    /^order saga 01890000-.* is on version 1 of its machine, in Suspend.takingPayment: keep that machine under previous, or let migrate bring it to version 2$/
  )
  fails(
    renamedSaga({ version: 2, migrate: ({ value, context }) => ({ value, context }) }),
    /cannot be migrated from version 1 to 2, in Suspend.takingPayment: .*takingPayment.* does not exist/
  )
  fails(
    renamedSaga({ version: 2, migrate: () => ({ value: 'Completed' }) as never }),
    /cannot be migrated .*: expected \{ value, context \}/
  )
  t.throws(
    () =>
      tell(renamedSaga({ version: 2 }))
        .given(created)
        .with(firstSaga(30))
        .when(paid),
    /is on version 2 of its machine, and this process has version 1: run version 2/
  )
  t.throws(
    () =>
      tell(trip(1, booking))
        .given(created)
        .with(
          trip(
            1,
            createMachine({
              id: 'trip',
              initial: 'Booking',
              states: { Booking: { initial: 'asking', states: { asking: {} } } }
            })
          )
        )
        .when(reserved),
    /is in Booking, which version 1 of its machine lacks/
  )
  t.end()
})

t.test('versions that make no sense are refused when the saga is declared', (t) => {
  t.throws(() => trip(0, booking), /Saga trip: a version must be a whole number from 1, not 0/)
  t.throws(() => trip(1.5, booking), /not 1.5/)
  t.throws(() => trip(2, booking, { previous: { 2: booking } }), /version 2 is machine itself/)
  t.throws(
    () =>
      trip(2, booking, {
        previous: { 1: createMachine({ type: 'parallel', states: { a: {}, b: {} } }) }
      }),
    /parallel/
  )
  t.throws(
    () => trip(2, booking, { asks: ['migrate'] }),
    /migrate is what histories call a migration/
  )
  t.end()
})
