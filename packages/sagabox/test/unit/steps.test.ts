import { equal } from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import Type from 'typebox'
import {
  CancelFlight,
  CancelHotel,
  FlightCancelled,
  FlightRefused,
  FlightReserved,
  HotelCancelled,
  HotelRefused,
  HotelReserved,
  ReserveFlight,
  ReserveHotel,
  trip,
  TripConfirmed,
  TripFailed,
  TripRequested
} from '../../../../docs/examples/trip.ts'
import { tripByHand } from '../../../../docs/examples/trip-by-hand.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { describe } from '../../src/saga/inspect/diagram.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { sendsOf } from '../../src/saga/machine/sends.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { tell, type Story } from '../../src/testing/story.ts'

const id = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const Id = Type.String({ format: 'uuid' })
const { event, command } = contracts('shop', { correlateBy: 'id' })
const Started = event('Started', { id: Id, isGift: Type.Boolean() })
const Pack = command('Pack', { id: Id })
const Packed = event('Packed', { id: Id, parcel: Type.String() })
const PackRefused = event('PackRefused', { id: Id, why: Type.String() })
const Unpack = command('Unpack', { id: Id, parcel: Type.String(), reason: Type.String() })
const Unpacked = event('Unpacked', { id: Id })
const Wrap = command('Wrap', { id: Id })
const Wrapped = event('Wrapped', { id: Id })
const Ship = command('Ship', { id: Id, label: Type.String() })
const Shipped = event('Shipped', { id: Id })
const Renamed = event('Renamed', { id: Id, parcel: Type.String() })
const Lost = event('Lost', { id: Id })
const Failed = event('Failed', { id: Id, reason: Type.String() })

const pack = { do: Pack, done: Packed }
const order = defineSaga('order.eu', {
  startedBy: Started,
  context: ({ id: orderId, isGift }) => ({ id: orderId, isGift, parcel: '' }),
  handles: [Renamed, Lost],
  on: {
    Renamed: { set: (_, { parcel }) => ({ parcel }) },
    Lost: { giveUp: 'lost', send: Wrap }
  },
  steps: ({ step }) => [
    step('pack', {
      ...pack,
      refused: PackRefused,
      set: (_, { parcel }) => ({ parcel }),
      undo: Unpack,
      undone: Unpacked,
      within: '10s',
      retry: 2
    }),
    step('wrap', { do: Wrap, done: Wrapped, when: ({ isGift }) => isGift, within: '1m' }),
    step('ship', {
      do: Ship.with(({ parcel, isGift }) => ({ label: `${parcel}${isGift ? ', a gift' : ''}` })),
      done: Shipped,
      within: 5000
    })
  ],
  failed: Failed
})

t.test('a step sends what the context has, and notes what its answer says', async () => {
  tell(order)
    .when(Started({ id, isGift: true }))
    .then('doing.pack', [Pack({ id })])
    .when(Packed({ id, parcel: 'A1' }))
    .then('doing.wrap', [Wrap({ id })])
    .when(Wrapped({ id }))
    .then('doing.ship', [Ship({ id, label: 'A1, a gift' })])
    .when(Shipped({ id }))
    .then('completed')
})

t.test('a step is left out by the context, also as the first', async () => {
  tell(order)
    .given(Started({ id, isGift: false }), Packed({ id, parcel: 'A1' }))
    .when(Wrapped({ id }))
    .thenIgnored('wrap was done before, or left out')
    .then('doing.ship')
  const rare = defineSaga('rare', {
    startedBy: Started,
    within: '1m',
    steps: ({ step }) => [
      step('wrap', { do: Wrap, done: Wrapped, when: ({ isGift }) => isGift }),
      step('pack', pack)
    ]
  })
  tell(rare)
    .when(Started({ id, isGift: false }))
    .then('doing.pack', [Pack({ id })])
  tell(rare)
    .when(Started({ id, isGift: true }))
    .then('doing.wrap', [Wrap({ id })])
  t.match(describe(rare).mermaid, '  doing_wrap --> doing_pack: always')
})

t.test('it is asked again until the limit, and then undone with the reason', async (t) => {
  const waiting = tell(order)
    .given(Started({ id, isGift: false }))
    .advance('10s')
    .then('doing.pack', [Pack])
    .advance('20s')
    .then('doing.pack', [Pack])
    .advance('40s')
  const reason = 'pack was not answered within 10s'
  waiting
    .then('undoing.pack', [Unpack({ id, parcel: '', reason })])
    .advance('30s')
    .then('undoing.pack', [Unpack])
    .when(Packed({ id, parcel: 'B2' }))
    .then('undoing.pack', [Unpack({ id, parcel: 'B2', reason })])
    .when(Unpacked({ id }))
    .then('failed', [Failed({ id, reason })])
    .when(Packed({ id, parcel: 'C3' }))
    .then('undoing.pack', [Unpack({ id, parcel: 'C3', reason })])
    .when(Unpacked({ id }))
    .then('failed', [])
  t.equal(waiting.context.reason, reason)
})

t.test('a refusal without a reason has one', async () => {
  tell(order)
    .given(Started({ id, isGift: false }))
    .when(PackRefused({ id, why: 'full' }))
    .then('failed', [Failed({ id, reason: 'pack was refused' })])
})

t.test('other events note something, send something, or give up', async () => {
  const packed = tell(order).given(Started({ id, isGift: false }), Packed({ id, parcel: 'A1' }))
  packed
    .when(Renamed({ id, parcel: 'Z9' }))
    .then('doing.ship')
    .when(Lost({ id }))
    .then('undoing.pack', [Wrap, Unpack({ id, parcel: 'Z9', reason: 'lost' })])
    .when(Renamed({ id, parcel: 'Y8' }))
    .when(Lost({ id }))
    .thenIgnored('it is being undone')
    .advance('30s')
    .then('undoing.pack', [Unpack({ id, parcel: 'Y8', reason: 'lost' })])
  packed.when(Shipped({ id })).when(Lost({ id })).thenIgnored('it is completed')
})

t.test('a trip is cancelled until it is confirmed', async () => {
  const tripId = id
  const requested = TripRequested({ tripId, flight: 'F', hotel: 'H' })
  const { given } = tell(trip)
  const cancel = { type: 'CancelTrip' }
  given(requested, FlightReserved({ tripId })).when(cancel).then('undoing.hotel', [CancelHotel])
  given(requested).when(cancel).then('undoing.flight', [CancelFlight])
  given(requested, FlightReserved({ tripId }))
    .when(HotelReserved({ tripId }))
    .then('completed', [TripConfirmed])
    .when(cancel)
    .then('completed')
  given(requested)
    .advance('20s')
    .when(FlightCancelled({ tripId }))
    .then('failed', [CancelFlight, TripFailed({ tripId, reason: 'not completed within 20s' })])
})

t.test('what it sends is known, and checkSaga finds nothing', async (t) => {
  t.same(
    sendsOf(trip)
      .map(({ name }) => name)
      .toSorted(),
    [
      CancelFlight.name,
      CancelHotel.name,
      ReserveFlight.name,
      ReserveHotel.name,
      TripConfirmed.name,
      TripFailed.name
    ]
  )
  t.same(checkSaga(trip), [])
  t.same(checkSaga(order), [])
})

t.test('what cannot be meant is refused where it is written', async (t) => {
  type Options = Record<string, unknown>
  const refusal = (steps: unknown, options: Options = { within: '1m' }) => {
    try {
      defineSaga('s', { startedBy: Started, steps: () => steps, ...options } as never)
      return 'nothing was refused'
    } catch (error) {
      t.match(error, { code: 'INVALID_SAGA' })
      return (error as Error).message
    }
  }
  const a = { name: 'a', ...pack }
  const cases: [unknown, Options | undefined, string][] = [
    [[], undefined, 'steps gave no steps: expected a list of at least one'],
    [[{ all: [] }], undefined, 'all([]) stands among its steps: expected steps in it'],
    [
      [{ ...a, name: 'a b' }],
      undefined,
      'step a b: its name becomes that of states: expected letters, digits and _, with a letter first'
    ],
    [
      [a, { name: 'a', do: Wrap, done: Wrapped }],
      undefined,
      'two steps have the name a: name one of them otherwise, since states are named after them'
    ],
    [
      [
        { all: [a, { name: 'b', do: Wrap, done: Wrapped }] },
        { name: 'aAndB', do: Ship, done: Shipped }
      ],
      undefined,
      'two states would have the name aAndB: of a step, and of steps that are in all: name the step otherwise'
    ],
    [
      [a, { name: 'b', do: Wrap, done: Packed }],
      undefined,
      'Packed is both done of step a and done of step b: expected an event of its own for each'
    ],
    [
      [{ ...a, done: Started }],
      undefined,
      'Started is both startedBy and done of step a: expected an event of its own for each'
    ],
    [
      [a],
      { within: '1m', cancelBy: Packed },
      'Packed is both done of step a and cancelBy: expected an event of its own for each'
    ],
    [[a], {}, 'step a: it waits for ever when nobody answers: give within to it, or to the saga'],
    [
      [{ ...a, within: 'soon' }],
      undefined,
      `step a: within: "soon" is no duration: expected one such as '31s', '500ms', '5m', '2h' or '1d'`
    ],
    [
      [{ ...a, retry: 1 }],
      undefined,
      'step a: it has retry and no within: say after which time it is asked again'
    ],
    [
      [{ ...a, within: '1s', retry: -1 }],
      undefined,
      'step a: retry is -1: expected how often, a whole number from 0'
    ],
    [
      [{ all: [{ ...a, within: '1s' }] }],
      undefined,
      'step a: it has within or retry, and is one of several: give them to all([…], { within, retry })'
    ],
    [
      [{ ...a, undo: Unpack }],
      undefined,
      'step a: it has undo and no undone: add the event by which its receiver tells that it is undone'
    ],
    [
      [{ ...a, undone: Unpacked }],
      undefined,
      'step a: it has undone and no undo: add the command that Unpacked answers, or leave undone out'
    ],
    [
      [{ ...a, undoAgain: '1s' }],
      undefined,
      'step a: it has undoAgain and no undo: add the command to send again, or leave undoAgain out'
    ],
    [
      [{ ...a, done: Wrap }],
      undefined,
      'step a: done is Wrap, a command: expected the contract of an event'
    ],
    [
      [{ ...a, done: 'Packed' }],
      undefined,
      'step a: done is "Packed": expected the contract of an event'
    ],
    [
      [{ ...a, do: undefined }],
      undefined,
      'step a: do is not given: expected the contract of a command, or Command.with(…)'
    ],
    [
      [{ ...a, do: Wrapped }],
      undefined,
      'step a: do is Wrapped, an event: expected the contract of a command, or Command.with(…)'
    ],
    [
      [a],
      { within: '1m', handles: [Lost] },
      'it handles Lost, and on does not say what that does: add set, send or giveUp for it'
    ],
    [
      [a],
      { within: '1m', on: { Lost: { giveUp: 'x' } } },
      'on says what Lost does, which never reaches it: add its contract to handles'
    ],
    [
      [a],
      { within: '1m', cancelCompleted: true },
      'it has cancelCompleted and no cancelBy: say which event cancels'
    ],
    [
      [a],
      { within: '1m', startedBy: Failed },
      "Failed has a field reason, which is the saga's own in a context: give it another name in context(start)"
    ],
    [
      undefined,
      { steps: undefined },
      'it has neither states nor steps: expected steps({ step, all })'
    ]
  ]
  for (const [steps, options, expected] of cases)
    t.equal(refusal(steps, options), `Saga s: ${expected}`)
})

t.test('a context that has what is the saga’s own', async (t) => {
  const saga = defineSaga('own', {
    startedBy: Started,
    context: ({ id: own }) => ({ id: own, reason: 'mine' }),
    within: '1m',
    steps: ({ step }) => [step('a', pack)]
  })
  t.throws(() => tell(saga).when(Started({ id, isGift: true })), {
    code: 'INVALID_SAGA',
    message: "Saga own: its context has a field reason, which is the saga's own: name it otherwise"
  })
})

t.test('instances of a step that is no longer there are told apart', async (t) => {
  const renamed = defineSaga('order.eu', {
    startedBy: Started,
    within: '1m',
    steps: ({ step }) => [step('packing', pack)]
  })
  const story = tell(order).given(Started({ id, isGift: false }))
  t.throws(() => story.with(renamed).when(Packed({ id, parcel: 'A1' })), {
    code: 'STRANDED',
    message: `order.eu saga ${id} is in doing.pack, which version 1 of its machine lacks: raise the version, and keep the machine that has it under previous or let migrate bring the instance over`
  })
})

t.test('the machine that is written by hand does the same', async (t) => {
  t.same(checkSaga(tripByHand), [])
  const tripId = id
  const answers = [
    FlightReserved,
    FlightCancelled,
    HotelReserved,
    HotelCancelled,
    (body: { tripId: string }) => FlightRefused({ ...body, reason: 'no flight' }),
    (body: { tripId: string }) => HotelRefused({ ...body, reason: 'no hotel' })
  ]
  const happenings = fc.array(
    fc.oneof(
      fc
        .nat(answers.length - 1)
        .map((which) => (story: Story) => story.when(answers[which]!({ tripId }))),
      fc.constantFrom('3s', '11s', '40s').map((time) => (story: Story) => story.advance(time)),
      fc.constant((story: Story) => story.when({ type: 'CancelTrip' }))
    ),
    { maxLength: 12 }
  )
  const said = ({ state, sent, context }: Story) =>
    JSON.stringify([state, context.reason, sent.map(({ contract, body }) => [contract.name, body])])
  const start = TripRequested({ tripId, flight: 'F', hotel: 'H' })
  fc.assert(
    fc.property(happenings, (happen) => {
      let [steps, hand] = [tell(trip).when(start), tell(tripByHand).when(start)]
      for (const one of happen) {
        ;[steps, hand] = [one(steps), one(hand)]
        equal(said(steps), said(hand))
      }
    }),
    { numRuns: 300 }
  )
})
