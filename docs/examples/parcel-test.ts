// Tests parcel.ts, in memory and in virtual time: node --import=tsx --test
// docs/examples/parcel-test.ts
import { test } from 'node:test'
import { message } from 'sagabox'
import { tell } from 'sagabox/testing'
import {
  BookCourier,
  CancelCourier,
  CourierBookedEvent,
  ParcelRequestedEvent,
  parcelSaga
} from './parcel.ts'

const parcelId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const requested = message(ParcelRequestedEvent, { parcelId, address: '12 St James Square, London' })
const booked = message(CourierBookedEvent, { parcelId })

const { given, when } = tell(parcelSaga)

test('a parcel asks for a courier, and is booked when it has one', () => {
  when(requested)
    .then('Booking', [message(BookCourier, { parcelId, address: '12 St James Square, London' })])
    .when(booked)
    .then('Booked')
})

test('without an answer it is given up after a minute', () => {
  given(requested).advance('59s').then('Booking').advance('1s').then('GivenUp')
})

test('a courier who comes too late is sent home', () => {
  given(requested).advance('61s').when(booked).then('GivenUp', [CancelCourier])
})

test('news of a courier who is booked changes nothing', () => {
  given(requested, booked)
    .when(message(CourierBookedEvent, { parcelId }))
    .thenIgnored('booked before')
})
