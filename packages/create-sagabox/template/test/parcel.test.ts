import test from 'node:test'
import { deepEqual } from 'node:assert/strict'
import { checkSaga, tell } from 'sagabox/testing'
import { BookCourier, CancelCourier, CourierBooked, ParcelRequested } from '../src/messages.ts'
import { parcel } from '../src/parcel.ts'

const parcelId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const address = '12 St James Square, London'
const requested = ParcelRequested({ parcelId, address })
const booked = CourierBooked({ parcelId })
const { given, when } = tell(parcel)

test('nothing is left undecided', () => deepEqual(checkSaga(parcel), []))

test('a parcel asks for a courier, and is booked when it has one', () => {
  when(requested)
    .then('booking', [BookCourier({ parcelId, address })])
    .when(booked)
    .then('booked')
})

test('without an answer it is given up after a minute', () => {
  given(requested).advance('59s').then('booking').advance('1s').then('givenUp')
})

test('a courier who comes too late is sent home', () => {
  given(requested).advance('61s').when(booked).then('givenUp', [CancelCourier])
})
