// The trip service: the saga, the bill and its reminders, and what travellers ask by HTTP.
import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsync } from 'fastify'
import { defineService, handle, Type, type ServiceContext, type ServiceOptions } from 'sagabox'
import {
  BillWithdrawn,
  CancelTrip,
  GetFare,
  GetRate,
  RemindTraveller,
  SendBill,
  TripConfirmed,
  TripFailed,
  TripPaid,
  TripPlaced,
  WithdrawBill
} from './contracts.ts'
import { trip as saga } from './trip-saga.ts'

/** What a reminder is called, so that it can be cancelled. */
const reminderOf = (tripId: string) => `reminder ${tripId}`
const remindTomorrow = (tripId: string) =>
  RemindTraveller({ tripId }).after('1d', { token: reminderOf(tripId) })

// A bill that was withdrawn stays so: its order may come late.
const sendBill = handle(SendBill, async ({ tripId }, { tx }) => {
  const { rowCount } = await tx.query(
    `update trips set status = 'billed' where trip_id = $1 and status = 'placed'`,
    [tripId]
  )
  if (rowCount === 1) return remindTomorrow(tripId)
})

const remindTraveller = handle(RemindTraveller, async ({ tripId }, { tx }) => {
  const { rowCount } = await tx.query(
    `insert into letters (trip_id, text)
     select trip_id, 'Please pay ' || cents || ' cents' from trips
     where trip_id = $1 and status = 'billed'`,
    [tripId]
  )
  if (rowCount === 1) return remindTomorrow(tripId)
})

// Whoever has paid gets it back.
const withdrawBill = handle(WithdrawBill, async ({ tripId }, { tx, cancel }) => {
  await tx.query(
    `update trips set refunded = (status = 'paid'), status = 'withdrawn'
     where trip_id = $1 and status in ('placed', 'billed', 'paid')`,
    [tripId]
  )
  await cancel(reminderOf(tripId))
  return BillWithdrawn({ tripId })
})

const confirm = handle(TripConfirmed, async ({ tripId }, { tx }) => {
  await tx.query(`update trips set status = 'confirmed' where trip_id = $1`, [tripId])
})
const fail = handle(TripFailed, async ({ tripId, reason }, { tx }) => {
  await tx.query(`update trips set status = 'failed', reason = $2 where trip_id = $1`, [
    tripId,
    reason
  ])
})

const Trip = Type.Object({
  airport: Type.String({ maxLength: 3 }),
  hotel: Type.String({ maxLength: 60 }),
  nights: Type.Integer({ minimum: 1, maximum: 30 })
})
const Params = Type.Object({ tripId: Type.String({ format: 'uuid' }) })

function routes({ request, requests }: ServiceContext): FastifyPluginAsync {
  const { database, outbox, transaction } = requests
  return async (app) => {
    // Prices are asked first, and the trip is placed with them: its row and its event together.
    app.post<{ Body: Type.Static<typeof Trip> }>(
      '/trips',
      { schema: { permission: 'public', body: Trip } },
      async ({ body: { airport, hotel, nights } }, reply) => {
        const [fare, rate] = await Promise.all([
          request(GetFare({ airport }), { timeout: '5s' }),
          request(GetRate({ hotel, nights }), { timeout: '5s' })
        ])
        if (fare.cents === undefined || rate.cents === undefined)
          return reply.code(404).send({ detail: 'Nobody flies there, or there is no such hotel' })
        const tripId = randomUUID()
        const cents = fare.cents + rate.cents
        await transaction(async (tx) => {
          await tx.query('insert into trips (trip_id, cents) values ($1, $2)', [tripId, cents])
          tx.send(TripPlaced({ tripId, airport, hotel, nights }))
        })
        return reply.code(202).send({ tripId, cents })
      }
    )

    app.post<{ Params: Type.Static<typeof Params> }>(
      '/trips/:tripId/payment',
      { schema: { permission: 'public', params: Params } },
      async ({ params: { tripId } }, reply) => {
        const isPaid = await transaction(async (tx) => {
          const { rowCount } = await tx.query(
            `update trips set status = 'paid' where trip_id = $1 and status = 'billed'`,
            [tripId]
          )
          if (rowCount === 0) return false
          await outbox.cancel(tx, reminderOf(tripId))
          tx.send(TripPaid({ tripId }))
          return true
        })
        return reply.code(isPaid ? 202 : 409).send({ isPaid })
      }
    )

    app.post<{ Params: Type.Static<typeof Params> }>(
      '/trips/:tripId/cancel',
      { schema: { permission: 'public', params: Params } },
      async ({ params }, reply) => {
        await transaction(async (tx) => tx.send(CancelTrip(params)))
        return reply.code(202).send(params)
      }
    )

    app.get<{ Params: Type.Static<typeof Params> }>(
      '/trips/:tripId',
      { schema: { permission: 'public', params: Params } },
      async ({ params: { tripId } }, reply) => {
        const { rows } = await database.query(
          `select status, reason, cents, refunded,
             array(select text from letters where letters.trip_id = trips.trip_id) as letters
           from trips where trip_id = $1`,
          [tripId]
        )
        return rows[0] ?? reply.code(404).send({ tripId })
      }
    )
  }
}

const options: ServiceOptions = {
  sagas: [saga],
  handlers: [sendBill, remindTraveller, withdrawBill, confirm, fail],
  sends: [RemindTraveller, CancelTrip, TripPaid],
  migrations: [
    `create table trips (
       trip_id uuid primary key,
       cents integer not null,
       status text not null default 'placed',
       reason text,
       refunded boolean not null default false
     );
     create table letters (trip_id uuid not null references trips, text text not null)`
  ],
  build: (context) => ({ routes: [routes(context)] })
}

export const trip = defineService('trip', options)
