import type pg from 'pg'
import t, { type Test } from 'tap'
import { createDataSource } from '../src/messaging/database.ts'
import { isBadData, run, statement, transaction, write } from '../src/messaging/sql.ts'
import { postgresForTests } from './fixtures/postgres.ts'
import { testLog } from './support/system.ts'

const INSERT = statement('insert into things (thing) select * from unnest($1::jsonb[])')
const COUNT = statement('select count(*)::integer as things from things')

async function open(t: Test) {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const dataSource = createDataSource({ url, schema: 'public', migrations: [], poolSize: 2, log: testLog })
  await dataSource.initialize()
  t.teardown(() => dataSource.destroy())
  await dataSource.query('create table things (thing jsonb)')
  const stored = async () => (await dataSource.query<[{ things: number }]>(COUNT.text))[0].things
  return { dataSource, stored }
}

t.test('writes that nobody waits for are committed, and are there for the statements after them', async (t) => {
  const { dataSource, stored } = await open(t)
  const seen = await transaction(dataSource, async (tx) => {
    void write(tx, INSERT, [['1', '2']])
    void write(tx, INSERT, [['3']])
    return run<{ things: number }>(tx, COUNT, [])
  })
  t.same(seen, [{ things: 3 }])
  t.equal(await stored(), 3)
})

t.test('a write that fails fails the commit, and its own error is the one thrown', async (t) => {
  const { dataSource, stored } = await open(t)
  const work = (then: () => Promise<unknown>) =>
    transaction(dataSource, async (tx) => {
      void write(tx, INSERT, [['1']])
      void write(tx, INSERT, [['"\\u0000"']])
      await then()
    })
  const failure = async (promise: Promise<unknown>) => promise.then(() => undefined, (error: unknown) => error)
  t.ok(isBadData(await failure(work(async () => {}))), 'alone')
  t.ok(isBadData(await failure(transaction(dataSource, async (tx) => {
    void write(tx, INSERT, [['"\\u0000"']])
    await run(tx, COUNT, [])
  }))), 'before a statement that fails because of it')
  t.equal(await stored(), 0)
  await transaction(dataSource, async (tx) => void write(tx, INSERT, [['1']]))
  t.equal(await stored(), 1, 'the connection is fit for the next transaction')
})

t.test('a swallowed SQL error does not pass for a commit', async (t) => {
  const { dataSource, stored } = await open(t)
  const swallowing = transaction(dataSource, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.query('select 1 / 0').catch(() => {})
  })
  await t.rejects(swallowing, /swallowed/)
  t.equal(await stored(), 0)
  await transaction(dataSource, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.transaction((inner) => inner.query('select 1 / 0')).catch(() => {})
  })
  t.equal(await stored(), 1, 'inside a savepoint it is undone, and the rest commits')
})

t.test('work that throws leaves nothing behind', async (t) => {
  const { dataSource, stored } = await open(t)
  await t.rejects(transaction(dataSource, async (tx) => {
    void write(tx, INSERT, [['1']])
    throw new Error('no')
  }), { message: 'no' })
  t.equal(await stored(), 0)
})

t.test('write needs a transaction that waits for it', async (t) => {
  const { dataSource } = await open(t)
  await t.rejects(dataSource.transaction(async (tx) => void write(tx, INSERT, [['1']])), /begun by transaction\(\)/)
})

const TAKE = statement('insert into things (thing) select * from unnest($1::jsonb[]) returning thing')
const taking = (...things: string[]) => ({ ...TAKE, values: [things], read: (rows: { thing?: unknown }[]) => rows.map(({ thing }) => thing) })

t.test('an opening is part of its transaction, on a new connection and on one that was used before', async (t) => {
  const { dataSource, stored } = await open(t)
  for (const [index, connection] of ['new', 'used', 'used'].entries()) {
    const seen = await transaction(dataSource, async (tx, things) => {
      t.equal(tx.queryRunner?.isTransactionActive, true)
      return { things, started: (await tx.query<[{ is: boolean }]>('select now() < clock_timestamp() and pg_current_xact_id_if_assigned() is not null as is'))[0].is }
    }, taking('1', '2'))
    t.same(seen, { things: [1, 2], started: true }, connection)
    t.equal(await stored(), 2 * (index + 1))
    await t.rejects(transaction(dataSource, async () => { throw new Error('no') }, taking('3')), { message: 'no' })
    t.equal(await stored(), 2 * (index + 1), 'nothing of it stays when the work fails')
    const failing = await transaction(dataSource, async () => t.fail('the work is not begun'), taking('"\\u0000"')).catch((error: unknown) => error)
    t.ok(isBadData(failing), 'an opening that fails says why')
  }
  await transaction(dataSource, async (tx) => {
    await tx.transaction(async (inner) => { await inner.query(`insert into things values ('4')`); throw new Error('no') }).catch(() => {})
    await tx.query(`insert into things values ('5')`)
  }, taking('6'))
  t.equal(await stored(), 8, "TypeORM's transaction inside one is a savepoint")
})

t.test('an opening whose BEGIN fails is not executed', async (t) => {
  const { dataSource, stored } = await open(t)
  await transaction(dataSource, async () => {}, taking('1'))
  const runner = dataSource.createQueryRunner()
  const client = (await runner.connect()) as pg.ClientBase
  await client.query('deallocate begin')
  await runner.release()
  let worked = false
  // On the connection that has lost its BEGIN, the pool's last one.
  await t.rejects(transaction(dataSource, async () => { worked = true }, taking('2')), /prepared statement "begin" does not exist/)
  t.equal(worked, false)
  t.equal(await stored(), 1, 'and so is not committed by itself')
})
