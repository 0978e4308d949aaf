// TypeORM, Kysely and Drizzle on the connection and in the transaction of a handler, and in
// transactions of their own from which messages are sent.
import { drizzle as drizzleOn } from 'drizzle-orm/node-postgres'
import { eq, sql } from 'drizzle-orm'
import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import { CompiledQuery, Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import {
  contracts,
  defineService,
  foreign,
  handle,
  NotRetryable,
  startSagabox,
  Type,
  type Message,
  type Tx
} from 'sagabox'
import { drizzle } from 'sagabox/drizzle'
import { kysely } from 'sagabox/kysely'
import { typeorm } from 'sagabox/typeorm'
import t, { type Test } from 'tap'
import { DataSource, EntitySchema } from 'typeorm'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

const port = contracts('port', { correlateBy: 'shipId' })
const Body = { shipId: Type.String({ format: 'uuid' }), name: Type.String() }
const Berth = port.command('Berth', Body)
const Berthed = port.event('Berthed', Body)

interface Ship {
  name: string
  berths: number
}

const ShipEntity = new EntitySchema<Ship>({
  name: 'Ship',
  tableName: 'ships',
  columns: { name: { type: 'text', primary: true }, berths: { type: 'integer' } }
})
const ENTITIES = [ShipEntity]
const ships = pgTable('ships', { name: text().primaryKey(), berths: integer().notNull() })

/** What each of them does: adds a ship, looks it up, and changes it inside a savepoint or not. */
const WAYS: Record<string, (tx: Tx, name: string) => Promise<Ship | undefined>> = {
  async typeorm(tx, name) {
    const manager = await typeorm(tx, ENTITIES)
    const repository = manager.getRepository(ShipEntity)
    await repository.save({ name, berths: 0 })
    await manager
      .transaction(async (inner) => {
        await inner.query('update ships set berths = 100')
        throw new Error('undone by itself')
      })
      .catch(() => {})
    await manager.transaction((inner) =>
      inner.getRepository(ShipEntity).increment({ name }, 'berths', 1)
    )
    return (await repository.findOneBy({ name })) ?? undefined
  },
  async kysely(tx, name) {
    const db = kysely<{ ships: Ship }>(tx)
    await db.insertInto('ships').values({ name, berths: 0 }).execute()
    const changed = await db
      .updateTable('ships')
      .set({ berths: 1 })
      .where('name', '=', name)
      .executeTakeFirst()
    t.equal(changed.numUpdatedRows, 1n)
    return db.selectFrom('ships').selectAll().where('name', '=', name).executeTakeFirst()
  },
  async drizzle(tx, name) {
    const db = drizzle(tx, { schema: { ships } })
    await db.insert(ships).values({ name, berths: 0 })
    await db.update(ships).set({ berths: 1 }).where(eq(ships.name, name))
    return db.query.ships.findFirst({ where: eq(ships.name, name) })
  }
}

/** A service whose handler goes one of the ways, and is told by the name to fail at the end. */
async function open(t: Test, way: (tx: Tx, name: string) => Promise<Ship | undefined>) {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const seen: unknown[] = []
  const heard: string[] = []
  const attempts: string[] = []
  const berth = handle(Berth, async ({ shipId, name }, { tx }) => {
    attempts.push(name)
    seen.push(await way(tx, name))
    tx.send(Berthed({ shipId, name: `${name} by send` }))
    if (name.startsWith('bad')) throw new NotRetryable('no room')
    return Berthed({ shipId, name })
  })
  const causes: unknown[] = []
  const app = await startSagabox({
    services: [
      defineService('port', {
        handlers: [berth],
        sends: [Berthed],
        migrations: ['create table ships (name text primary key, berths integer not null)']
      }),
      defineService('pilot', {
        handlers: [
          handle(Berthed, async ({ name }, { message }) => {
            heard.push(name)
            causes.push(message.initiatorId)
          })
        ]
      })
    ],
    databaseUrl,
    signals: false
  })
  t.teardown(() => app.stop())
  const service = app.service('port')
  const stored = async () =>
    (await service.database.rows<Ship>('select * from ships order by name')).map(
      ({ name, berths }) => `${name} ${berths}`
    )
  return { app, service, databaseUrl, seen, heard, causes, attempts, stored }
}

const shipId = '01a2216f-763e-70bc-9d3d-e6c3e0e55287'

for (const [name, way] of Object.entries(WAYS)) {
  t.test(`${name}: what it writes and what is sent commit together, or not at all`, async (t) => {
    const { app, seen, heard, causes, stored, service } = await open(t, way)
    await app.publish(Berth({ shipId, name: 'bad ship' }))
    await until(
      'it is a dead letter',
      async () => (await service.database.rows('select from dead_letter')).length === 1
    )
    t.match(seen.at(-1), { name: 'bad ship', berths: 1 }, 'it was there')
    t.same(await stored(), [], 'and is gone')
    causes.length = 0
    await app.publish(Berth({ shipId, name: 'Vega' }))
    await until('it is heard of', async () => heard.length === 2)
    t.same(causes, [shipId, shipId], 'both continue its conversation')
    t.same(heard.toSorted(), ['Vega', 'Vega by send'])
    t.same(await stored(), ['Vega 1'])
  })

  t.test(`${name}: a unique violation is the work's, a conflict is tried again`, async (t) => {
    let conflicts = 1
    const { app, heard, stored, attempts } = await open(t, async (tx, ship) => {
      if (conflicts-- > 0) await tx.query(`do $$ begin raise sqlstate '40001'; end $$`)
      return way(tx, ship)
    })
    await app.publish(Berth({ shipId, name: 'Vega' }))
    await until('it is heard of', async () => heard.length === 2)
    t.same(await stored(), ['Vega 1'])
    t.ok(attempts.length > 1)
  })

  t.test(`${name}: it cannot end the transaction, or begin another`, async (t) => {
    const { service, stored } = await open(t, way)
    const begins: Record<string, (tx: Tx) => Promise<unknown>> = {
      typeorm: async (tx) => (await typeorm(tx, ENTITIES)).query('commit'),
      kysely: (tx) =>
        kysely<{ ships: Ship }>(tx)
          .transaction()
          .execute(async () => {}),
      drizzle: (tx) => drizzle(tx).transaction(async () => {})
    }
    const failed = await service
      .transaction(async (tx) => {
        await way(tx, 'Vega')
        await begins[name]!(tx)
      })
      .catch((error: unknown) => error as Error)
    const told = [failed, (failed as Error).cause].map((error) => (error as Error)?.message).join()
    t.match(told, /only transaction\(\) begins and ends a transaction/)
    t.same(await stored(), [])
  })
}

t.test('they read outside transactions, by the connections of the service', async (t) => {
  const { service } = await open(t, WAYS.typeorm!)
  for (const { database, transaction } of [service, service.requests]) {
    await transaction((tx) => tx.query('delete from ships'))
    await transaction((tx) => tx.query(`insert into ships values ('Vega', 3)`))
    const found = [
      await (await typeorm(database, ENTITIES)).getRepository(ShipEntity).find(),
      await kysely<{ ships: Ship }>(database).selectFrom('ships').selectAll().execute(),
      await drizzle(database).select().from(ships)
    ]
    t.match(found, [[{ name: 'Vega', berths: 3 }], [{ name: 'Vega' }], [{ name: 'Vega' }]])
    await t.rejects(
      (await typeorm(database, ENTITIES))
        .getRepository(ShipEntity)
        .save({ name: 'Mira', berths: 1 }),
      /only transaction\(\) begins and ends a transaction/
    )
  }
})

t.test("the entities of a DataSource of one's own", async (t) => {
  const { service, databaseUrl } = await open(t, WAYS.typeorm!)
  const own = new DataSource({ type: 'postgres', url: databaseUrl, entities: ENTITIES })
  await own.initialize()
  t.teardown(() => own.destroy())
  await service.transaction(async (tx) => {
    const manager = await typeorm(tx, own)
    await manager.getRepository(ShipEntity).save({ name: 'Vega', berths: 1 })
    t.equal(await manager.getRepository(ShipEntity).count(), 1)
  })
})

t.test('messages are sent from transactions of other pools, when these commit', async (t) => {
  const { service, databaseUrl, heard } = await open(t, WAYS.kysely!)
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    options: '-c search_path=port_service'
  })
  t.teardown(() => pool.end())
  const theirs = new Kysely<{ ships: Ship }>({ dialect: new PostgresDialect({ pool }) })
  const ownSource = new DataSource({ type: 'postgres', url: databaseUrl })
  await ownSource.initialize()
  t.teardown(() => ownSource.destroy())

  /** Each writes a row, sends a message, and throws at the end if it is told to. */
  const ways: Record<string, (name: string, end: () => void) => Promise<unknown>> = {
    async pg(name, end) {
      const client = await pool.connect()
      try {
        await client.query('begin')
        await client.query('insert into ships values ($1, 0)', [name])
        await service.outbox.add(client, [Berthed({ shipId, name })])
        end()
        await client.query('commit')
      } catch (error) {
        await client.query('rollback')
        throw error
      } finally {
        client.release()
      }
    },
    kysely: (name, end) =>
      theirs.transaction().execute(async (tx) => {
        await tx.insertInto('ships').values({ name, berths: 0 }).execute()
        const connection = {
          query: (query: string, values: string[]) =>
            tx.executeQuery(CompiledQuery.raw(query, values))
        }
        await service.outbox.add(connection, [Berthed({ shipId, name })])
        end()
      }),
    drizzle: (name, end) =>
      drizzleOn(pool).transaction(async (tx) => {
        await tx.insert(ships).values({ name, berths: 0 })
        const connection = {
          query: (query: string, values: string[]) =>
            tx.execute(
              sql.join(
                query
                  .split(/(\$\d+)/)
                  .map((part) =>
                    /^\$\d+$/.test(part)
                      ? sql.param(values[Number(part.slice(1)) - 1])
                      : sql.raw(part)
                  )
              )
            )
        }
        await service.outbox.add(connection, [Berthed({ shipId, name })])
        end()
      }),
    typeorm: (name, end) =>
      ownSource.transaction(async (manager) => {
        await manager.query('insert into port_service.ships values ($1, 0)', [name])
        await service.outbox.add(manager, [Berthed({ shipId, name })])
        end()
      })
  }
  for (const [way, work] of Object.entries(ways)) {
    await t.rejects(
      work(`not by ${way}`, () => {
        throw new Error('no')
      }),
      { message: 'no' }
    )
    const name = `by ${way}: "quoted" \\ ü \u{1F6A2}\n`
    await work(name, () => {})
    await until(`${way} is heard of`, async () => heard.at(-1) === name)
  }
  t.equal(heard.length, 4, 'and of what was rolled back nothing')
  t.equal((await service.database.rows('select from ships')).length, 4)
})

t.test('what is sent later, or to others, is stored by a pool of their own, too', async (t) => {
  const Scanned = foreign('Scanned', {
    exchange: 'theirs',
    type: 'topic',
    key: 'scanned.*',
    keyOf: ({ depot }) => `scanned.${depot}`,
    fields: { depot: Type.String() },
    correlateBy: 'depot'
  })
  const heard: string[] = []
  const scanned: string[] = []
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const app = await startSagabox({
    services: [
      defineService('port', { sends: [Berthed, Scanned] }),
      defineService('pilot', {
        handlers: [
          handle(Berthed, ({ name }) => void heard.push(name)),
          handle(Scanned, ({ depot }) => void scanned.push(depot))
        ]
      })
    ],
    databaseUrl,
    signals: false
  })
  t.teardown(() => app.stop())
  const { outbox, database } = app.service('port')
  const pool = new pg.Pool({ connectionString: databaseUrl })
  t.teardown(() => pool.end())
  const send = async (last: 'commit' | 'rollback', ...messages: Message[]) => {
    const client = await pool.connect()
    await client.query('begin')
    await outbox.add(client, messages)
    await client.query(last)
    client.release()
  }
  const later = (name: string, when: string, token: string) =>
    Berthed({ shipId, name }).after(when, { token })
  await send('rollback', later('never', '0.01s', 'a'), Scanned({ depot: 'never' }))
  await send('commit', later('replaced', '1h', 'a'), later('kept', '1h', 'b'))
  await send(
    'commit',
    later('first', '1h', 'a'),
    later('soon', '0.1s', 'a'),
    Scanned({ depot: 'AMS' }),
    Berthed({ shipId, name: 'at once' })
  )
  await until('all is heard of', async () => heard.length === 2 && scanned.length === 1)
  t.same(heard, ['at once', 'soon'])
  t.same(scanned, ['AMS'])
  t.match(await database.rows('select token from outbox_scheduled'), [{ token: 'b' }])
  await t.rejects(outbox.add(pool, [later('alone', '1h', 'c')]), { code: 'NOT_IN_TRANSACTION' })
})

t.test('a connection without a transaction, or of another database, is refused', async (t) => {
  const { service, heard } = await open(t, WAYS.kysely!)
  const other = new pg.Client({
    connectionString: await (await postgresForTests()).createDatabase()
  })
  await other.connect()
  t.teardown(() => other.end())
  await other.query('begin')
  await t.rejects(
    service.outbox.add(other, [Berthed({ shipId, name: 'Vega' })]),
    /found no table "port_service".outbox by the connection .*expected one to the database of the service/
  )
  await t.rejects(service.outbox.add(service.database.pool, [Berthed({ shipId, name: 'Vega' })]), {
    code: 'NOT_IN_TRANSACTION',
    message: /expected one after BEGIN/
  })
  t.same(await service.database.rows('select from outbox'), [])
  await service.transaction(async (tx) => tx.send(Berthed({ shipId, name: 'Mira' })))
  await until('what came after is heard of', async () => heard.length > 0)
  t.same(heard, ['Mira'])
})
