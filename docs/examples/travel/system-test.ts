// Tests the whole travel agency in memory, on a PostgreSQL of its own or at DATABASE_URL:
// node --import=tsx --test docs/examples/travel/system-test.ts
import { deepEqual, equal, match } from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { startSagabox, type Sagabox } from 'sagabox'
import { advance, advanceMessages } from 'sagabox/testing'
import { AirportClosed } from './contracts.ts'
import { system } from './system.ts'
import { trip } from './trip-saga.ts'

interface Trip {
  status: string
  reason: string | null
  refunded: boolean
  letters: string[]
}

const { DATABASE_URL } = process.env
let app: Sagabox
let dataDir: string

before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'travel-'))
  app = await startSagabox({
    services: system,
    ...(DATABASE_URL ? { databaseUrl: DATABASE_URL } : { dataDir }),
    signals: false
  })
})
after(async () => {
  await app.stop()
  await rm(dataDir, { recursive: true })
})

function post(path: string, body?: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' }
  return fetch(app.url + path, {
    method: 'POST',
    ...(body && { headers, body: JSON.stringify(body) })
  })
}

async function place(airport: string, hotel: string): Promise<string> {
  const answer = await post('/trips', { airport, hotel, nights: 2 })
  equal(answer.status, 202)
  return ((await answer.json()) as { tripId: string }).tripId
}

/** Waits until a trip is as it should be. */
async function until(tripId: string, isSo: (found: Trip) => boolean): Promise<Trip> {
  for (const began = performance.now(); ; await setTimeout(20)) {
    const found = (await (await fetch(`${app.url}/trips/${tripId}`)).json()) as Trip
    if (isSo(found)) return found
    if (performance.now() - began > 60_000) throw new Error(JSON.stringify(found))
  }
}

const is = (status: string) => (found: Trip) => found.status === status

/** Who has a seat, and who has a room. */
async function held(tripId: string) {
  const [seats, stays] = await Promise.all([
    app.service('flight').database.query('select 1 from seats where trip_id = $1', [tripId]),
    app.service('hotel').database.query('select 1 from stays where trip_id = $1', [tripId])
  ])
  return { seats: seats.rowCount, stays: stays.rowCount }
}

test('who is reminded each day pays, and has a seat and a room', async () => {
  const tripId = await place('KEF', 'Avenida')
  await until(tripId, is('billed'))
  for (const days of [1, 2]) {
    await advanceMessages(app.service('trip').database, '1d')
    await until(tripId, ({ letters }) => letters.length === days)
  }
  equal((await post(`/trips/${tripId}/payment`)).status, 202)
  equal((await post(`/trips/${tripId}/payment`)).status, 409)
  await until(tripId, is('confirmed'))
  deepEqual(await held(tripId), { seats: 1, stays: 1 })
  const { rows } = await app.service('trip').database.query('select * from outbox_scheduled')
  deepEqual(rows, [])
})

test('a bill that nobody pays for three days ends the trip', async () => {
  const tripId = await place('KEF', 'Avenida')
  await until(tripId, is('billed'))
  await advance({ database: app.service('trip').database, name: trip.name }, '3d')
  equal((await app.ended(trip, tripId)).state, 'failed')
  match((await until(tripId, is('failed'))).reason!, /payment/)
  deepEqual(await held(tripId), { seats: 0, stays: 0 })
})

test('a full hotel gives the seat back', async () => {
  const tripId = await place('KEF', 'Borg')
  equal((await until(tripId, is('failed'))).reason, 'the Borg is full')
  deepEqual(await held(tripId), { seats: 0, stays: 0 })
})

test('a trip that its traveller cancels leaves nothing', async () => {
  const tripId = await place('KEF', 'Avenida')
  equal((await post(`/trips/${tripId}/cancel`)).status, 202)
  await until(tripId, is('failed'))
  deepEqual(await held(tripId), { seats: 0, stays: 0 })
})

test('what nobody sells is not placed', async () => {
  equal((await post('/trips', { airport: 'XXX', hotel: 'Avenida', nights: 1 })).status, 404)
})

test('a closed airport ends the trips that are under way, and takes no more', async () => {
  const tripId = await place('LIS', 'Avenida')
  await until(tripId, is('billed'))
  await app.publish(AirportClosed({ airport: 'LIS', because: 'there is a storm' }))
  equal((await until(tripId, is('failed'))).reason, 'the airport is closed')
  deepEqual(await held(tripId), { seats: 0, stays: 0 })
  const late = await place('LIS', 'Avenida')
  equal((await until(late, is('failed'))).reason, 'there is a storm')
})
