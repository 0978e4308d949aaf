// Runs parcel.ts in one process: node --import=tsx docs/examples/run-parcel.ts
import { randomUUID } from 'node:crypto'
import { parcel, ParcelRequested, start } from './parcel.ts'

const app = await start(process.argv[2] ?? '.data')
const parcelId = randomUUID()
await app.publish(ParcelRequested({ parcelId, address: '12 St James Square' }))
const { state, history } = await app.ended(parcel, parcelId)
console.log(state)
for (const { sequence, event, from, to, sent } of history) {
  const types = sent.map(({ type }) => type).join(' ')
  console.log(sequence, event, `${from ?? '-'} -> ${to}`, types)
}
await app.stop()
