import { createServer, type AddressInfo } from 'node:net'
import pg, { type QueryConfig } from 'pg'
import t from 'tap'
import { Database } from '../../src/messaging/postgres/database.ts'
import { isUnavailable } from '../../src/messaging/postgres/sql.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { testLog } from '../../../../test/support/system.ts'
import { until } from '../../../../test/support/until.ts'

/** A message of PostgreSQL's protocol. */
function protocol(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

t.test('a server that stops as it has taken a connection does not end the process', async (t) => {
  const authenticated = protocol('R', Buffer.alloc(4))
  const ready = protocol('Z', Buffer.from('I'))
  const stopping = protocol(
    'E',
    Buffer.from(
      'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0'
    )
  )
  const server = createServer((socket) => {
    // All in one packet, as a process that was busy meanwhile reads it.
    socket.once('data', () => socket.end(Buffer.concat([authenticated, ready, stopping])))
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const database = new Database({
    url: `postgres://nobody@127.0.0.1:${port}/nothing`,
    schema: 'public',
    migrations: [],
    migrate: 'off',
    poolSize: 2,
    log: testLog
  })
  const failure = await database.connect().then(
    () => undefined,
    (error: unknown) => error
  )
  t.ok(isUnavailable(failure), 'it is a database that is away', { failure })
})

t.test('a statement that nobody waits for any more ends', async (t) => {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const database = new Database({
    url,
    schema: 'public',
    migrations: [],
    migrate: 'off',
    poolSize: 2,
    log: testLog
  })
  await database.connect()
  t.teardown(() => database.close())
  const observer = new pg.Client({ connectionString: url })
  await observer.connect()
  t.teardown(() => observer.end())
  const running = async () =>
    (
      await observer.query(
        `select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep%' and datname = current_database()`
      )
    ).rows
  const client = await database.session()
  const failure = client
    .query({ text: 'select pg_sleep(3600)', query_timeout: 500 } as QueryConfig)
    .then(
      () => undefined,
      (error: unknown) => error
    )
  await until('it runs', async () => (await running()).length > 0)
  t.ok(isUnavailable(await failure), 'it is given up')
  client.release()
  await until('it has ended', async () => (await running()).length === 0, 20_000)
})
