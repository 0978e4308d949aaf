import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { contracts, defineService, startSagabox, Type } from 'sagabox'
import t, { type Test } from 'tap'
import { Database } from '../../src/messaging/postgres/database.ts'
import {
  migrate,
  migrationScript,
  planMigrations,
  type MigrateOptions
} from '../../src/messaging/postgres/migrate.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { migrationsOf } from '../../../../test/support/migrations.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'

const SHIPS = { '202601010000-ships.sql': 'create table ships (id int, name text)' }
const NAMES = {
  '202602010000-names.sql':
    'drop index concurrently if exists names;\ncreate index concurrently names on ships (name);'
}
const LAST = { '202603010000-last.sql': 'alter table ships add column last text' }

async function open(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-migrations-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const url = await (await postgresForTests()).createDatabase()
  const client = new pg.Client({ connectionString: url, options: '-c search_path=harbour' })
  await client.connect()
  t.teardown(() => client.end())
  let builds = 0
  /** A build with these files. */
  const build = async (files: Record<string, string>, texts: string[] = []) => {
    const own = join(folder, String(++builds))
    await mkdir(own)
    for (const [file, sql] of Object.entries(files)) await writeFile(join(own, file), sql)
    const log = keptLog()
    const options: MigrateOptions = { url, schema: 'harbour', migrations: [own, ...texts], log }
    return { options, log, folder: own }
  }
  const start = async (options: MigrateOptions, mode?: 'auto' | 'check' | 'off') => {
    const database = new Database({ ...options, poolSize: 2, migrate: mode })
    try {
      await database.connect()
    } finally {
      await database.close()
    }
  }
  const recorded = async () =>
    (await client.query<{ id: string }>('select id from sagabox_migrations order by id')).rows.map(
      ({ id }) => id
    )
  return { url, client, build, start, recorded }
}

t.test('what is pending runs once, in order, and is planned before', async (t) => {
  const { build, start, client, recorded } = await open(t)
  const { options } = await build({ ...LAST, ...NAMES, ...SHIPS }, ['create table one (id int)'])
  const ids = ['202601010000-ships', '202602010000-names', '202603010000-last', 'inline-1']
  const planned = async () => (await planMigrations(options)).pending.map(({ id }) => id)
  t.same(await planned(), ids)
  t.same((await client.query(`select to_regnamespace('harbour') as made`)).rows, [{ made: null }])
  await t.rejects(migrate(options, 'nothing'), /no migration nothing .* expected one of 2026/)
  t.same(await migrate(options, ids[1]), ids.slice(0, 2), 'up to one of them')
  t.same(await planned(), ids.slice(2))
  t.same(await migrate(options, ids[0]), [], 'never back')
  await start(options)
  t.same(await planned(), [])
  t.same(await recorded(), ids)
  await start(options)
})

t.test('processes that start at once run each migration once', async (t) => {
  const { build, start, recorded } = await open(t)
  const { options } = await build({ ...SHIPS, ...LAST })
  await Promise.all([1, 2, 3, 4].map(() => start(options)))
  t.equal((await recorded()).length, 2)
})

t.test('one that fails leaves nothing, and those before it stay', async (t) => {
  const { build, start, recorded } = await open(t)
  const broken = { '202602020000-broken.sql': 'create table two (id int); select 1 / 0' }
  const { options, folder } = await build({ ...SHIPS, ...broken })
  await t.rejects(start(options), {
    message: `The migration ${join(folder, '202602020000-broken.sql')}: division by zero`
  })
  t.same(await recorded(), ['202601010000-ships'])
  await writeFile(join(folder, '202602020000-broken.sql'), 'create table two (id int)')
  await start(options)
})

t.test('a migration that was changed after it ran is named, with both checksums', async (t) => {
  const { build, start } = await open(t)
  await start((await build(SHIPS)).options)
  const other = await build({ '202601010000-ships.sql': 'create table ships (id int)' })
  for (const mode of ['auto', 'check'] as const)
    await t.rejects(start(other.options, mode), {
      code: 'MIGRATION_EDITED',
      message:
        /202601010000-ships\.sql was changed .* SHA-256 is [0-9a-f]{64}, and [0-9a-f]{64} was recorded/
    })
  await start(other.options, 'off')
})

t.test('line ends make no other migration', async (t) => {
  const { build, start } = await open(t)
  const file = '202601010000-ships.sql'
  await start((await build({ [file]: 'create table ships\n(id int)' })).options)
  await start((await build({ [file]: 'create table ships\r\n(id int)' })).options)
})

t.test('files that are no migrations, and names that are there twice', async (t) => {
  const { build } = await open(t)
  const odd = await build({ 'ships.sql': 'select 1' })
  await t.rejects(planMigrations(odd.options), /ships\.sql: expected a name like 2026/)
  const one = await build(SHIPS)
  const both = [...one.options.migrations, ...(await build(SHIPS)).options.migrations]
  await t.rejects(
    planMigrations({ ...one.options, migrations: both }),
    /ships\.sql and .*ships\.sql: expected names of their own/
  )
})

t.test('check changes nothing and names what is pending; off looks at nothing', async (t) => {
  const { build, start, client, recorded } = await open(t)
  const { options } = await build({ ...SHIPS, ...LAST })
  await t.rejects(start(options, 'check'), {
    code: 'MIGRATIONS_PENDING',
    message:
      /2 migrations of the schema harbour are pending: 202601010000-ships, 202603010000-last.*npx sagabox migrate/
  })
  await start(options, 'off')
  t.same((await client.query(`select to_regnamespace('harbour') as made`)).rows, [{ made: null }])
  await start(options)
  await start(options, 'check')
  t.equal((await recorded()).length, 2)
})

t.test('the script does what would have been done, and is recorded', async (t) => {
  const { build, start, client, recorded } = await open(t)
  const { options } = await build({ ...SHIPS, ...NAMES, ...LAST }, [`insert into ships values (1)`])
  await migrate(options, '202601010000-ships')
  const script = await migrationScript(options)
  // What psql would send: each statement by itself, but for its own commands.
  const statements = script.replaceAll(/^\\.*$/gm, '').split(/;\s*$/m)
  for (const text of statements) await client.query(text)
  t.equal((await recorded()).length, 4)
  await start(options, 'check')
  t.match((await client.query('select * from ships')).rows, [{ id: 1, last: null }])
  const fresh = await migrationScript({ ...options, schema: 'Other "one"' })
  for (const text of fresh.replaceAll(/^\\.*$/gm, '').split(/;\s*$/m)) await client.query(text)
  await start({ ...options, schema: 'Other "one"' }, 'check')
})

t.test('what 0.1 recorded is taken over once', async (t) => {
  const { client, start, recorded, url } = await open(t)
  const folder = migrationsOf('messaging')
  const files = (await readdir(folder)).toSorted()
  const former = files.slice(0, 3)
  await client.query('create schema harbour')
  // As TypeORM made it.
  await client.query(
    'create table migrations (id serial not null, "timestamp" bigint not null, name character varying not null, primary key (id))'
  )
  for (const file of former) {
    const sql = await readFile(join(folder, file), 'utf8')
    const parts = sql.includes('concurrently') ? sql.split(/;\s*$/m) : [sql]
    for (const part of parts) await client.query(part)
    const [, digits, title] = /^(\d{12})-(.+)\.sql$/.exec(file)!
    await client.query('insert into migrations ("timestamp", name) values ($1, $2)', [
      digits,
      `${title}-0${digits}`
    ])
  }
  await client.query(
    `insert into migrations ("timestamp", name) values (9, 'inline-9000000000001')`
  )
  await client.query(`insert into migrations ("timestamp", name) values (9, 'later-0209901010000')`)
  const log = keptLog()
  const options = { url, schema: 'harbour', migrations: [folder, 'select 1 / 0'], log }
  const isOlder = {
    message: /^This build is older/,
    fields: { migrations: ['209901010000-later'] }
  }
  await t.rejects(start(options, 'check'), {
    message: new RegExp(`${files.length - 3} migrations`)
  })
  await Promise.all([1, 2, 3].map(() => start(options)))
  t.match(
    log.lines.filter(({ message }) => message.startsWith('This build')),
    [isOlder, isOlder, isOlder, isOlder]
  )
  const ids = files.map((file) => file.replace('.sql', ''))
  t.same(await recorded(), [...ids, '209901010000-later', 'inline-1'].toSorted())
  t.equal((await client.query('select from migrations')).rowCount, 5, 'and is left as it was')
  await start(options, 'check')
  await client.query(`insert into migrations ("timestamp", name) values (9, 'more-0202601010000')`)
  await start(options)
  t.notOk((await recorded()).includes('202601010000-more'), 'only once')
})

t.test("somebody else's table of that name is left alone", async (t) => {
  const { client, build, start, recorded } = await open(t)
  await client.query('create schema harbour; create table migrations (step int)')
  await start((await build(SHIPS)).options)
  t.same(await recorded(), ['202601010000-ships'])
})

t.test('older code says once that the database is of a newer build, and starts', async (t) => {
  const { build, start } = await open(t)
  await start((await build(SHIPS)).options)
  await start((await build({ ...SHIPS, ...NAMES })).options)
  const older = await build(SHIPS)
  await start(older.options)
  t.match(older.log.lines, [
    {
      fields: { schema: 'harbour', migrations: ['202602010000-names'] },
      message: /^This build is older than the database/
    }
  ])
})

t.test(
  'a process that may not migrate says so and ends, and so does one of an edited build',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase()
    const { event } = contracts('harbour', { correlateBy: 'id' })
    event('Docked', { id: Type.String() })
    const run = (migrations: string[], mode: 'auto' | 'check' | 'off') =>
      startSagabox({
        services: [defineService('harbour', { migrations })],
        databaseUrl,
        migrate: mode,
        signals: false
      })
    await t.rejects(run([], 'check'), { code: 'MIGRATIONS_PENDING' })
    await (await run(['select 1'], 'auto')).stop()
    await t.rejects(run(['select 2'], 'auto'), {
      code: 'MIGRATION_EDITED',
      message: /the 1\. SQL text of its migrations was changed/
    })
    for (const mode of ['check', 'off'] as const) await (await run(['select 1'], mode)).stop()
  }
)
