import pg from 'pg'
import t, { type Test } from 'tap'
import { Database, type DatabaseOptions } from '../../src/messaging/postgres/database.ts'
import { run, statement, transaction } from '../../src/messaging/postgres/sql.ts'
import { closeDatabase } from '../../../../test/support/closed-database.ts'
import { TestService, ship, DockShip, topology, writes } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { MemoryTransport } from '../../src/messaging/transport/memory.ts'
import { Pooler } from '../../../../test/support/pooler.ts'
import { startSystem, testLog } from '../../../../test/support/system.ts'
import { until } from '../../../../test/support/until.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'

const LOOK = statement('select pg_backend_pid() as pid')

async function newDatabase(
  t: Test,
  ...statements: string[]
): Promise<{ url: string; admin: pg.Client }> {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  t.teardown(() => admin.end())
  for (const text of statements)
    await admin.query(text.replaceAll('$database', new URL(url).pathname.slice(1)))
  return { url, admin }
}

async function open(
  t: Test,
  url: string,
  { log = testLog, poolSize = 3 }: Partial<DatabaseOptions> = {}
): Promise<Database> {
  const options = { url, schema: 'port', migrations: [], poolSize, log }
  const database = new Database(options)
  await database.connect()
  t.teardown(() => database.isConnected && database.close())
  return database
}

/** What happens with a connection that is given back afterwards. Returns its backend. */
async function using(database: Database, ...texts: string[]): Promise<number> {
  const client = await database.session()
  try {
    const { rows } = await client.query<{ pid: number }>(LOOK.text)
    for (const text of texts) await client.query(text).catch(() => {})
    return rows[0]!.pid
  } finally {
    client.release()
  }
}

async function settingsOf(database: Database, ...names: string[]): Promise<Record<string, string>> {
  const rows: { name: string; value: string }[] = await database.rows(
    `select name, current_setting(name) as value from unnest($1::text[]) as name`,
    [names]
  )
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
}

function reasonOf(failure: unknown): string {
  return (failure as Error | undefined)?.message ?? ''
}

const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error
  )

t.test('what was left in a session does not meet the next who takes it', async (t) => {
  const { url } = await newDatabase(t, 'create table public.things (id integer)')
  const database = await open(t, url)
  await database.rows('create table things (id integer)')
  await database.rows(
    `create function harm(name text, value text) returns text language sql as 'select set_config(name, value, false)'`
  )
  for (const [what, ...texts] of [
    ['search_path', 'set search_path to public'],
    ['search_path behind a comment', '-- elsewhere\n/* for now */ set search_path to public'],
    ['a setting that a function sets', `select set_config('search_path', 'public', false)`],
    [
      'a setting that is hidden in a function, and reported',
      `select harm('DateStyle', 'German, DMY')`
    ],
    ['sessions that only read', 'set session characteristics as transaction read only'],
    [
      'a read-only that is hidden in a function',
      `select harm('default_transaction_read_only', 'on')`
    ],
    ['a role', 'set role pg_monitor'],
    ['an open transaction', 'begin'],
    ['an aborted transaction', 'begin', 'select 1 / 0'],
    ['a lock of the session', 'select pg_advisory_lock(1)'],
    ['a temporary table', 'create temp table things (other text)'],
    ['prepared statements that are gone', 'prepare mine as select 1']
  ] as const) {
    const before = await using(database, ...texts)
    t.not(await using(database), before, what)
  }
  t.same(await settingsOf(database, 'search_path'), { search_path: 'port' })
})

t.test('what ends with its transaction costs no session', async (t) => {
  const { url } = await newDatabase(t)
  const database = await open(t, url)
  const before = await using(database)
  for (const texts of [
    ['begin', `set local datestyle to 'German'`, 'commit'],
    ['begin', `select set_config('search_path', 'public', true)`, 'rollback'],
    ['begin', 'set transaction isolation level serializable', 'commit'],
    ['begin', 'select pg_advisory_xact_lock(1)', 'commit'],
    ['begin', 'create temp table passing (id integer) on commit drop', 'commit'],
    ['select 1 / 0'],
    ['insert into nowhere values (1']
  ]) {
    t.equal(await using(database, ...texts), before, texts.join('; '))
  }
})

t.test(
  'after an answer that says what the server has become, no session opened before is taken',
  async (t) => {
    const { url } = await newDatabase(t)
    const database = await open(t, url)
    await database.rows(
      `create function answers(code text) returns void language plpgsql as $$ begin raise exception using errcode = code; end $$`
    )
    const all = async () => {
      const clients = await Promise.all([1, 2, 3].map(() => database.session()))
      const pids = await Promise.all(
        clients.map(async (client) => (await client.query<{ pid: number }>(LOOK.text)).rows[0]!.pid)
      )
      for (const client of clients) client.release()
      return pids
    }
    const before = await all()
    await using(database, `select answers('25006')`)
    const after = await all()
    t.same(
      after.filter((pid) => before.includes(pid)),
      [],
      'read-only: all of them are new'
    )
    for (const code of ['57P01', '53200', 'XX000', '26000']) {
      const pid = await using(database, `select answers('${code}')`)
      t.notOk((await all()).includes(pid), code)
    }
    const pid = await using(database, `select answers('23505')`)
    t.ok((await all()).includes(pid), 'a fault of the work itself says nothing of the session')
  }
)

t.test('a statement whose plan went stale fails once, however many sessions know it', async (t) => {
  const { url, admin } = await newDatabase(t)
  const database = await open(t, url)
  await database.rows('create table things (id integer)')
  const ALL = statement('select * from things')
  const read = () => transaction(database, (tx) => run(tx, ALL, []))
  const hold = statement('select pg_sleep(0.1)')
  await Promise.all(
    [1, 2, 3].map(() =>
      transaction(database, async (tx) => [await run(tx, ALL, []), await run(tx, hold, [])])
    )
  )
  await admin.query('alter table port.things add column other text')
  t.match(reasonOf(await failureOf(read())), /cached plan must not change result type/)
  for (const _ of [1, 2, 3]) t.same(await read(), [])
})

t.test('connections end by and by, and not all at once', async (t) => {
  const { url } = await newDatabase(t)
  const database = await open(t, url)
  const { options } = database.pool
  const lives = Array.from({ length: 50 }, () => options.maxLifetimeSeconds)
  t.ok(lives.every((seconds) => seconds >= 600 && seconds <= 1800))
  t.ok(new Set(lives).size > 40)
})

t.test('settings of the database and of the role change nothing', async (t) => {
  const changed: Record<string, [given: string, wanted: string]> = {
    DateStyle: ['German, DMY', 'ISO, MDY'],
    IntervalStyle: ['sql_standard', 'postgres'],
    TimeZone: ['Asia/Kathmandu', 'UTC'],
    extra_float_digits: ['-3', '1'],
    bytea_output: ['escape', 'hex'],
    standard_conforming_strings: ['off', 'on'],
    array_nulls: ['off', 'on'],
    transform_null_equals: ['on', 'off'],
    row_security: ['on', 'off'],
    default_transaction_isolation: ['serializable', 'read committed'],
    default_transaction_deferrable: ['on', 'off'],
    synchronous_commit: ['off', 'on'],
    session_replication_role: ['replica', 'origin'],
    search_path: ['public', 'order_service'],
    statement_timeout: ['1s', '12s'],
    lock_timeout: ['1s', '5s'],
    idle_in_transaction_session_timeout: ['1s', '30s'],
    idle_session_timeout: ['1s', '0'],
    transaction_timeout: ['1s', '0']
  }
  const { url, admin } = await newDatabase(t)
  const database = new URL(url).pathname.slice(1)
  for (const [name, [given]] of Object.entries(changed))
    await admin.query(`alter database ${database} set ${name} = '${given}'`)
  await admin.query(`alter database ${database} set search_path = public`)
  const { system, api } = await startSystem(t, 'memory', { databaseUrl: url })
  const wanted = Object.fromEntries(
    Object.entries(changed).map(([name, [, value]]) => [name, value])
  )
  t.same(await settingsOf(system.service('order').database, ...Object.keys(changed)), wanted)
  await api.putProduct('keyboard', 5)
  t.match(await api.settled(await api.placeOrder()), { state: 'Completed' })
  const { rows } = await admin.query(
    `select count(*)::integer as count from pg_tables where schemaname = 'public'`
  )
  t.equal(rows[0].count, 0)
})

t.test('a way to commit that is stronger than asked for stays', async (t) => {
  const { url } = await newDatabase(
    t,
    'alter database $database set synchronous_commit = remote_apply'
  )
  t.same(await settingsOf(await open(t, url), 'synchronous_commit'), {
    synchronous_commit: 'remote_apply'
  })
})

t.test('a database that is read-only on purpose is waited for', async (t) => {
  const { url, admin } = await newDatabase(
    t,
    'alter database $database set default_transaction_read_only = on'
  )
  t.match(
    reasonOf(await failureOf(open(t, url))),
    /is read-only: default_transaction_read_only is on; expected off/
  )
  await admin.query('set transaction read write')
  await admin.query(
    `begin; set transaction read write; alter database ${new URL(url).pathname.slice(1)} reset default_transaction_read_only; commit`
  )
  await open(t, url)
})

t.test('an encoding that cannot store every text is refused', async (t) => {
  const { url, admin } = await newDatabase(t)
  const name = `${new URL(url).pathname.slice(1)}_ascii`
  await admin.query(
    `create database ${name} encoding 'SQL_ASCII' locale_provider libc locale 'C' template template0`
  )
  const failure = await failureOf(open(t, new URL(`/${name}`, url).href))
  t.match(
    reasonOf(failure),
    new RegExp(`the encoding of the database ${name} at .* is SQL_ASCII; expected UTF8`)
  )
})

t.test(
  'rights that are missing are named, and a schema that is there needs none to be made',
  async (t) => {
    const { url, admin } = await newDatabase(t)
    const role = `clerk_${new URL(url).pathname.slice(-12)}`
    await admin.query(`create role ${role} login password 'secret'`)
    t.teardown(async () => {
      const cleaner = new pg.Client({ connectionString: url })
      await cleaner.connect()
      await cleaner.query(`drop owned by ${role} cascade; drop role ${role}`)
      await cleaner.end()
    })
    const theirs = new URL(url)
    theirs.username = role
    theirs.password = 'secret'
    t.match(
      reasonOf(await failureOf(open(t, theirs.href))),
      new RegExp(
        `the schema port is missing, and the role ${role} may not create schemas .*: expected "grant create on database`
      )
    )
    await admin.query('create schema port; create table port.outbox (id bigint)')
    t.match(
      reasonOf(await failureOf(open(t, theirs.href))),
      /may not use the schema port: expected "grant usage/
    )
    await admin.query(`grant usage on schema port to ${role}`)
    t.match(
      reasonOf(await failureOf(open(t, theirs.href))),
      /may not make tables in the schema port, .* expected "grant create on schema port to/
    )
    await admin.query(
      `create table port.sagabox_migrations (id text primary key, checksum text not null, applied_at timestamptz not null default now());
      grant select on port.sagabox_migrations to ${role}`
    )
    t.match(
      reasonOf(await failureOf(open(t, theirs.href))),
      /may not read and write the table outbox of the schema port/
    )
    await admin.query(`grant select, insert, update, delete on port.outbox to ${role}`)
    await open(t, theirs.href)
  }
)

for (const options of ['dropped', 'refused'] as const) {
  t.test(
    `behind a pooler in session mode, settings that are ${options} on the way are set by a statement`,
    async (t) => {
      const { url, admin } = await newDatabase(t)
      const pooler = await Pooler.open(t, url, { mode: 'session', options })
      const transport = new MemoryTransport(topology)
      const service = await TestService.open(pooler.url, transport)
      t.teardown(() => service.stop())
      service.listen('harbour', [writes('harbour', DockShip)])
      service.relay.start()
      await service.send(ship(DockShip))
      await until('the message is handled', async () => (await service.count('effects')) === 1)
      t.match(
        await settingsOf(
          service.database,
          'search_path',
          'statement_timeout',
          'DateStyle',
          'enable_seqscan'
        ),
        {
          search_path: 'port',
          statement_timeout: '12s',
          DateStyle: 'ISO, MDY',
          enable_seqscan: 'off'
        }
      )
      const { rows } = await admin.query(
        `select count(*)::integer as count from pg_tables where schemaname = 'public'`
      )
      t.equal(rows[0].count, 0)
    }
  )
}

for (const options of ['dropped', 'refused'] as const) {
  t.test(
    `a pooler that gives each transaction a session is refused before anything is made or set (options ${options})`,
    async (t) => {
      const { url, admin } = await newDatabase(t)
      const pooler = await Pooler.open(t, url, { mode: 'transaction', options })
      const failure = await failureOf(TestService.open(pooler.url, new MemoryTransport(topology)))
      t.match(
        reasonOf(failure),
        /transaction pooling.*Expected a session for each connection: pool_mode=session/
      )
      const { rows } = await admin.query(
        `
          select nspname from pg_namespace where nspname = 'port' union all select tablename
            from pg_tables where schemaname = 'public'`
      )
      t.same(rows, [])
      // The next client of the pooler gets the same session.
      const next = new pg.Client({ connectionString: pooler.url })
      await next.connect()
      t.same((await next.query('show search_path')).rows, [{ search_path: '"$user", public' }])
      await next.end()
    }
  )
}

t.test('a server that ends with the pool is no outage', async (t) => {
  const { url } = await newDatabase(t)
  const log = keptLog()
  const database = await open(t, url, { log })
  const { pool } = database
  await database.close()
  pool.emit('error', new Error('terminating connection due to administrator command'))
  t.same(log.lines, [])
})

t.test('an outage is one short line, and its end another', async (t) => {
  const { url, admin } = await newDatabase(t)
  const lines: { level: string; text: string }[] = []
  const write = (level: string) => (details: object, message: string) =>
    void lines.push({ level, text: `${message} ${JSON.stringify(details)}` })
  const log = { debug() {}, info: write('info'), warn: write('warn'), error: write('error') }
  const database = await open(t, url, { log })
  await Promise.all([1, 2, 3].map(() => database.rows('select pg_sleep(0.05)')))
  const { pool } = database
  t.equal(pool.totalCount, 3)
  await admin.query(
    `
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sagabox port'
        and datname = current_database()`
  )
  await until('all are lost', async () => pool.totalCount === 0)
  await database.rows('select 1')
  t.same(
    lines.map(({ level }) => level),
    ['warn', 'info']
  )
  t.ok(
    lines.every(({ text }) => text.length < 400),
    'short',
    { lines }
  )
  t.match(lines[0]!.text, /terminating connection due to administrator command/)
})

t.test('an outage that pool and outbox meet together is two lines in all', async (t) => {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const lines: { level: string; text: string; message: string }[] = []
  const write = (level: string) => (details: object, message: string) =>
    void lines.push({ level, message, text: `${message} ${JSON.stringify(details)}` })
  const log = { debug() {}, info: write('info'), warn: write('warn'), error: write('error') }
  const service = await TestService.open(url, new MemoryTransport(topology), { log })
  t.teardown(() => service.stop())
  const closed = await closeDatabase(url)
  await t.rejects(service.database.rows('select 1'), 'the pool meets it')
  t.match(await service.outbox.problem(), /not currently accepting connections/)
  t.match(await service.outbox.problem(), /not currently accepting connections/)
  await closed.open()
  await service.database.rows('select 1')
  await until('it has worked for a while', async () => {
    await service.outbox.works()
    return service.outbox.outage.lastedMs === 0
  })
  t.same(
    lines.map(({ level }) => level),
    ['warn', 'info']
  )
  t.match(lines[0], { text: /"schema":"port","reason":"/ })
  t.equal(lines[1]?.message, 'Database is back')
  for (const { text } of lines) t.ok(text.length < 400, 'short')
})
