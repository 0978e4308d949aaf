// A saga in steps: docs/how-to/write-a-saga-in-steps.md.
import { contracts, defineSaga, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const agency = contracts('agency', { correlateBy: 'tripId' })
const airline = contracts('airline', { correlateBy: 'tripId' })
const hotels = contracts('hotels', { correlateBy: 'tripId' })

export const TripRequested = agency.event('TripRequested', {
  tripId: Id,
  flight: Type.String(),
  hotel: Type.String()
})
export const TripConfirmed = agency.event('TripConfirmed', { tripId: Id }, { optional: true })
export const TripFailed = agency.event(
  'TripFailed',
  { tripId: Id, reason: Type.String() },
  { optional: true }
)
export const ReserveFlight = airline.command('ReserveFlight', { tripId: Id, flight: Type.String() })
export const CancelFlight = airline.command('CancelFlight', { tripId: Id })
export const FlightReserved = airline.event('FlightReserved', { tripId: Id })
export const FlightRefused = airline.event('FlightRefused', { tripId: Id, reason: Type.String() })
export const FlightCancelled = airline.event('FlightCancelled', { tripId: Id })
export const ReserveHotel = hotels.command('ReserveHotel', { tripId: Id, name: Type.String() })
export const CancelHotel = hotels.command('CancelHotel', { tripId: Id })
export const HotelReserved = hotels.event('HotelReserved', { tripId: Id })
export const HotelRefused = hotels.event('HotelRefused', { tripId: Id, reason: Type.String() })
export const HotelCancelled = hotels.event('HotelCancelled', { tripId: Id })

export const trip = defineSaga('trip', {
  startedBy: TripRequested,
  within: '20s',
  cancelBy: 'CancelTrip',
  steps: ({ step }) => [
    step('flight', {
      do: ReserveFlight,
      done: FlightReserved,
      refused: FlightRefused,
      undo: CancelFlight,
      undone: FlightCancelled
    }),
    step('hotel', {
      do: ReserveHotel.with(({ hotel }) => ({ name: hotel })),
      done: HotelReserved,
      refused: HotelRefused,
      undo: CancelHotel,
      undone: HotelCancelled,
      within: '10s',
      undoAgain: '15s'
    })
  ],
  completed: TripConfirmed,
  failed: TripFailed
})
