// Runs trip.ts with its suppliers in one process: node --import=tsx docs/examples/run-trip.ts [folder]
import { randomUUID } from 'node:crypto'
import { defineService, handle, startSagabox } from 'sagabox'
import {
  CancelFlight,
  CancelHotel,
  FlightCancelled,
  FlightReserved,
  HotelCancelled,
  HotelRefused,
  HotelReserved,
  ReserveFlight,
  ReserveHotel,
  trip,
  TripRequested
} from './trip.ts'

const services = [
  defineService('agency', { sagas: [trip] }),
  defineService('airline', {
    handlers: [
      handle(ReserveFlight, ({ tripId }) => FlightReserved({ tripId })),
      handle(CancelFlight, ({ tripId }) => FlightCancelled({ tripId }))
    ]
  }),
  defineService('hotels', {
    handlers: [
      handle(ReserveHotel, ({ tripId, name }) =>
        name === 'Grand' ? HotelRefused({ tripId, reason: 'full' }) : HotelReserved({ tripId })
      ),
      handle(CancelHotel, ({ tripId }) => HotelCancelled({ tripId }))
    ]
  })
]

const app = await startSagabox({ services, dataDir: process.argv[2] ?? '.data' })
const tripId = randomUUID()
await app.publish(TripRequested({ tripId, flight: 'SB 7', hotel: 'Grand' }))
const { state, context, history } = await app.ended(trip, tripId)

console.log(`${state}: ${String(context.reason)}`)
for (const { sequence, event, from, to, sent } of history) {
  const types = sent.map(({ type }) => type).join(' ')
  console.log(sequence, event, `${from ?? '-'} -> ${to}`, types)
}
await app.stop()
