// How it must end. A timer is a row and survives a restart; a late answer is still heard.
import { defineSaga, ignore } from 'sagabox'
import { BookCourier, CancelCourier, CourierBooked, ParcelRequested } from './messages.ts'

export const parcel = defineSaga(
  'parcel',
  {
    startedBy: ParcelRequested,
    handles: [CourierBooked],
    // A parcel that is not booked in the end must not keep its courier: `sagabox saga check`.
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
