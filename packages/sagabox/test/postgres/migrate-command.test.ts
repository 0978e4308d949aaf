import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import pg from 'pg'
import t, { type Test } from 'tap'
import { run } from '../../src/cli/run.ts'
import { Terminal } from '../../src/cli/terminal.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(600_000)

const CRANES = [
  'create table cranes (id int)',
  'create index concurrently cranes_id on cranes (id)'
]
const QUAYS = ['create table quays (id int)']
const DOOR = new URL('../../src/index.ts', import.meta.url).href

async function open(t: Test) {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-migrate-'))
  t.teardown(() => rm(folder, { recursive: true }))
  let builds = 0
  /** Runs the command in this process, on a build whose services have these migrations. */
  const start = (
    args: readonly string[],
    services: Record<string, string[]>,
    more: Record<string, string> = {}
  ) => {
    const said = { out: '', err: '' }
    const to = (name: 'out' | 'err') =>
      new Writable({ write: (chunk, _, done) => done(void (said[name] += String(chunk))) })
    const interrupt = new AbortController()
    const terminal = new Terminal({
      environment: { DATABASE_URL: url, ...more },
      interrupted: interrupt.signal,
      out: to('out'),
      err: to('err')
    })
    const app = join(folder, `build-${++builds}.mjs`)
    const ended = writeFile(
      app,
      `import { defineService } from '${DOOR}'
export const services = Object.entries(${JSON.stringify(services)})
  .map(([name, migrations]) => defineService(name, { migrations }))`
    )
      .then(() => run(['migrate', ...args, '--app', app], terminal))
      .then((code) => ({ code, ...said }))
    return { said, interrupt, ended }
  }
  const migrate = (...given: Parameters<typeof start>) => start(...given).ended
  const recorded = async (schema: string) =>
    (await client.query<{ id: string }>(`select id from ${schema}.sagabox_migrations`)).rows
      .map(({ id }) => id)
      .filter((id) => id.startsWith('inline'))
      .toSorted()
  return { url, client, folder, start, migrate, recorded }
}

t.test('it is planned, run up to one, run to the end, and then nothing is left', async (t) => {
  const { migrate, recorded, client } = await open(t)
  const services = { crane: CRANES, quay: QUAYS }
  const plan = await migrate(['--plan'], services)
  t.equal(plan.code, 1, plan.err)
  t.match(plan.out, /^crane_service: \d+ pending\n {2}2026\d+-outbox-inbox\n/)
  t.match(plan.out, /^ {2}inline-1\n {2}inline-2\nquay_service: \d+ pending\n/m)
  const { rows } = await client.query(`select to_regnamespace('crane_service') as made`)
  t.same(rows, [{ made: null }], 'a plan changes nothing')

  const part = await migrate(['--to', '202611240900-dead-letters'], services)
  t.equal(part.code, 0, part.err)
  t.match(part.out, /^crane_service: 2 run, \d+ pending\nquay_service: 2 run, \d+ pending\n$/)
  t.match(part.err, /^crane_service: 202611221700-outbox-inbox\n/, 'each is named as it begins')
  const one = await migrate(['--to', 'inline-2'], services)
  t.match(one.out, /^crane_service: \d+ run, 0 pending\nquay_service: nothing run, \d+ pending\n$/)
  t.same(await recorded('crane_service'), ['inline-1', 'inline-2'])
  t.same(await recorded('quay_service'), [], 'who does not know it is left as it is')
  t.match(
    await migrate(['--to', '202611221700-outbox-inbox'], services),
    { code: 0, out: /^crane_service: nothing run, 0 pending\n/ },
    'never back'
  )

  const json = JSON.parse((await migrate(['--plan', '--json'], services)).out)
  t.match(json, [
    { service: 'crane', schema: 'crane_service', pending: [] },
    { service: 'quay', pending: [/^2026/], unknown: [] }
  ])
  const rest = await migrate(['--json'], services)
  t.match(JSON.parse(rest.out), [
    { schema: 'crane_service', ran: [], left: [] },
    { schema: 'quay_service', ran: [/^2026/], left: [] }
  ])
  t.match(await migrate(['--plan'], services), {
    code: 0,
    out: 'crane_service: nothing pending\nquay_service: nothing pending\n'
  })
  const older = await migrate([], { crane: CRANES.slice(0, 1), quay: QUAYS })
  t.match(older, { code: 0, err: /crane_service: this build is older .*inline-2/ })
})

t.test('an edited migration is found, and nothing of any service is run', async (t) => {
  const { migrate, recorded } = await open(t)
  await migrate([], { crane: CRANES, quay: QUAYS })
  const edited = { crane: [...CRANES, 'select 1'], quay: ['create table quays (id bigint)'] }
  const plan = await migrate(['--plan'], edited)
  t.equal(plan.code, 1)
  t.match(
    plan.out,
    /^crane_service: 1 pending\n {2}inline-3\nquay_service: the 1\. SQL text .* was changed after it had run/
  )
  t.match(JSON.parse((await migrate(['--plan', '--json'], edited)).out), [
    {},
    { schema: 'quay_service', edited: /SHA-256/ }
  ])
  for (const args of [[], ['--to', 'inline-3'], ['--sql', join(tmpdir(), 'never.sql')]])
    t.match(await migrate(args, edited), { code: 1, err: /was changed after it had run/ })
  t.same(await recorded('crane_service'), ['inline-1', 'inline-2'])
})

t.test('the script does the same in psql’s hands', async (t) => {
  const { migrate, client, folder, recorded } = await open(t)
  const services = { crane: CRANES, quay: QUAYS }
  const file = join(folder, 'pending.sql')
  const written = await migrate(['--sql', file], services)
  t.match(
    written,
    { code: 0, out: /^crane_service: \d+ pending\nquay_service: \d+ pending\nWritten/ },
    written.err
  )
  const script = await readFile(file, 'utf8')
  // psql sends each statement by itself, which matters where no transaction is begun.
  for (const part of script.replaceAll(/^\\.*$/gm, '').split(/^-- (?=\d{12}-|inline-)/m))
    for (const text of part.includes('concurrently') ? part.split(/;\s*$/m) : [part])
      await client.query(text.startsWith('--') ? text : `-- ${text}`)
  t.same(await recorded('crane_service'), ['inline-1', 'inline-2'])
  t.match(await migrate(['--plan'], services), { code: 0 })
  await migrate(['--sql', file], services)
  t.notMatch(await readFile(file, 'utf8'), /create schema/, 'which asks for a right of its own')
  t.match(await migrate(['--sql', join(folder, 'no', 'folder.sql')], services), {
    code: 3,
    err: /cannot be written: ENOENT/
  })
})

t.test('a database for each service', async (t) => {
  const { migrate } = await open(t)
  const services = { crane: CRANES, 'long-quay': QUAYS }
  const own = await (await postgresForTests()).createDatabase('quay')
  const more = { LONG_QUAY_DATABASE_URL: own }
  t.match(await migrate([], services, more), { code: 0 })
  const client = new pg.Client({ connectionString: own })
  await client.connect()
  t.teardown(() => client.end())
  const schemas = await client.query(`select nspname from pg_namespace where nspname ~ '_service$'`)
  t.same(schemas.rows, [{ nspname: 'long-quay_service' }])
  t.match(await migrate(['--sql', 'x.sql'], services, more), {
    code: 2,
    err: /one database, and the services have several \(DATABASE_URL, LONG_QUAY_DATABASE_URL\)/
  })
})

t.test('what is wrong is said in a sentence, and by the exit code', async (t) => {
  const { migrate, client } = await open(t)
  const services = { crane: [...CRANES, 'select 1 / 0 from cranes', 'create table two (id int)'] }
  for (const [args, code, err, more] of [
    [['--plan', '--to', 'x'], 2, /--plan and --to are given; expected one of them/],
    [['--to', 'inline-9'], 2, /there is no migration inline-9; inline-\d is one/],
    [['--to', 'x'], 2, /there is no migration x; --plan has those that are pending/],
    [[], 2, /where is the database of crane\? Expected DATABASE_URL/, { DATABASE_URL: '' }],
    [
      ['--plan'],
      3,
      /crane_service: .*ECONNREFUSED/,
      { DATABASE_URL: 'postgres://x:secret@127.0.0.1:1/x' }
    ],
    [[], 3, /crane_service: DATABASE_URL: /, { DATABASE_URL: 'http://x:secret@y' }]
  ] as const) {
    const ran = await migrate(args, services, more)
    t.match({ code: ran.code, err: ran.err }, { code, err }, args.join(' '))
    t.notMatch(ran.err, /secret|\n {4}at /)
  }
  await migrate(['--to', 'inline-2'], services)
  await client.query('insert into crane_service.cranes values (1)')
  const failed = await migrate([], services)
  t.match(failed, { code: 1, err: /inline-3\nsagabox: crane_service: .*division by zero\n$/ })
  t.match(await migrate(['--plan'], services), {
    code: 1,
    out: 'crane_service: 2 pending\n  inline-3\n  inline-4\n'
  })
})

t.test('it waits for another process, and Ctrl-C stops it between two', async (t) => {
  const { client, start, recorded } = await open(t)
  const migrations = [CRANES[0]!, 'select pg_advisory_xact_lock(42)', 'create table never (id int)']
  const services = { crane: migrations }
  await client.query('select pg_advisory_lock(42)')
  const first = start([], services)
  await until('the second migration runs', async () => first.said.err.includes('inline-2'))
  const second = start([], services)
  const waiting = `select from pg_stat_activity where datname = current_database() and query like '%pg_try_advisory_lock%' and pid <> pg_backend_pid()`
  await until('the other waits', async () => (await client.query(waiting)).rowCount === 1)
  first.interrupt.abort()
  await until('it says so', async () => first.said.err.includes('Stopping after the one that runs'))
  await client.query('select pg_advisory_unlock(42)')
  t.match(await first.ended, { code: 1, out: /^crane_service: \d+ run, 1 pending\n$/ })
  t.match(await second.ended, {
    code: 0,
    out: /^crane_service: 1 run, /
  })
  t.same(await recorded('crane_service'), ['inline-1', 'inline-2', 'inline-3'])
})
