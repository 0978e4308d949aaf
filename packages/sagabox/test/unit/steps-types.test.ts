// What the types of steps must refuse: each @ts-expect-error is an error when nothing is wrong.
import t from 'tap'
import Type from 'typebox'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'

const Id = Type.String()
const { event, command } = contracts('shop', { correlateBy: 'id' })
const Started = event('Started', { id: Id, hotel: Id, nights: Type.Integer() })
const Reserve = command('Reserve', { id: Id, name: Id, note: Type.Optional(Id) })
const ReserveSame = command('ReserveSame', { id: Id, hotel: Id })
const Reserved = event('Reserved', { id: Id, room: Id })
const Refused = event('Refused', { id: Id, reason: Id })
const Cancel = command('Cancel', { id: Id })
const CancelRoom = command('CancelRoom', { id: Id, room: Id })
const Cancelled = event('Cancelled', { id: Id })
const Closed = event('Closed', { id: Id, since: Id })
const Failed = event('Failed', { id: Id, reason: Id })
const Ended = event('Ended', { id: Id })

t.test('what is right compiles, and is a saga that checkSaga finds nothing in', async (t) => {
  const saga = defineSaga('right', {
    startedBy: Started,
    context: ({ id, hotel, nights }) => ({ id, hotel, nights, room: '' }),
    within: '1m',
    handles: [Closed],
    on: { Closed: { set: (_, { since }) => ({ hotel: since }), giveUp: 'closed' } },
    steps: ({ step, all }) => [
      all([
        step('same', { do: ReserveSame, done: Refused, when: ({ nights }) => nights > 0 }),
        step('room', {
          do: Reserve.with(({ hotel }) => ({ name: hotel })),
          done: Reserved,
          set: (_, { room }) => ({ room }),
          undo: CancelRoom,
          undone: Cancelled
        })
      ])
    ],
    completed: Ended,
    // Outside of steps() the context is not known yet: what is needed of it is written down.
    failed: Failed.with(({ reason }: { id: string; reason: string }) => ({
      reason: `it failed: ${reason}`
    }))
  })
  t.same(checkSaga(saga), [])
})

t.test('what is wrong does not compile', async (t) => {
  const wrong = () => [
    defineSaga('wrong', {
      startedBy: Started,
      steps: ({ step }) => [
        // @ts-expect-error -- the context has no name
        step('a', { do: Reserve, done: Reserved }),
        // @ts-expect-error -- name is missing
        step('b', { do: Reserve.with(() => ({})), done: Reserved }),
        // @ts-expect-error -- name is a text
        step('c', { do: Reserve.with(({ nights }) => ({ name: nights })), done: Reserved }),
        // @ts-expect-error -- the body has no such field
        step('d', { do: Reserve.with(() => ({ name: 'x', other: 1 })), done: Reserved }),
        // @ts-expect-error -- the context has no such field
        step('e', { do: Reserve.with(({ motel }) => ({ name: String(motel) })), done: Reserved }),
        // @ts-expect-error -- no contract
        step('f', { do: ReserveSame, done: 'Reserved' }),
        // @ts-expect-error -- undone without undo
        step('g', { do: ReserveSame, done: Reserved, undone: Cancelled }),
        // @ts-expect-error -- undo without undone
        step('h', { do: ReserveSame, done: Reserved, undo: Cancel }),
        // @ts-expect-error -- nothing to undo again
        step('i', { do: ReserveSame, done: Reserved, undoAgain: '1s' }),
        // @ts-expect-error -- done has no such field
        step('j', { do: ReserveSame, done: Reserved, set: (_, { rom }) => ({ hotel: rom }) }),
        // @ts-expect-error -- the context has no such field
        step('k', { do: ReserveSame, done: Reserved, set: () => ({ room: 'x' }) }),
        // @ts-expect-error -- the context has no such field
        step('l', { do: ReserveSame, done: Reserved, when: ({ days }) => days > 1 }),
        // @ts-expect-error -- nothing is done
        step('m', { done: Reserved }),
        // @ts-expect-error -- no such option
        step('n', { do: ReserveSame, done: Reserved, retries: 3 })
      ]
    }),
    // @ts-expect-error -- an event that is not in handles
    defineSaga('on', { startedBy: Started, steps: () => [], on: { Closed: { giveUp: 'x' } } }),
    defineSaga('on', {
      startedBy: Started,
      steps: () => [],
      handles: [Closed],
      // @ts-expect-error -- an event that is not in handles
      on: { Closed: { giveUp: 'closed' }, Opened: { giveUp: 'opened' } }
    }),
    defineSaga('on', {
      startedBy: Started,
      steps: () => [],
      handles: [Closed],
      // @ts-expect-error -- the event has no such field
      on: { Closed: { set: (_, { until }) => ({ hotel: String(until) }) } }
    }),
    // @ts-expect-error -- only what failed has a reason
    defineSaga('completed', { startedBy: Started, steps: () => [], completed: Failed }),
    // @ts-expect-error -- the context has no room
    defineSaga('failed', { startedBy: Started, steps: () => [], failed: CancelRoom })
  ]
  t.type(wrong, 'function')
})
