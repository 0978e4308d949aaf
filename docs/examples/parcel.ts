import Type from 'typebox'
import { setup } from 'xstate'
import {
  type BodyOf,
  command,
  defineSaga,
  each,
  event,
  handle,
  ignore,
  message,
  sagaActions,
  send
} from 'sagabox'

// 1. Messages. Exchanges, queues, validation and types are derived from these.
const Id = Type.String({ format: 'uuid' })

export const ParcelRequestedEvent = event('ParcelRequestedEvent', {
  owner: 'shipping',
  correlateBy: 'parcelId',
  // nobody has to listen; without this it waits in the outbox until a queue takes it
  optional: true,
  schema: Type.Object({ parcelId: Id, address: Type.String() })
})

export const BookCourier = command('BookCourier', {
  owner: 'courier', // the endpoint that receives it
  correlateBy: 'parcelId',
  schema: Type.Object({ parcelId: Id, address: Type.String() })
})

export const CourierBookedEvent = event('CourierBookedEvent', {
  owner: 'courier',
  correlateBy: 'parcelId',
  schema: Type.Object({ parcelId: Id })
})

export const CancelCourier = command('CancelCourier', {
  owner: 'courier',
  correlateBy: 'parcelId',
  schema: Type.Object({ parcelId: Id })
})

// 2. Handlers. One works in `tx` and returns what to send. Both commit together; then the message
// is acknowledged.
export const bookCourier = handle(
  BookCourier,
  each(async ({ parcelId, address }, cause, tx) => {
    await tx.query(
      'insert into bookings (parcel_id, address) values ($1, $2) on conflict do nothing',
      [parcelId, address]
    )
    return [message(CourierBookedEvent, { parcelId }, cause)]
  })
)

export const cancelCourier = handle(
  CancelCourier,
  each(async ({ parcelId }, _cause, tx) => {
    await tx.query('delete from bookings where parcel_id = $1', [parcelId])
    return []
  })
)

// 3. A saga: an XState machine that sends, waits and changes state. Its `after` timer is stored and
// survives a restart.
type Parcel = BodyOf<typeof ParcelRequestedEvent>
type ParcelEvent = { type: 'CourierBookedEvent' } & BodyOf<typeof CourierBookedEvent>
const types: { context?: Parcel; input?: Parcel; events?: ParcelEvent } = {}

export const parcelSaga = defineSaga({
  name: 'parcel',
  startedBy: ParcelRequestedEvent,
  handles: [CourierBookedEvent],
  // For checkSaga: a parcel that is not Booked in the end must not keep its courier.
  effects: [{ doneBy: CourierBookedEvent, undoneBy: CancelCourier }],
  pointOfNoReturn: 'Booked',
  machine: setup({
    types,
    actions: sagaActions
  }).createMachine({
    id: 'parcel',
    context: ({ input: { parcelId, address } }) => ({ parcelId, address }),
    initial: 'Booking',
    states: {
      Booking: {
        entry: send(BookCourier, ({ parcelId, address }: Parcel) => ({ parcelId, address })),
        on: { CourierBookedEvent: 'Booked' },
        after: { 60_000: 'GivenUp' }
      },
      // An end is a state like any other: late events still reach it, and it decides about them
      // too.
      Booked: {
        tags: 'end',
        on: { CourierBookedEvent: ignore('booked before') }
      },
      GivenUp: {
        tags: 'end',
        on: {
          CourierBookedEvent: {
            actions: send(CancelCourier, ({ parcelId }: Parcel) => ({ parcelId }))
          }
        }
      }
    }
  })
})
