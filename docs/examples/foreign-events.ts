// Somebody else's events: JSON without an envelope, over an exchange that is theirs.
import { contracts, defineSaga, defineService, foreign, handle, ignore, Type } from 'sagabox'

export const ParcelScanned = foreign('ParcelScanned', {
  exchange: 'courier.events',
  type: 'topic',
  key: 'parcel.scanned.*',
  // Only tests send it.
  keyOf: ({ depot }) => `parcel.scanned.${depot}`,
  fields: { parcel: Type.String(), depot: Type.String() },
  correlateBy: 'parcel'
})

// What we tell them goes the same way.
export const ParcelReleased = foreign('ParcelReleased', {
  exchange: 'courier.events',
  type: 'topic',
  key: 'parcel.released.#',
  keyOf: ({ depot }) => `parcel.released.${depot}`,
  fields: { parcel: Type.String(), depot: Type.String() },
  correlateBy: 'parcel'
})

const customs = contracts('customs', { correlateBy: 'parcel' })
export const ParcelCleared = customs.event('ParcelCleared', { parcel: Type.String() })

export const clearance = defineSaga(
  'clearance',
  {
    startedBy: ParcelScanned,
    handles: [ParcelCleared],
    context: ({ parcel, depot }) => ({ parcel, depot })
  },
  ({ send }) => ({
    initial: 'waiting',
    states: {
      waiting: { on: { ParcelCleared: 'released' }, after: { '3d': 'kept' } },
      released: {
        tags: 'end',
        entry: send(ParcelReleased, ({ parcel, depot }) => ({ parcel, depot })),
        on: { ParcelCleared: ignore('released before') }
      },
      kept: { tags: 'end', on: { ParcelCleared: 'released' } }
    }
  })
)

// It may come again: the second insert changes nothing.
const record = handle(ParcelReleased, async ({ parcel }, { tx }) => {
  await tx.query('insert into released values ($1) on conflict do nothing', [parcel])
})

export const services = [
  defineService('customs', { sagas: [clearance] }),
  defineService('depot', {
    handlers: [record],
    migrations: ['create table released (parcel text primary key)']
  })
]
