import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { defineService, handle, startSagabox } from 'sagabox'
import t from 'tap'
import {
  BookCourier,
  bookByOwnPool,
  bookCourier,
  CancelCourier,
  cancelCourier,
  connectionOf,
  CourierBooked,
  MoveCourier,
  moveCourier
} from '../../docs/examples/orms.ts'
import { postgresForTests } from '../support/postgres.ts'
import { until } from '../support/until.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('the tests of the example pass', (t) => {
  const { status, stdout } = node('--test', '--test-reporter=spec', 'docs/examples/parcel-test.ts')
  t.equal(status, 0, stdout)
  t.match(stdout, /pass 4/)
  t.end()
})

t.test('the example prints what the pages say that it prints', (t) => {
  const { status, stdout, stderr } = node('docs/examples/run-parcel.ts')
  t.equal(status, 0, stderr)
  for (const page of ['README.md', 'docs/tutorial/first-saga.md']) {
    const [, printed] =
      /<!-- output of docs\/examples\/run-parcel\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
        readFileSync(join(root, page), 'utf8')
      )!
    t.equal(stdout.replaceAll(/ +$/gm, ''), printed, page)
  }
  t.end()
})

t.test('the examples of ORMs write and send together', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const heard: string[] = []
  const app = await startSagabox({
    services: [
      defineService('courier', {
        handlers: [bookCourier, moveCourier, cancelCourier],
        migrations: ['create table bookings (parcel_id uuid primary key, address text)']
      }),
      defineService('shipping', {
        handlers: [handle(CourierBooked, async ({ address }) => void heard.push(address))]
      })
    ],
    databaseUrl,
    signals: false
  })
  t.teardown(() => app.stop())
  const { database, outbox } = app.service('courier')
  const stored = () => database.query('select address from bookings order by address')
  const parcelId = randomUUID()
  await app.publish(BookCourier({ parcelId, address: 'first' }))
  await until('it is booked', async () => heard.length === 1)
  await app.publish(MoveCourier({ parcelId, address: 'second' }))
  await until('it is moved', async () => heard.length === 2)
  t.match((await stored()).rows, [{ address: 'second' }])
  await app.publish(CancelCourier({ parcelId, address: 'second' }))
  await until('it is cancelled', async () => (await stored()).rowCount === 0)

  const pool = new pg.Pool({ connectionString: databaseUrl })
  t.teardown(() => pool.end())
  await bookByOwnPool(pool, outbox, { parcelId, address: 'third' })
  await until('it is heard of', async () => heard.length === 3)
  await t.rejects(bookByOwnPool(pool, outbox, { parcelId, address: 'again' }), { code: '23505' })
  const db = new Kysely({ dialect: new PostgresDialect({ pool }) })
  await db
    .transaction()
    .execute((tx) => outbox.add(connectionOf(tx), [CourierBooked({ parcelId, address: 'fourth' })]))
  await until('it is heard of', async () => heard.length === 4)
  t.same(heard, ['first', 'second', 'third', 'fourth'])
})

/** As the pages say: against the build. */
function node(...args: string[]) {
  return spawnSync(process.execPath, ['--import=tsx', ...args], { cwd: root, encoding: 'utf8' })
}
