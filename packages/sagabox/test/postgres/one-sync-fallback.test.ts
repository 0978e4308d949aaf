import pg from 'pg'
import t from 'tap'
import { Database } from '../../src/messaging/postgres/database.ts'
import { isBadData, run, statement, transaction, write } from '../../src/messaging/postgres/sql.ts'
import { ONE_SYNC } from '../../src/quick-ways.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { toldOfWays } from '../../../../test/support/quick-ways.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'

const INSERT = statement('insert into things (thing) select * from unnest($1::jsonb[])')
const COUNT = statement('select count(*)::integer as things from things')

t.test('where pg is not as expected, each statement goes by itself', async (t) => {
  const { describe } = pg.Connection.prototype
  // Another version, which wants what this one adds by itself.
  t.intercept(pg.Connection.prototype, 'describe', {
    value(this: pg.Connection, portal: { name?: string }, more: boolean) {
      if (portal.name === undefined) throw new TypeError('the portal has no name')
      describe.call(this, portal as never, more)
    }
  })
  const log = keptLog()
  const url = await (await postgresForTests()).createDatabase(t.name)
  const options = { url, schema: 'public', migrations: [], poolSize: 2, log }
  const database = new Database(options)
  t.ok(new Database(options), 'another one says nothing more')
  t.match(toldOfWays(log), [{ way: 'one-sync', library: 'pg', reason: 'the portal has no name' }])
  t.equal(toldOfWays(log).length, 1)
  t.notOk(ONE_SYNC.isOpen)

  await database.connect()
  t.teardown(() => database.close())
  await database.rows('create table things (thing jsonb)')
  for (const connection of ['new', 'used']) {
    const seen = await transaction(database, async (tx) => {
      void write(tx, INSERT, [['1', '2']])
      return run<{ things: number }>(tx, COUNT, [])
    })
    t.same(seen, [{ things: connection === 'new' ? 2 : 4 }], connection)
    const failing = transaction(database, async (tx) => {
      void write(tx, INSERT, [['3']])
      void write(tx, INSERT, [['"\\u0000"']])
    })
    t.ok(isBadData(await failing.catch((error: unknown) => error)), 'its own error is told')
  }
  t.same(await database.rows(COUNT.text), [{ things: 4 }], 'and nothing of it stays')
})
