// Parcels by Sagabox, beside a courier and a front end by .NET: names of .NET's making, a queue a
// consumer, requests both ways, and a saga that .NET starts.
import { contracts, defineSaga, defineService, handle, ignore, NotRetryable, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const namespace = 'Acme.Parcels'
const shipping = contracts('shipping', { correlateBy: 'parcelId', namespace })
const courier = contracts('courier', { correlateBy: 'parcelId', namespace })
const desk = contracts('desk', { correlateBy: 'parcelId', namespace })

export const ParcelRequested = shipping.event('ParcelRequested', {
  parcelId: Id,
  address: Type.String()
})
const BookCourier = courier.command(
  'BookCourier',
  { parcelId: Id, address: Type.String() },
  { queue: 'book-courier' }
)
const CourierBooked = courier.event(
  'CourierBooked',
  // .NET's decimal: a number, as its default serializer writes it, or text.
  { parcelId: Id, price: Type.Union([Type.Number(), Type.String()]) },
  { urn: 'urn:message:courier-booked', exchange: 'courier-booked' }
)
const Price = courier.response('Price', { cents: Type.Integer() })
// A request goes to its owner's queue; this one's is the consumer's.
const pricing = contracts('get-price', { correlateBy: 'address', namespace })
export const GetPrice = pricing.request('GetPrice', { address: Type.String() }, Price)
const Fee = desk.response('Fee', { cents: Type.Integer() })
const GetFee = desk.request('GetFee', { plan: Type.String() }, Fee)
const PackParcel = desk.command('PackParcel', { parcelId: Id })

export const parcel = defineSaga(
  'parcel',
  { startedBy: ParcelRequested, handles: [CourierBooked] },
  ({ send }) => ({
    initial: 'booking',
    states: {
      booking: {
        entry: send(BookCourier, ({ parcelId, address }) => ({ parcelId, address })),
        on: { CourierBooked: 'booked' },
        after: { '10m': 'givenUp' }
      },
      booked: { tags: 'end', on: { CourierBooked: ignore('booked before') } },
      givenUp: { tags: 'end', on: { CourierBooked: ignore('too late') } }
    }
  })
)

class Refused extends NotRetryable {}

/** What the desk packed. */
export const packed: string[] = []

export const services = [
  defineService('shipping', { sagas: [parcel] }),
  defineService('desk', {
    handlers: [
      handle(GetFee, async ({ plan }) => {
        if (plan === 'broken') throw new Refused('No such plan')
        // Nobody waits for it so long.
        if (plan === 'slow') await new Promise((resolve) => setTimeout(resolve, 3000))
        return Fee({ cents: 1500 })
      }),
      handle(PackParcel, ({ parcelId }) => {
        if (parcelId.startsWith('0')) throw new Refused('No box is so small')
        packed.push(parcelId)
      })
    ],
    sends: [GetPrice]
  })
]
