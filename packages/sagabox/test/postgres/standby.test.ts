import t from 'tap'
import { Database } from '../../src/messaging/postgres/database.ts'
import { RequestClient } from '../../src/messaging/request/client.ts'
import { MemoryTransport } from '../../src/messaging/transport/memory.ts'
import { databaseProblem } from '../../src/messaging/postgres/problem.ts'
import { Service, stopServices } from '../../src/service/service.ts'
import { shop, shopTopology } from '../../../../src/shop.ts'
import { DockShip, TestService, ship, topology, writes } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { newAuthority } from '../../../../test/support/authority.ts'
import { startStandby, TEST_CA } from '../../../../test/support/standby.ts'
import { testLog } from '../../../../test/support/system.ts'
import { until } from '../../../../test/support/until.ts'

const standby = await startStandby()
t.teardown(() => standby.stop())
const primary = await postgresForTests()
const there = new URL(standby.url)

async function failureAt(url: string): Promise<unknown> {
  const options = { url, schema: 'port', migrations: [], poolSize: 1, log: testLog }
  return new Database(options).connect().then(
    () => undefined,
    (error: unknown) => error
  )
}

t.test(
  'of several servers the one that takes writes is used, by pool, relay and migrations',
  async (t) => {
    const url = new URL(await primary.createDatabase(t.name))
    // The standby has no such database, and other passwords: whatever is wrong with one server, the
    // next is tried.
    for (const hosts of [
      `${there.host},${url.host}`,
      `${url.host},${there.host}`,
      `127.0.0.1:1,${there.host},${url.host}`
    ]) {
      const service = await TestService.open(
        `postgres://${url.username}:${url.password}@${hosts}${url.pathname}?target_session_attrs=read-write`,
        new MemoryTransport(topology)
      )
      service.listen('harbour', [writes('harbour', DockShip)])
      service.relay.start()
      const before = await service.count('effects')
      await service.send(ship(DockShip))
      await until(
        'the message is handled',
        async () => (await service.count('effects')) === before + 1
      )
      await service.stop()
    }
  }
)

t.test('when none takes writes, each says why', async (t) => {
  const failure = await failureAt(
    `postgres://${there.username}:${there.password}@127.0.0.1:1,${there.host}/sagabox`
  )
  t.match(
    (failure as Error).message,
    new RegExp(
      `none of the servers takes writes \\(127.0.0.1:1: connect ECONNREFUSED.*; ${there.host}: a standby\\)`
    )
  )
})

t.test('a socket is found by the parameter host and by a percent-encoded host', async (t) => {
  const login = `${there.username}:${there.password}`
  for (const url of [
    `postgres://${login}@/sagabox?host=${standby.socket}&port=${there.port}`,
    `postgres://${login}@${encodeURIComponent(standby.socket)}:${there.port}/sagabox`
  ])
    t.match(
      ((await failureAt(url)) as Error).message,
      new RegExp(`the server at ${standby.socket}/.s.PGSQL.${there.port} is a standby`)
    )
})

t.test('a private certificate is trusted by sslrootcert, and the error says so', async (t) => {
  const at = (host: string, query: string) =>
    `postgres://${there.username}:${there.password}@${host}:${there.port}/sagabox?${query}`
  t.match(
    databaseProblem(await failureAt(at('localhost', 'sslmode=require')), 'DATABASE_URL'),
    /sslrootcert=\/path\/to\/ca.pem in DATABASE_URL/
  )
  t.match(
    databaseProblem(
      await failureAt(at('127.0.0.1', `sslmode=verify-full&sslrootcert=${TEST_CA}`)),
      'DATABASE_URL'
    ),
    /expected the host in DATABASE_URL as the certificate names it/
  )
  const stranger = newAuthority(t).caFile
  t.match(
    databaseProblem(
      await failureAt(at('localhost', `sslmode=verify-full&sslrootcert=${stranger}`)),
      'DATABASE_URL'
    ),
    /certificate/,
    'another authority'
  )
  for (const url of [
    at('localhost', `sslmode=verify-full&sslrootcert=${TEST_CA}`),
    at('127.0.0.1', `sslmode=verify-ca&sslrootcert=${TEST_CA}`),
    at('127.0.0.1', 'sslmode=no-verify')
  ]) {
    t.match(((await failureAt(url)) as Error).message, /is a standby/, url)
  }
})

// The last: it is no standby afterwards.
t.test('a service waits for a standby to be promoted, and says so', async (t) => {
  const transport = new MemoryTransport(shopTopology())
  const service = new Service({
    definition: shop({ deadlineSeconds: 30, paymentGateway: 'simulated' }).order,
    databaseUrl: standby.url,
    transport,
    requests: new RequestClient({ transport, log: testLog }),
    settings: { redeliverySeconds: [], inboxDays: 7 },
    log: testLog
  })
  t.teardown(() => stopServices([service], transport))
  service.start()
  await until('it says why it waits', async () =>
    /is a standby and takes no writes.*\(DATABASE_URL or ORDER_DATABASE_URL\)/.test(
      service.databaseProblem ?? ''
    )
  )
  await standby.promote()
  await service.started()
  t.equal(service.databaseProblem, undefined)
  t.equal(
    (await service.database.rows('select count(*)::integer as count from orders'))[0].count,
    0
  )
})
