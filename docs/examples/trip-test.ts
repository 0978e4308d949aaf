// Tests trip.ts, in memory and in virtual time: node --import=tsx --test docs/examples/trip-test.ts
import { deepEqual } from 'node:assert/strict'
import { test } from 'node:test'
import { checkSaga, tell } from 'sagabox/testing'
import {
  CancelFlight,
  CancelHotel,
  FlightCancelled,
  FlightReserved,
  HotelCancelled,
  HotelRefused,
  HotelReserved,
  trip,
  TripConfirmed,
  TripFailed,
  TripRequested
} from './trip.ts'

const tripId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const requested = TripRequested({ tripId, flight: 'SB 7', hotel: 'Grand' })
const { given } = tell(trip)

test('a trip is confirmed when it has a flight and a hotel', () => {
  given(requested, FlightReserved({ tripId }))
    .when(HotelReserved({ tripId }))
    .then('completed', [TripConfirmed])
})

test('without a hotel the flight is cancelled', () => {
  given(requested, FlightReserved({ tripId }))
    .when(HotelRefused({ tripId, reason: 'full' }))
    .then('undoing.flight', [CancelFlight])
    .when(FlightCancelled({ tripId }))
    .then('failed', [TripFailed({ tripId, reason: 'full' })])
})

test('a hotel that answers too late is cancelled, and asked again until it says so', () => {
  given(requested, FlightReserved({ tripId }))
    .advance('10s')
    .when(HotelCancelled({ tripId }))
    .when(FlightCancelled({ tripId }))
    .then('failed', [CancelHotel, CancelFlight, TripFailed])
    .when(HotelReserved({ tripId }))
    .advance('15s')
    .then('undoing.hotel', [CancelHotel, CancelHotel])
    .when(HotelCancelled({ tripId }))
    .then('failed')
})

test('nothing is undecided, and nothing is left behind', () => {
  deepEqual(checkSaga(trip), [])
})
