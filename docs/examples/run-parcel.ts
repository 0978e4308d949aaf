// Runs parcel.ts in one process with a PostgreSQL of its own: node --import=tsx
// docs/examples/run-parcel.ts
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { defineService, MemoryTransport, message, System, systemTopology } from 'sagabox'
import { startEmbeddedPostgres } from 'sagabox/embedded'
import { v7 as uuidv7 } from 'uuid'
import {
  bookCourier,
  cancelCourier,
  CourierBookedEvent,
  ParcelRequestedEvent,
  parcelSaga
} from './parcel.ts'

const shipping = defineService('shipping', { sagas: [parcelSaga], sends: [ParcelRequestedEvent] })
const courier = defineService('courier', {
  handlers: [bookCourier, cancelCourier],
  sends: [CourierBookedEvent],
  migrations: [fileURLToPath(new URL('migrations', import.meta.url))]
})

const log = pino({ level: 'error' })
const dataDir = await mkdtemp(join(tmpdir(), 'parcel-'))
const postgres = await startEmbeddedPostgres({
  dataDir,
  log: { info: () => {}, error: console.error }
})
const services = [shipping, courier]
const system = await System.start({
  services,
  databaseUrls: { shipping: postgres.url, courier: postgres.url },
  transport: new MemoryTransport(systemTopology(services)),
  settings: { redeliverySeconds: [5, 30, 300], inboxDays: 7 },
  host: '127.0.0.1',
  port: 0,
  log
})
await system.started()

// One transaction: the instance, its first history row, and the messages that leave after the
// commit.
const parcelId = uuidv7()
const service = system.service('shipping')
await service.outbox.transaction(async (tx) => {
  const requested = message(ParcelRequestedEvent, {
    parcelId,
    address: '12 St James Square, London'
  })
  const [{ now }]: [{ now: Date }] = await tx.query('select now() as now')
  const started = await service.saga(parcelSaga).start(tx, [requested], now)
  service.outbox.add(tx, [requested, ...started])
})

interface Parcel {
  state: string
  history: {
    sequence: number
    event: string
    from: string | null
    to: string
    sent: { type: string }[]
  }[]
}

const look = async () => (await (await fetch(`${system.url}/sagas/${parcelId}`)).json()) as Parcel
let parcel = await look()
while (parcel.state === 'Booking') {
  await new Promise((resolve) => setTimeout(resolve, 20))
  parcel = await look()
}
for (const { sequence, event, from, to, sent } of parcel.history) {
  console.log(sequence, event, `${from ?? '-'} -> ${to}`, sent.map(({ type }) => type).join(' '))
}

await system.stop()
await postgres.stop()
await rm(dataDir, { recursive: true })
