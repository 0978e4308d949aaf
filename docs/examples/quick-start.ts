import { randomUUID } from 'node:crypto'
import { contracts, defineSaga, defineService, handle, ignore, startSagabox, Type } from 'sagabox'

// 1. What travels. Exchanges, queues, validation and types follow from it.
const shipping = contracts('shipping', { correlateBy: 'parcelId' })
const courier = contracts('courier', { correlateBy: 'parcelId' })
const Id = Type.String({ format: 'uuid' })
const ParcelRequested = shipping.event('ParcelRequested', { parcelId: Id, address: Type.String() })
const BookCourier = courier.command('BookCourier', { parcelId: Id, address: Type.String() })
const CancelCourier = courier.command('CancelCourier', { parcelId: Id })
const CourierBooked = courier.event('CourierBooked', { parcelId: Id })

// 2. Who does it. What is written in `tx` and what is returned commit together.
const bookCourier = handle(BookCourier, async ({ parcelId, address }, { tx }) => {
  await tx.query('insert into bookings values ($1, $2) on conflict do nothing', [parcelId, address])
  return CourierBooked({ parcelId })
})
const cancelCourier = handle(CancelCourier, async ({ parcelId }, { tx }) => {
  await tx.query('delete from bookings where parcel_id = $1', [parcelId])
})

// 3. How it must end. A timer is a row and survives a restart; a late answer is still heard.
const options = { startedBy: ParcelRequested, handles: [CourierBooked] }
const parcel = defineSaga('parcel', options, ({ send }) => {
  const book = send(BookCourier, ({ parcelId, address }) => ({ parcelId, address }))
  const sendHome = send(CancelCourier, ({ parcelId }) => ({ parcelId }))
  return {
    initial: 'booking',
    states: {
      booking: { entry: book, on: { CourierBooked: 'booked' }, after: { '1m': 'late' } },
      booked: { tags: 'end', on: { CourierBooked: ignore('booked before') } },
      late: { tags: 'end', on: { CourierBooked: { actions: sendHome } } }
    }
  }
})

// 4. Where it runs: here with a PostgreSQL of its own, and messages in memory.
const migrations = ['create table bookings (parcel_id uuid primary key, address text)']
const app = await startSagabox({
  services: [
    defineService('shipping', { sagas: [parcel] }),
    defineService('courier', { handlers: [bookCourier, cancelCourier], migrations })
  ]
})
const parcelId = randomUUID()
await app.publish(ParcelRequested({ parcelId, address: '12 St James Square' }))
const { state, history } = await app.ended(parcel, parcelId)
for (const { event, from, to } of history) console.log(`${event}: ${from ?? 'start'} -> ${to}`)
console.log(`The parcel is ${state}`)
await app.stop()
