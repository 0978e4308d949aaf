// What travels between the services of a travel agency: docs/tutorial/travel.md.
import { contracts, foreign, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const Nights = Type.Integer({ minimum: 1, maximum: 30 })
const trip = contracts('trip', { correlateBy: 'tripId' })
const flight = contracts('flight', { correlateBy: 'tripId' })
const hotel = contracts('hotel', { correlateBy: 'tripId' })

// The trip service: the trip, its bill, letters to the traveller.
export const TripPlaced = trip.event('TripPlaced', {
  tripId: Id,
  airport: Type.String(),
  hotel: Type.String(),
  nights: Nights
})
export const CancelTrip = trip.command('CancelTrip', { tripId: Id })
export const SendBill = trip.command('SendBill', { tripId: Id })
export const WithdrawBill = trip.command('WithdrawBill', { tripId: Id })
export const RemindTraveller = trip.command('RemindTraveller', { tripId: Id })
export const TripPaid = trip.event('TripPaid', { tripId: Id })
export const BillWithdrawn = trip.event('BillWithdrawn', { tripId: Id })
export const TripConfirmed = trip.event('TripConfirmed', { tripId: Id })
export const TripFailed = trip.event('TripFailed', { tripId: Id, reason: Type.String() })

// The flight service. No cents: nobody flies there.
export const Fare = flight.response('Fare', { cents: Type.Optional(Type.Integer()) })
export const GetFare = flight.request('GetFare', { airport: Type.String() }, Fare)
export const ReserveSeat = flight.command('ReserveSeat', { tripId: Id, airport: Type.String() })
export const CancelSeat = flight.command('CancelSeat', { tripId: Id })
export const SeatReserved = flight.event('SeatReserved', { tripId: Id })
export const SeatRefused = flight.event('SeatRefused', { tripId: Id, reason: Type.String() })
export const SeatCancelled = flight.event('SeatCancelled', { tripId: Id })
export const FlightGrounded = flight.event('FlightGrounded', { tripId: Id })

// The hotel service. No cents: there is no such hotel.
export const Rate = hotel.response('Rate', { cents: Type.Optional(Type.Integer()) })
export const GetRate = hotel.request('GetRate', { hotel: Type.String(), nights: Nights }, Rate)
export const ReserveRoom = hotel.command('ReserveRoom', { tripId: Id, hotel: Type.String() })
export const CancelRoom = hotel.command('CancelRoom', { tripId: Id })
export const RoomReserved = hotel.event('RoomReserved', { tripId: Id })
export const RoomRefused = hotel.event('RoomRefused', { tripId: Id, reason: Type.String() })
export const RoomCancelled = hotel.event('RoomCancelled', { tripId: Id })

// Somebody else's: plain JSON on an exchange of the airports' weather service.
export const AirportClosed = foreign('AirportClosed', {
  exchange: 'airport.weather',
  type: 'topic',
  key: 'closed.#',
  // Only tests send it.
  keyOf: ({ airport }) => `closed.${airport}`,
  fields: { airport: Type.String(), because: Type.String() }
})
