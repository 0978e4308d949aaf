// Runs parcel.ts in one process with a PostgreSQL of its own: node --import=tsx docs/examples/run-parcel.ts
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { v7 as uuidv7 } from 'uuid'
import { startEmbeddedPostgres } from 'sagabox/embedded'
import { connectDatabase, createDataSource, Endpoint, endpointTopology, Relay, SagaInspector, TimerLoop, topologyOf } from 'sagabox/engine'
import { MemoryTransport, message, Outbox, SagaHost } from 'sagabox'
import { BookCourier, bookCourier, CancelCourier, cancelCourier, CourierBookedEvent, ParcelRequestedEvent, parcelSaga } from './parcel.ts'

const log = pino({ level: 'error' })
const dataDir = await mkdtemp(join(tmpdir(), 'parcel-'))
const postgres = await startEmbeddedPostgres({ dataDir, log: { info: () => {}, error: console.error } })

// A schema of its own, with the library's tables and the example's.
const migrations = ['../../migrations/messaging', '../../migrations/saga', './migrations'].map((folder) => fileURLToPath(new URL(folder, import.meta.url)))
const database = { url: postgres.url, schema: 'shipping_service', migrations, poolSize: 5, log }
const dataSource = createDataSource(database)
await connectDatabase(dataSource, database)

const host = new SagaHost(parcelSaga)
const shipping = { name: 'shipping', handlers: [host.handler()] }
const courier = { name: 'courier', handlers: [bookCourier, cancelCourier] }
const transport = new MemoryTransport(topologyOf([shipping, courier].map(endpointTopology), [ParcelRequestedEvent, BookCourier, CourierBookedEvent, CancelCourier]))
const relay = new Relay({ url: postgres.url, schema: 'shipping_service', transport, log })
const outbox = new Outbox({ dataSource, address: transport.address, source: 'shipping', knows: (destination) => transport.knows(destination), committed: () => relay.wake() })
const endpoints = [shipping, courier].map((definition) => new Endpoint({ definition, outbox, transport, log }))
const timers = new TimerLoop(host, outbox, log)

transport.start(() => relay.wake())
relay.start()
for (const endpoint of endpoints) endpoint.start()
timers.start()

// One transaction: the instance, its first history row, and the messages that leave after the commit.
const parcelId = uuidv7()
await outbox.transaction(async (tx) => {
  const requested = message(ParcelRequestedEvent, { parcelId, address: '12 St James Square, London' })
  const [{ now }]: [{ now: Date }] = await tx.query('select now() as now')
  outbox.add(tx, [requested, ...(await host.start(tx, [requested], now))])
})

const inspector = new SagaInspector(dataSource, parcelSaga)
let parcel = await inspector.get(parcelId)
while (parcel?.state === 'Booking') {
  await new Promise((resolve) => setTimeout(resolve, 20))
  parcel = await inspector.get(parcelId)
}
for (const { sequence, event, from, to, sent } of parcel?.history ?? []) console.log(sequence, event, `${from ?? '-'} -> ${to}`, sent.map(({ type }) => type).join(' '))

await relay.stop()
for (const endpoint of endpoints) await endpoint.stop()
await timers.stop()
await dataSource.destroy()
await transport.stop()
await postgres.stop()
await rm(dataDir, { recursive: true })
