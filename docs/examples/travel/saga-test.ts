// Tests the saga, in memory and in virtual time:
// node --import=tsx --test docs/examples/travel/saga-test.ts
import { deepEqual } from 'node:assert/strict'
import { test } from 'node:test'
import { checkSaga, tell } from 'sagabox/testing'
import {
  BillWithdrawn,
  CancelRoom,
  CancelSeat,
  CancelTrip,
  FlightGrounded,
  ReserveRoom,
  ReserveSeat,
  RoomCancelled,
  RoomRefused,
  RoomReserved,
  SeatCancelled,
  SeatReserved,
  SendBill,
  TripConfirmed,
  TripFailed,
  TripPaid,
  TripPlaced,
  WithdrawBill
} from './contracts.ts'
import { trip } from './trip-saga.ts'

const tripId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const placed = TripPlaced({ tripId, airport: 'LIS', hotel: 'Avenida', nights: 2 })
const { given, when } = tell(trip)
const billed = given(placed, SeatReserved({ tripId }), RoomReserved({ tripId }))

test('a trip that is paid is confirmed', () => {
  when(placed)
    .when(SeatReserved({ tripId }))
    .then('doing.hotel', [ReserveSeat, ReserveRoom({ tripId, hotel: 'Avenida' })])
    .when(RoomReserved({ tripId }))
    .then('doing.payment', [SendBill])
    .when(TripPaid({ tripId }))
    .then('completed', [TripConfirmed])
})

test('without a room there is no seat', () => {
  given(placed, SeatReserved({ tripId }))
    .when(RoomRefused({ tripId, reason: 'full' }))
    .then('undoing.flight', [CancelSeat])
    .when(SeatCancelled({ tripId }))
    .then('failed', [TripFailed({ tripId, reason: 'full' })])
})

test('a hotel that does not answer is asked to cancel, until it says that it has', () => {
  given(placed, SeatReserved({ tripId }))
    .advance('1m')
    .then('undoing.hotel', [CancelRoom])
    .advance('5s')
    .then('undoing.hotel', [CancelRoom])
    .when(RoomReserved({ tripId }))
    .then('undoing.hotel', [CancelRoom])
})

test('a bill that nobody pays is withdrawn after three days', () => {
  billed.advance('3d').then('undoing.payment', [WithdrawBill])
})

test('who pays while the airport closes is paid back, and all is given up', () => {
  billed
    .when(FlightGrounded({ tripId }))
    .then('undoing.payment', [WithdrawBill])
    .when(TripPaid({ tripId }))
    .then('undoing.payment', [WithdrawBill])
    .when(BillWithdrawn({ tripId }))
    .when(RoomCancelled({ tripId }))
    .when(SeatCancelled({ tripId }))
    .then('failed', [
      CancelRoom,
      CancelSeat,
      TripFailed({ tripId, reason: 'the airport is closed' })
    ])
})

test('a trip can be cancelled until it is confirmed', () => {
  billed.when(CancelTrip({ tripId })).then('undoing.payment', [WithdrawBill])
  given(placed, SeatReserved({ tripId }), RoomReserved({ tripId }), TripPaid({ tripId }))
    .when(CancelTrip({ tripId }))
    .then('completed')
})

test('nothing is undecided, and nothing is left behind', () => {
  deepEqual(checkSaga(trip), [])
})
