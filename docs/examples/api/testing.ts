// Examples of the reference: tests, of the saga of docs/examples/parcel.ts. Imports are left out
// there. DATABASE_URL names a database for those that move real instances.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { MemoryTransport, System, systemTopology } from 'sagabox'
import {
  advance,
  advanceMessages,
  checkSaga,
  describe,
  InvalidRecording,
  readRecording,
  RecordingsCheck,
  settled,
  tell,
  WatchedTransport,
  type CheckOptions,
  type Expected,
  type Finding,
  type Happening,
  type MachineDescription,
  type Recording,
  type RecordingsReport,
  type Story,
  type TransitionDescription,
  type Watched,
  type WatchedSaga
} from 'sagabox/testing'
import { BookCourier, CancelCourier, CourierBooked, parcel } from '../parcel.ts'
import { ParcelRequested, services } from '../parcel.ts'

const parcelId = randomUUID()
const address = '12 St James Square'

// Example: tell, Story, Happening, Expected
const { when } = tell(parcel)
const asks: Expected = BookCourier({ parcelId, address })
const late: Happening = CourierBooked({ parcelId })
const requested: Story = when(ParcelRequested({ parcelId, address })).then('booking', [asks])
requested.advance('61s').when(late).then('givenUp', [CancelCourier])

// Example: checkSaga, CheckOptions
// Samples where a guard looks at more than a schema says; sentences are what was found.
const tried: CheckOptions = { samples: { ParcelRequested: [{ parcelId, address: '-' }] } }
assert.deepEqual(checkSaga(parcel, tried), [])

// Example: describe, MachineDescription, TransitionDescription
const description: MachineDescription = describe(parcel)
const [transition]: TransitionDescription[] = description.transitions
assert.deepEqual(description.states, ['booking', 'booked', 'givenUp'])
assert.deepEqual(transition, { from: 'booking', event: 'CourierBooked', to: 'booked' })

// Example: readRecording, RecordingsCheck, InvalidRecording, Recording, RecordingsReport, Finding
// Each line of an export, held to the saga as it is now.
const line = JSON.stringify({
  saga: 'parcel',
  sagaId: parcelId,
  state: 'booking',
  value: 'booking',
  context: { parcelId, address },
  version: 1,
  machineVersion: 1,
  timers: [],
  deferred: null,
  createdAt: '2026-01-01T00:00:00.000Z',
  updatedAt: '2026-01-01T00:00:00.000Z',
  history: []
})
const recording: Recording = readRecording(line)
const check = new RecordingsCheck(parcel)
check.add(recording)
const report: RecordingsReport = check.report()
const [finding]: readonly Finding[] = report.diverged
assert.equal(report.instances, 1)
assert.match(finding?.what ?? '', /history is not whole/)
assert.throws(() => readRecording('parcel'), InvalidRecording)

// Example: settled, advance, advanceMessages, WatchedTransport, Watched, WatchedSaga
// The whole system, with its database and without its minutes.
const topology = systemTopology(services)
const transport = new WatchedTransport(new MemoryTransport(topology), topology)
const url = process.env['DATABASE_URL']!
const system = await System.start({
  services,
  databaseUrls: { shipping: url, courier: url },
  transport,
  settings: { redeliverySeconds: [5, 30, 300], inboxDays: 7 },
  host: '127.0.0.1',
  port: false,
  log: pino({ level: 'silent' })
})
await system.started()
const shipping = system.service('shipping')
const watchedSaga: WatchedSaga = { database: shipping.database, name: parcel.name }
const watched: Watched = {
  transport,
  outboxes: system.services.map(({ database }) => database),
  sagas: [watchedSaga]
}
await shipping.transaction(async (tx) => tx.send(ParcelRequested({ parcelId, address })))
await settled(watched)
await advance(watchedSaga, '1m')
await advanceMessages(shipping.database, '1m') // what is sent later, had there been any
await settled(watched)
assert.equal(transport.published.length, 3)
await system.stop()

// End of examples
