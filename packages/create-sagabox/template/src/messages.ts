// What travels. Exchanges, queues, validation and types follow from it.
import { contracts, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const shipping = contracts('shipping', { correlateBy: 'parcelId' })
const courier = contracts('courier', { correlateBy: 'parcelId' })

export const ParcelRequested = shipping.event('ParcelRequested', {
  parcelId: Id,
  address: Type.String({ minLength: 1 })
})
export const BookCourier = courier.command('BookCourier', { parcelId: Id, address: Type.String() })
export const CancelCourier = courier.command('CancelCourier', { parcelId: Id })
export const CourierBooked = courier.event('CourierBooked', { parcelId: Id })
