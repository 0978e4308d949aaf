// Who does it. What a handler writes in `tx` and what it returns commit together.
import { defineService, handle, type ServiceOptions } from 'sagabox'
import { BookCourier, CancelCourier, CourierBooked } from './messages.ts'
import { parcel } from './parcel.ts'
import { requestRoutes } from './routes.ts'

const bookCourier = handle(BookCourier, async ({ parcelId, address }, { tx }) => {
  await tx.query('insert into bookings values ($1, $2) on conflict do nothing', [parcelId, address])
  return CourierBooked({ parcelId })
})

const cancelCourier = handle(CancelCourier, async ({ parcelId }, { tx }) => {
  await tx.query('delete from bookings where parcel_id = $1', [parcelId])
})

const shipping: ServiceOptions = {
  sagas: [parcel],
  build: ({ requests }) => ({ routes: [requestRoutes(requests.outbox)] })
}

export const services = [
  defineService('shipping', shipping),
  defineService('courier', {
    handlers: [bookCourier, cancelCourier],
    migrations: ['create table bookings (parcel_id uuid primary key, address text)']
  })
]
