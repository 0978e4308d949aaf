// The flight service: seats, and airports that somebody else closes.
import { defineService, handle } from 'sagabox'
import {
  AirportClosed,
  CancelSeat,
  Fare,
  FlightGrounded,
  GetFare,
  ReserveSeat,
  SeatCancelled,
  SeatRefused,
  SeatReserved
} from './contracts.ts'

const getFare = handle(GetFare, async ({ airport }, { tx }) => {
  const { rows } = await tx.query('select fare from airports where code = $1', [airport])
  return Fare(rows[0] ? { cents: rows[0].fare } : {})
})

// The lock makes whoever closes the airport wait, and see this seat.
const reserveSeat = handle(ReserveSeat, async ({ tripId, airport }, { tx }) => {
  const { rows } = await tx.query('select closed from airports where code = $1 for share', [
    airport
  ])
  if (!rows[0]) return SeatRefused({ tripId, reason: `no flights to ${airport}` })
  if (rows[0].closed) return SeatRefused({ tripId, reason: rows[0].closed })
  await tx.query('insert into seats values ($1, $2) on conflict do nothing', [tripId, airport])
  return SeatReserved({ tripId })
})

const cancelSeat = handle(CancelSeat, async ({ tripId }, { tx }) => {
  await tx.query('delete from seats where trip_id = $1', [tripId])
  return SeatCancelled({ tripId })
})

const closeAirport = handle(AirportClosed, async ({ airport, because }, { tx }) => {
  await tx.query('update airports set closed = $2 where code = $1', [airport, because])
  const { rows } = await tx.query('select trip_id from seats where airport = $1', [airport])
  return rows.map(({ trip_id: tripId }) => FlightGrounded({ tripId }))
})

export const flight = defineService('flight', {
  handlers: [getFare, reserveSeat, cancelSeat, closeAirport],
  migrations: [
    `create table airports (code text primary key, fare integer not null, closed text);
     create table seats (trip_id uuid primary key, airport text not null references airports);
     create index on seats (airport);
     insert into airports values ('LIS', 21900), ('KEF', 34900)`
  ]
})
