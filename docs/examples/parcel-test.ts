// Tests parcel.ts, in memory and in virtual time: node --import=tsx --test docs/examples/parcel-test.ts
import { test } from 'node:test'
import { tell } from 'sagabox/testing'
import { BookCourier, CancelCourier, CourierBooked, parcel, ParcelRequested } from './parcel.ts'

const parcelId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const address = '12 St James Square, London'
const requested = ParcelRequested({ parcelId, address })
const booked = CourierBooked({ parcelId })

const { given, when } = tell(parcel)

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

test('news of a courier who is booked changes nothing', () => {
  given(requested, booked).when(CourierBooked({ parcelId })).thenIgnored('booked before')
})
