import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { examineDatabase } from '../../src/doctor/database.ts'
import { Type } from '../../src/index.ts'
import { defineService } from '../../src/service/define.ts'
import { startSagabox } from '../../src/service/start.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { handle } from '../../src/messaging/endpoint/handler.ts'
import { runCommand } from '../../../../test/support/cli.ts'
import { Pooler } from '../../../../test/support/pooler.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { testLog } from '../../../../test/support/system.ts'

t.setTimeout(600_000)

const cranes = contracts('crane', { correlateBy: 'shipId' })
const LiftLoad = cranes.command('LiftLoad', { shipId: Type.String({ format: 'uuid' }) })
const MIGRATIONS = [
  'create table lifts (ship_id uuid primary key, weight integer not null default 1 check (weight > 0))',
  'create index concurrently lifts_weight on lifts (weight)',
  `create function count_lift() returns trigger language plpgsql as 'begin return new; end';
   create trigger lift_counted before insert on lifts for each row execute function count_lift()`
]
const crane = defineService('crane', {
  handlers: [handle(LiftLoad, async () => {})],
  migrations: MIGRATIONS
})

async function migrated(t: Test): Promise<{ url: string; database: pg.Client }> {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const app = await startSagabox({
    services: [crane],
    databaseUrl: url,
    signals: false,
    log: testLog
  })
  await app.stop()
  const database = new pg.Client({ connectionString: url })
  await database.connect()
  t.teardown(() => database.end())
  await database.query('set search_path to crane_service')
  return { url, database }
}

const examine = (url: string) => examineDatabase(url, [crane], 'DATABASE_URL')

t.test('a schema as its migrations made it is well, and nothing of the look stays', async (t) => {
  const { url, database } = await migrated(t)
  const everything = async () =>
    (await database.query('select oid, relname from pg_class order by oid')).rows
  const before = await everything()
  t.match(await examine(url), { findings: [], notes: [/^PostgreSQL \d/] })
  t.same(await everything(), before)
})

t.test('each kind of drift is found, with what to do', async (t) => {
  const { url, database } = await migrated(t)
  for (const [broken, found, mended] of [
    ['drop index lifts_weight', /^the index lifts_weight is missing$/, MIGRATIONS[1]],
    [
      'alter table lifts alter weight type bigint',
      /^the column lifts.weight is bigint not null default 1$/,
      'alter table lifts alter weight type integer'
    ],
    [
      'alter table lifts add column crew text not null',
      /^the column lifts.crew, which no migration has made: text not null$/,
      'alter table lifts drop column crew'
    ],
    [
      'alter table lifts drop constraint lifts_weight_check',
      /^the constraint lifts.lifts_weight_check is missing$/,
      'alter table lifts add constraint lifts_weight_check check (weight > 0)'
    ],
    [
      'alter table lifts add constraint light check (weight < 9)',
      /^the constraint lifts.light, which no migration has made: CHECK \(\(weight < 9\)\)$/,
      'alter table lifts drop constraint light'
    ],
    [
      'create unique index once on lifts (weight)',
      /^the index once, which no migration has made/,
      'drop index once'
    ],
    [
      'alter table inbox rename to inbox_away',
      /^the table inbox is missing$/,
      'alter table inbox_away rename to inbox'
    ],
    [
      'drop trigger lift_counted on lifts',
      /^the trigger lifts.lift_counted is missing$/,
      'create trigger lift_counted before insert on lifts for each row execute function count_lift()'
    ],
    [
      `create or replace function count_lift() returns trigger language plpgsql as 'begin return null; end'`,
      /^the function count_lift is CREATE OR REPLACE FUNCTION/,
      `create or replace function count_lift() returns trigger language plpgsql as 'begin return new; end'`
    ]
  ] as const) {
    await database.query(broken)
    const { findings } = await examine(url)
    t.match(findings, [{ about: 'schema crane_service', found }], broken)
    t.equal(findings.length, 1, broken)
    await database.query(mended!)
  }
  t.same((await examine(url)).findings, [], 'all is mended')
  // An index of one's own refuses nothing.
  await database.query('create index my_own on lifts (weight, ship_id)')
  t.same((await examine(url)).findings, [])
})

t.test(
  'migrations that were not run, or are of another version, and letters that wait',
  async (t) => {
    const { url, database } = await migrated(t)
    const newer = defineService('crane', {
      handlers: [handle(LiftLoad, async () => {})],
      migrations: [...MIGRATIONS, 'alter table lifts add column note text']
    })
    t.match(await examineDatabase(url, [newer], 'DATABASE_URL'), {
      findings: [{ found: /^migrations were not run: inline-4$/ }],
      notes: [
        /^PostgreSQL/,
        'schema crane_service: not compared, because its migrations are others'
      ]
    })
    const older = defineService('crane', {
      handlers: [handle(LiftLoad, async () => {})],
      migrations: MIGRATIONS.slice(0, 2)
    })
    t.match(await examineDatabase(url, [older], 'DATABASE_URL'), {
      findings: [{ found: /^migrations were run that are not here: inline-3$/ }]
    })
    const other = defineService('winch', {})
    t.match(await examineDatabase(url, [other], 'DATABASE_URL'), {
      findings: [{ about: 'schema winch_service', found: 'it was never migrated' }]
    })
    await database.query(
      `insert into dead_letter (endpoint, payload, exception, reason, fingerprint)
     values ('crane', '', 'Error', 'no reason', '')`
    )
    t.match((await examine(url)).findings, [
      { about: 'dead letters of crane', found: '1 wait', expected: 'none' }
    ])
  }
)

t.test('a migration that was edited after it ran is found, file or text', async (t) => {
  const { url } = await migrated(t)
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-doctor-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, '202601010000-ships.sql')
  const build = (texts: string[]) =>
    defineService('crane', {
      handlers: [handle(LiftLoad, async () => {})],
      migrations: [...texts, folder]
    })
  await writeFile(file, 'create table ships (id int)')
  const start = { databaseUrl: url, signals: false, log: testLog }
  await (await startSagabox({ services: [build(MIGRATIONS)], ...start })).stop()
  const find = async (texts: string[]) =>
    (await examineDatabase(url, [build(texts)], 'DATABASE_URL')).findings
  t.same(await find(MIGRATIONS), [])

  await writeFile(file, 'create table ships (id bigint)')
  const ofFile = {
    about: 'schema crane_service',
    found:
      /^the migration 202601010000-ships was edited after it ran: .*ships\.sql has the checksum [0-9a-f]{64}, and [0-9a-f]{64} ran$/,
    expected: 'the text that ran',
    advice: /^put the text back/
  }
  const column = { found: 'the column ships.id is integer', expected: 'bigint' }
  t.match(await find(MIGRATIONS), [ofFile, column], 'and what it would have made')
  const texts = [...MIGRATIONS.slice(0, 2), `${MIGRATIONS[2]} -- the last`]
  const ofText = { found: /^the migration inline-3 was edited after it ran/ }
  t.match(await find(texts), [ofText, ofFile, column])
  await writeFile(file, 'create table ships (id int)\r\n'.trimEnd())
  t.same(await find(MIGRATIONS), [], 'it was put back')
})

t.test('a clock that is 5 s off is found, ahead or behind', async (t) => {
  const { url } = await migrated(t)
  const { now } = Date
  t.teardown(() => (Date.now = now))
  for (const [off, found] of [
    [-5000, /^its clock is [45]\.\d s ahead of this machine's$/],
    [5000, /^its clock is [45]\.\d s behind this machine's$/]
  ] as const) {
    Date.now = () => now() + off
    t.match((await examine(url)).findings, [
      { about: 'the database', found, expected: 'at most 4 s between the two' }
    ])
  }
  Date.now = () => now() + 3000
  t.same((await examine(url)).findings, [])
})

t.test(
  'a pooler that drops or refuses options is found, and what is behind it all the same',
  async (t) => {
    const { url, database } = await migrated(t)
    await database.query('drop index lifts_weight')
    for (const [options, found] of [
      [
        'dropped',
        /\(options\) do not arrive: lock_timeout is 0 instead of 4321ms; a connection pooler/
      ],
      ['refused', /\(options\) are refused: unsupported startup parameter/]
    ] as const) {
      const pooler = await Pooler.open(t, url, { mode: 'session', options })
      t.match((await examine(pooler.url)).findings, [
        { about: /^the way to 127.0.0.1:\d+$/, found },
        { found: 'the index lifts_weight is missing' }
      ])
    }
    const pooler = await Pooler.open(t, url, { mode: 'transaction', options: 'dropped' })
    t.match(await examine(pooler.url), {
      findings: [
        { found: /do not arrive/ },
        { about: 'the database', found: /transaction pooling/ }
      ],
      notes: ['Schemas were not looked at']
    })
  }
)

t.test('the command says it in a terminal, in JSON, and by its exit code', async (t) => {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const app = ['--app', 'docs/examples/parcel.ts']
  const never = await runCommand(['doctor', ...app], { DATABASE_URL: url })
  t.equal(never.code, 1, never.err)
  t.match(never.out, /^PostgreSQL \S+.*\nThe broker was left out: no RABBITMQ_URL is set\n\n/)
  t.match(
    never.out,
    /^schema shipping_service\n {2}found {5}it was never migrated\n {2}expected {2}the tables of the service shipping\n {2}do {8}sagabox migrate makes it/m
  )
  t.match(never.out, /\n2 found\n$/)
  const json = await runCommand(['doctor', '--json', ...app], { DATABASE_URL: url })
  t.match(JSON.parse(json.out), { findings: [{ about: 'schema shipping_service' }, {}] })
  t.match(await runCommand(['doctor', ...app]), {
    code: 2,
    err: /where is the database of shipping\? Expected DATABASE_URL=postgres:\/\/…, or SHIPPING_DATABASE_URL/
  })
  t.match(
    await runCommand(['doctor', ...app], { DATABASE_URL: 'postgres://x:secret@127.0.0.1:1/x' }),
    {
      code: 3,
      err: /ECONNREFUSED/
    }
  )
  t.match(await runCommand(['doctor'], { DATABASE_URL: url }, import.meta.dirname), {
    code: 2,
    err: /there is no sagabox.config.ts/
  })
  t.match(await runCommand(['doctor', '--app', 'test/support/latch.ts'], { DATABASE_URL: url }), {
    code: 2,
    err: /exports no services; expected export const services/
  })
})
