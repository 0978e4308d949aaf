import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { MemoryTransport } from '../../src/messaging/transport/memory.ts'
import { TestService, topology } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { Program } from '../../../../test/support/program.ts'
import { until } from '../../../../test/support/until.ts'

// Each of them would break a connection that listens to it.
const SHELL = {
  PGSSLMODE: 'require',
  PGHOST: '192.0.2.1',
  PGPORT: '1',
  PGUSER: 'nobody',
  PGPASSWORD: 'wrong',
  PGDATABASE: 'nothing',
  PGAPPNAME: 'psql',
  PGOPTIONS: '-c default_transaction_read_only=on',
  PGREPLICATION: 'database',
  PGSSLNEGOTIATION: 'direct',
  PGCLIENTENCODING: 'LATIN1',
  PGDATESTYLE: 'German',
  PGTZ: 'Asia/Kathmandu',
  PGCONNECT_TIMEOUT: '1',
  PGTARGETSESSIONATTRS: 'standby',
  PGBINARY: '1'
}

t.test('the shell’s PG variables do not steer the connection', async (t) => {
  const url = await (await postgresForTests()).createDatabase(t.name)
  Object.assign(process.env, SHELL)
  t.teardown(() => Object.keys(SHELL).forEach((name) => delete process.env[name]))
  const service = await TestService.open(url, new MemoryTransport(topology))
  t.teardown(() => service.stop())
  const [settings] = await service.database.rows(
    `
      select current_setting('DateStyle') as style, current_setting('application_name') as name,
        current_setting('client_encoding') as encoding`
  )
  t.same(settings, { style: 'ISO, MDY', name: 'sagabox port', encoding: 'UTF8' })
  service.relay.start()
  await until('the relay leads', async () => service.relay.leading)
})

t.test('nor do they steer what the program connects to itself', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'sagabox-shell-'))
  await chmod(dataDir, 0o711)
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const program = await Program.start(t, {
    ...SHELL,
    PGSERVICE: 'elsewhere',
    NODE_PG_FORCE_NATIVE: '1',
    DATA_DIR: dataDir
  })
  await program.ready()
  t.same(
    program.logged(({ level }) => level > 30),
    []
  )
  t.match(await program.stop('SIGTERM'), { code: 0 })
})

t.test(
  'TLS that the shell asks for is not left out of a URL that says nothing of it',
  async (t) => {
    const url = await (await postgresForTests()).createDatabase(t.name)
    const program = await Program.start(t, { DATABASE_URL: url, PGSSLMODE: 'verify-full' })
    t.teardown(() => program.kill())
    const line = await until(
      'it says what is wrong',
      async () => program.logged(({ reason }) => /SSL/.test(reason ?? ''))[0]
    )
    t.match(
      line.reason,
      /does not support SSL connections: expected sslmode=disable in DATABASE_URL or \w+_DATABASE_URL \(and PGSSLMODE not set\)/
    )
    const said = await Program.start(t, {
      DATABASE_URL: `${url}?sslmode=disable`,
      PGSSLMODE: 'verify-full'
    })
    await said.ready()
  }
)

t.test('a URL that cannot be honoured stops the start', async (t) => {
  const program = new Program(
    t,
    { DATABASE_URL: 'postgres://ada:hunter2@h1,h2/db?target_session_attrs=standby' },
    []
  )
  t.match(await program.exited, { code: 1 })
  t.match(
    program.errors,
    /DATABASE_URL: target_session_attrs=standby: expected any, read-write, primary/
  )
  t.notMatch(program.errors, /hunter2/)
})
