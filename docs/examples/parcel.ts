import {
  contracts,
  defineSaga,
  defineService,
  handle,
  ignore,
  startSagabox,
  Type,
  type Sagabox
} from 'sagabox'

// 1. What travels. Exchanges, queues, validation and types follow from it.
const Id = Type.String({ format: 'uuid' })
const shipping = contracts('shipping', { correlateBy: 'parcelId' })
const courier = contracts('courier', { correlateBy: 'parcelId' })

export const ParcelRequested = shipping.event('ParcelRequested', {
  parcelId: Id,
  address: Type.String()
})
export const BookCourier = courier.command('BookCourier', { parcelId: Id, address: Type.String() })
export const CancelCourier = courier.command('CancelCourier', { parcelId: Id })
export const CourierBooked = courier.event('CourierBooked', { parcelId: Id })

// 2. Who does it. What is written in `tx` and what is returned commit together; then the message
// is acknowledged.
const bookCourier = handle(BookCourier, async ({ parcelId, address }, { tx }) => {
  await tx.query('insert into bookings values ($1, $2) on conflict do nothing', [parcelId, address])
  return CourierBooked({ parcelId })
})
const cancelCourier = handle(CancelCourier, async ({ parcelId }, { tx }) => {
  await tx.query('delete from bookings where parcel_id = $1', [parcelId])
})

// 3. How it must end. A timer is a row and survives a restart; a late answer is still heard.
export const parcel = defineSaga(
  'parcel',
  {
    startedBy: ParcelRequested,
    handles: [CourierBooked],
    // For checkSaga: a parcel that is not booked in the end must not keep its courier.
    effects: [{ doneBy: CourierBooked, undoneBy: CancelCourier }],
    pointOfNoReturn: 'booked'
  },
  ({ send }) => ({
    initial: 'booking',
    states: {
      booking: {
        entry: send(BookCourier, ({ parcelId, address }) => ({ parcelId, address })),
        on: { CourierBooked: 'booked' },
        after: { '1m': 'givenUp' }
      },
      booked: { tags: 'end', on: { CourierBooked: ignore('booked before') } },
      givenUp: {
        tags: 'end',
        on: { CourierBooked: { actions: send(CancelCourier, ({ parcelId }) => ({ parcelId })) } }
      }
    }
  })
)

// 4. Where it runs: without a database URL with a PostgreSQL of its own, without a broker URL in
// memory.
export const services = [
  defineService('shipping', { sagas: [parcel] }),
  defineService('courier', {
    handlers: [bookCourier, cancelCourier],
    migrations: ['create table bookings (parcel_id uuid primary key, address text)']
  })
]

export function start(dataDir: string): Promise<Sagabox> {
  return startSagabox({ services, dataDir })
}
