// Runs the travel agency in one process: node --import=tsx docs/examples/travel/run.ts [folder]
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { startSagabox } from 'sagabox'
import { advanceMessages } from 'sagabox/testing'
import { AirportClosed } from './contracts.ts'
import { system } from './system.ts'
import { trip } from './trip-saga.ts'

// A database that is new each time: nothing has been closed or sold.
const dataDir = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'travel-')))
const app = await startSagabox({ services: system, dataDir })

console.log('Two nights in Lisbon, paid after a reminder')
const lisbon = await place({ airport: 'LIS', hotel: 'Avenida', nights: 2 })
await until(lisbon, ({ status }) => status === 'billed')
await advanceMessages(app.service('trip').database, '1d')
await until(lisbon, ({ letters }) => letters.length === 1)
await post(`/trips/${lisbon}/payment`)
await tell(lisbon)

console.log('A hotel that is full')
await tell(await place({ airport: 'KEF', hotel: 'Borg', nights: 3 }))

console.log('A storm')
const grounded = await place({ airport: 'LIS', hotel: 'Avenida', nights: 1 })
await until(grounded, ({ status }) => status === 'billed')
await app.publish(AirportClosed({ airport: 'LIS', because: 'there is a storm' }))
await tell(grounded)
await app.stop()

interface Trip {
  status: string
  reason: string | null
  letters: string[]
}

async function post(path: string, body?: object): Promise<{ tripId: string; cents: number }> {
  const answer = await fetch(app.url + path, {
    method: 'POST',
    ...(body && {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
  })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as { tripId: string; cents: number }
}

async function place(wanted: object): Promise<string> {
  const { tripId, cents } = await post('/trips', wanted)
  console.log(`  costs ${cents} cents`)
  return tripId
}

async function until(tripId: string, isSo: (trip: Trip) => boolean): Promise<Trip> {
  for (;;) {
    const found = (await (await fetch(`${app.url}/trips/${tripId}`)).json()) as Trip
    if (isSo(found)) return found
    await setTimeout(20)
  }
}

/** Waits until a trip has ended, and says how. */
async function tell(tripId: string): Promise<void> {
  const { history } = await app.ended(trip, tripId)
  const { status, reason, letters } = await until(tripId, (found) =>
    ['confirmed', 'failed'].includes(found.status)
  )
  for (const letter of letters) console.log(`  letter: ${letter}`)
  for (const { event, to, sent } of history) {
    const types = sent.map(({ type }) => type).join(' ')
    console.log(`  ${event} -> ${to}${types && `, sends ${types}`}`)
  }
  console.log(`  ${status}${reason === null ? '' : `: ${reason}`}`)
}
