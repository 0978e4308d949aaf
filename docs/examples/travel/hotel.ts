// The hotel service: rooms, and never more guests than rooms.
import { defineService, handle } from 'sagabox'
import {
  CancelRoom,
  GetRate,
  Rate,
  ReserveRoom,
  RoomCancelled,
  RoomRefused,
  RoomReserved
} from './contracts.ts'

const getRate = handle(GetRate, async ({ hotel, nights }, { tx }) => {
  const { rows } = await tx.query('select rate from hotels where name = $1', [hotel])
  return Rate(rows[0] ? { cents: nights * rows[0].rate } : {})
})

const reserveRoom = handle(ReserveRoom, async ({ tripId, hotel }, { tx }) => {
  const known = await tx.query('select 1 from stays where trip_id = $1', [tripId])
  if (known.rowCount === 1) return RoomReserved({ tripId })
  const taken = await tx.query(
    'update hotels set rooms = rooms - 1 where name = $1 and rooms > 0',
    [hotel]
  )
  if (taken.rowCount === 0) return RoomRefused({ tripId, reason: `the ${hotel} is full` })
  await tx.query('insert into stays values ($1, $2)', [tripId, hotel])
  return RoomReserved({ tripId })
})

const cancelRoom = handle(CancelRoom, async ({ tripId }, { tx }) => {
  await tx.query(
    `with gone as (delete from stays where trip_id = $1 returning hotel)
     update hotels set rooms = rooms + 1 where name in (select hotel from gone)`,
    [tripId]
  )
  return RoomCancelled({ tripId })
})

export const hotel = defineService('hotel', {
  handlers: [getRate, reserveRoom, cancelRoom],
  migrations: [
    `create table hotels (name text primary key, rate integer not null, rooms integer not null);
     create table stays (trip_id uuid primary key, hotel text not null references hotels);
     insert into hotels values ('Avenida', 9500, 100), ('Borg', 24000, 0)`
  ]
})
