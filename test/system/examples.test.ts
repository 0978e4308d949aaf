import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { defineService, handle, startSagabox } from 'sagabox'
import t from 'tap'
import { runCommand } from '../support/cli.ts'
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

t.test('the tests of the examples pass', (t) => {
  for (const file of ['docs/examples/parcel-test.ts', 'docs/examples/trip-test.ts']) {
    const { status, stdout } = node('--test', '--test-reporter=spec', file)
    t.equal(status, 0, stdout)
    t.match(stdout, /pass 4/)
  }
  t.end()
})

t.test('the examples print what the pages say that they print', (t) => {
  const printedOn = {
    'docs/examples/run-parcel.ts': ['README.md', 'docs/tutorial/first-saga.md'],
    'docs/examples/run-trip.ts': ['docs/how-to/write-a-saga-in-steps.md']
  }
  for (const [program, pages] of Object.entries(printedOn)) {
    const { status, stdout, stderr } = node(program)
    t.equal(status, 0, stderr)
    for (const page of pages) t.equal(stdout.replaceAll(/ +$/gm, ''), outputOn(page, program), page)
  }
  t.end()
})

function outputOn(page: string, program: string): string {
  const [, printed] = readFileSync(join(root, page), 'utf8').split(
    `<!-- output of ${program} -->\n\`\`\`\n`
  )
  const [, output] = /^\$ .*\n([^`]*)```/.exec(printed!)!
  return output!
}

t.test('the operator routes in an app of one’s own answer as the page says', (t) => {
  const { status, stdout, stderr } = node('docs/examples/own-app.ts')
  t.equal(status, 0, stderr)
  const [, printed] = /<!-- output of docs\/examples\/own-app\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
    readFileSync(join(root, 'docs/how-to/mount-the-operator-routes.md'), 'utf8')
  )!
  t.equal(stdout, printed)
  t.end()
})

t.test('the gym reminds, cancels, answers and pauses as the pages say', (t) => {
  const tests = node('--test', '--test-reporter=spec', 'docs/examples/gym-test.ts')
  t.equal(tests.status, 0, tests.stdout)
  t.match(tests.stdout, /pass 2/)
  const { status, stdout, stderr } = node('docs/examples/run-gym.ts', t.testdir())
  t.equal(status, 0, stderr)
  const [, printed] = /<!-- output of docs\/examples\/run-gym\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
    readFileSync(join(root, 'docs/how-to/ask-and-wait.md'), 'utf8')
  )!
  t.equal(stdout, printed)
  t.end()
})

t.test('the travel agency passes its tests and prints what its page says', async (t) => {
  const saga = node('--test', '--test-reporter=spec', 'docs/examples/travel/saga-test.ts')
  t.equal(saga.status, 0, saga.stdout)
  t.match(saga.stdout, /pass 7/)
  const system = spawnSync(
    process.execPath,
    ['--import=tsx', '--test', '--test-reporter=spec', 'docs/examples/travel/system-test.ts'],
    {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, DATABASE_URL: await (await postgresForTests()).createDatabase() }
    }
  )
  t.equal(system.status, 0, system.stdout)
  t.match(system.stdout, /pass 6/)
  const program = 'docs/examples/travel/run.ts'
  const { status, stdout, stderr } = node(program, t.testdir())
  t.equal(status, 0, stderr)
  t.equal(stdout, outputOn('docs/tutorial/travel.md', program))
})

t.test('commands that ask nobody print what their page says', async (t) => {
  const page = readFileSync(join(root, 'docs/reference/commands.md'), 'utf8')
  const blocks = [...page.matchAll(/^```\n\$ sagabox (\S+ \S+ --app \S+)\n(.*?)```$/gms)]
  t.equal(blocks.length, 4)
  for (const [, args, printed] of blocks)
    t.match(await runCommand(args!.split(' ')), { code: 0, out: printed! }, args!)
})

t.test('the examples of the reference that need a server hold', async (t) => {
  const database = async () => (await postgresForTests()).createDatabase()
  const environment = process.env
  t.teardown(() => (process.env = environment))
  for (const name of ['testing', 'orms', 'embedded']) {
    process.env = { ...environment, DATABASE_URL: await database(), DATA_DIR: t.testdir() }
    await import(`../../docs/examples/api/${name}.ts`)
  }
  // In a process of its own, which the watchdog of its example may end.
  process.env = { ...environment, DATABASE_URL: await database() }
  const { status, stderr } = node('docs/examples/api/services.ts')
  t.equal(status, 0, stderr)
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
