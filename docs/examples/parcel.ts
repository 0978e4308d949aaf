import Type from 'typebox'
import { setup } from 'xstate'
import { each, handle } from '../../src/messaging/endpoint.ts'
import { command, event, message, type BodyOf } from '../../src/messaging/message.ts'
import { defineSaga, send, sendAction } from '../../src/saga/define.ts'

// 1. Messages. Exchanges, queues, validation and types are derived from these.
const Id = Type.String({ format: 'uuid' })

export const ParcelRequestedEvent = event('ParcelRequestedEvent', {
  owner: 'shipping',
  correlateBy: 'parcelId',
  optional: true, // nobody has to listen; without this it waits in the outbox until a queue takes it
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

// 2. A handler. It works in `tx` and returns what to send. Both commit together; then the message is acknowledged.
export const bookCourier = handle(
  BookCourier,
  each(async ({ parcelId, address }, cause, tx) => {
    await tx.query('insert into bookings (parcel_id, address) values ($1, $2) on conflict do nothing', [parcelId, address])
    return [message(CourierBookedEvent, { parcelId }, cause)]
  })
)

// 3. A saga: an XState machine that sends, waits and changes state. Its `after` timer is stored and survives a restart.
type Parcel = BodyOf<typeof ParcelRequestedEvent>
type ParcelEvent = { type: 'CourierBookedEvent' } & BodyOf<typeof CourierBookedEvent>
const types: { context?: Parcel; input?: Parcel; events?: ParcelEvent } = {}

export const parcelSaga = defineSaga({
  name: 'parcel',
  startedBy: ParcelRequestedEvent,
  handles: [CourierBookedEvent],
  machine: setup({
    types,
    actions: { send: sendAction }
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
      Booked: {},
      GivenUp: {}
    }
  })
})
