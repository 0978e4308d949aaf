// A few hundred sagas in steps on the whole system, whose suppliers refuse, keep silent, answer
// twice, and do things after they were undone.
import { createHash, randomUUID } from 'node:crypto'
import {
  contracts,
  defineSaga,
  defineService,
  handle,
  startSagabox,
  Type,
  type Contract,
  type Handler,
  type Tx
} from 'sagabox'
import pg from 'pg'
import t from 'tap'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

const INSTANCES = 200

const Id = Type.String({ format: 'uuid' })
const agency = contracts('agency', { correlateBy: 'tripId' })
const supplier = contracts('supplier', { correlateBy: 'tripId' })
const TripRequested = agency.event('TripRequested', { tripId: Id, isInsured: Type.Boolean() })
const TripCancelled = agency.event('TripCancelled', { tripId: Id, reason: Type.String() })
const TripFailed = agency.event('TripFailed', { tripId: Id, reason: Type.String() })
const TripConfirmed = agency.event('TripConfirmed', { tripId: Id })

function supply<const Name extends string>(name: Name) {
  return {
    reserve: supplier.command(`Reserve${name}`, { tripId: Id }),
    reserved: supplier.event(`${name}Reserved`, { tripId: Id }),
    refused: supplier.event(`${name}Refused`, { tripId: Id, reason: Type.String() }),
    cancel: supplier.command(`Cancel${name}`, { tripId: Id }),
    cancelled: supplier.event(`${name}Cancelled`, { tripId: Id })
  }
}

const SUPPLIES = {
  flight: supply('Flight'),
  hotel: supply('Hotel'),
  insurance: supply('Insurance')
}

const trip = defineSaga('trip', {
  startedBy: TripRequested,
  within: '30s',
  cancelBy: TripCancelled,
  steps: ({ step, all }) => {
    const parts = ({
      reserve,
      reserved,
      refused,
      cancel,
      cancelled
    }: (typeof SUPPLIES)['flight']) => ({
      do: reserve,
      done: reserved,
      refused,
      undo: cancel,
      undone: cancelled,
      undoAgain: '500ms'
    })
    // Twice that, and all of them are handled meanwhile, also on a slow machine.
    const patience = { within: '2s', retry: 1 }
    const { flight, hotel, insurance } = SUPPLIES as unknown as Record<
      string,
      (typeof SUPPLIES)['flight']
    >
    return [
      step('insurance', {
        ...parts(insurance!),
        ...patience,
        when: ({ isInsured }) => isInsured
      }),
      all([step('flight', parts(flight!)), step('hotel', parts(hotel!))], patience)
    ]
  },
  completed: TripConfirmed,
  failed: TripFailed
})

/** What a supplier does about one trip: always the same. */
function mannerOf(tripId: string, what: string): string {
  const [first] = createHash('sha1').update(`${tripId} ${what}`).digest()
  const manners = ['refuses', 'is silent', 'is deaf once', 'is late', 'answers twice']
  return manners[first! % 16] ?? 'does it'
}

async function isFirst(tx: Tx, tripId: string, what: string): Promise<boolean> {
  const sql = 'insert into heard values ($1, $2) on conflict do nothing returning true as first'
  const found = (await tx.query(sql, [tripId, what])) as unknown as { rows?: unknown[] } & unknown[]
  return (found.rows ?? found).length > 0
}

async function take(tx: Tx, tripId: string, what: string): Promise<void> {
  await tx.query('insert into taken values ($1, $2) on conflict do nothing', [tripId, what])
}

const handlers = Object.entries(SUPPLIES).flatMap(([what, contract]): Handler[] => {
  const { reserve, reserved, refused, cancel, cancelled } = contract as (typeof SUPPLIES)['flight']
  return [
    handle(reserve, async ({ tripId }, { tx }) => {
      const manner = mannerOf(tripId, what)
      if (manner === 'refuses') return refused({ tripId, reason: `no ${what}` })
      if (manner === 'is silent' || manner === 'is late') return []
      if (manner === 'is deaf once' && (await isFirst(tx, tripId, what))) return []
      await take(tx, tripId, what)
      return manner === 'answers twice'
        ? [reserved({ tripId }), reserved({ tripId })]
        : reserved({ tripId })
    }),
    handle(cancel, async ({ tripId }, { tx }) => {
      // What it is to undo comes after it, and is done then.
      if (mannerOf(tripId, what) === 'is late' && (await isFirst(tx, tripId, `no ${what}`))) {
        await take(tx, tripId, what)
        return [cancelled({ tripId }), reserved({ tripId })]
      }
      await tx.query('delete from taken where trip_id = $1 and what = $2', [tripId, what])
      return cancelled({ tripId })
    })
  ]
})

const told: Contract[] = [TripFailed, TripConfirmed]
const services = [
  defineService('agency', { sagas: [trip] }),
  defineService('supplier', {
    handlers: [
      ...handlers,
      ...told.map((contract) =>
        handle(contract, async (body, { tx }) => {
          const { tripId } = body as { tripId: string }
          await tx.query('insert into told values ($1, $2)', [tripId, contract.name])
        })
      )
    ],
    migrations: [
      'create table taken (trip_id uuid, what text, primary key (trip_id, what))',
      'create table heard (trip_id uuid, what text, primary key (trip_id, what))',
      'create table told (trip_id uuid, what text)'
    ]
  })
]

t.test('every trip ends with all that was asked for, or with nothing', async (t) => {
  t.setTimeout(120_000)
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const app = await startSagabox({ services, databaseUrl, signals: false })
  t.teardown(() => app.stop())
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  const count = async (sql: string) =>
    Number((await client.query<{ n: string }>(`select count(*) as n from ${sql}`)).rows[0]!.n)

  const trips = Array.from({ length: INSTANCES }, (_, index) => ({
    tripId: randomUUID(),
    isInsured: index % 2 === 0
  }))
  await app.publish(...trips.map((one) => TripRequested(one)))
  await until(
    'all have been started',
    async () => (await count('agency_service.saga')) === INSTANCES
  )
  const cancelled = trips.filter((_, index) => index % 10 === 0)
  await app.publish(...cancelled.map(({ tripId }) => TripCancelled({ tripId, reason: 'changed' })))
  await until(
    'all have ended, and nothing is under way',
    async () =>
      (await count(`agency_service.saga where state not in ('completed', 'failed')`)) === 0 &&
      (await count('agency_service.outbox')) + (await count('supplier_service.outbox')) === 0 &&
      (await count('supplier_service.told')) === INSTANCES
  )

  const { rows } = await client.query<{
    state: string
    insured: boolean
    taken: string
    told: string
  }>(`
    select state, (context ->> 'isInsured')::boolean as insured,
      (select string_agg(what, ' ' order by what) from supplier_service.taken
        where trip_id = saga_id) as taken,
      (select string_agg(what, ' ') from supplier_service.told where trip_id = saga_id) as told
    from agency_service.saga`)
  const kinds = new Map<string, number>()
  for (const { state, insured, taken, told: heard } of rows) {
    const kind = `${state}${state === 'completed' && insured ? ', insured' : ''}: ${taken ?? 'nothing'}; ${heard}`
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  }
  t.same([...kinds.keys()].toSorted(), [
    'completed, insured: flight hotel insurance; TripConfirmed',
    'completed: flight hotel; TripConfirmed',
    'failed: nothing; TripFailed'
  ])
  t.comment(Object.fromEntries(kinds))
})
