// Migrations by an owner, services by a role that may only read and write.
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import pg from 'pg'
import t, { type Test } from 'tap'
import { loggerOf } from '../../packages/sagabox/src/service/logger.ts'
import { runCommand } from '../support/cli.ts'
import { keptLog } from '../support/kept-log.ts'
import { postgresForTests } from '../support/postgres.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(600_000)

const ROLES = readFileSync(new URL('../../docs/examples/roles.sql', import.meta.url), 'utf8')
const SERVICES = ['order', 'stock', 'payment']

/** A database and two roles, as docs/how-to/migrate.md makes them for each service. */
async function open(t: Test) {
  const url = await (await postgresForTests()).createDatabase('roles')
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  const suffix = randomBytes(4).toString('hex')
  const named = (sql: string) => sql.replaceAll(/shop_(owner|app)/g, `shop_$1_${suffix}`)
  const [roles, ...schema] = ROLES.split(/^(?=create schema)/m)
  await admin.query(named(roles!))
  for (const name of SERVICES)
    await admin.query(named(schema.join('')).replaceAll('order_service', `${name}_service`))
  t.teardown(async () => {
    for (const role of ['shop_app', 'shop_owner'])
      await admin.query(named(`drop owned by ${role} cascade`))
    await admin.query(named('drop role shop_owner, shop_app'))
    await admin.end()
  })
  const as = (role: string, password: string) => {
    const own = new URL(url)
    own.username = named(role)
    own.password = password
    return own.href
  }
  return {
    admin,
    named,
    owner: as('shop_owner', 'change-me'),
    app: as('shop_app', 'change-me-too')
  }
}

const migrate = (url: string, ...args: string[]) =>
  runCommand(['migrate', ...args], { DATABASE_URL: url })

t.test('the weak role runs the whole shop, and changes no table', async (t) => {
  const { owner, app } = await open(t)
  const refused = await migrate(app)
  t.match(refused, { code: 1, err: /may not make tables in the schema order_service/ })
  const started = startSystem(t, 'memory', { databaseUrl: app, migrate: 'check' })
  await t.rejects(started, { code: 'MIGRATIONS_PENDING' })

  const ran = await migrate(owner)
  t.match(ran, { code: 0, out: /^order_service: \d+ run, 0 pending$/m }, ran.err)
  t.match(await migrate(app, '--plan'), { code: 0 })
  const { api, system } = await startSystem(t, 'memory', { databaseUrl: app, migrate: 'check' })
  await api.putProduct('keyboard', 10)
  const orderId = await api.placeOrder()
  await api.settled(orderId)
  t.match((await api.get(`/orders/${orderId}`)).status, 'Completed')
  const { database } = system.service('order')
  await t.rejects(database.query('create table mine (id int)'), { code: '42501' })
  await t.rejects(database.query('alter table orders add column mine int'), { code: '42501' })
  const again = await migrate(app)
  t.match(again, { code: 0, out: /^order_service: nothing run, 0 pending$/m }, again.err)
})

t.test('a right that is missing is named, and work begins when it is given', async (t) => {
  const { admin, named, owner, app } = await open(t)
  t.match(await migrate(owner), { code: 0 })
  const log = keptLog()
  const said = (what: RegExp) =>
    until(
      String(what),
      async () => log.lines.some(({ fields }) => what.test(String(fields['reason']))),
      { tell: () => JSON.stringify(log.lines) }
    )
  await admin.query(named('revoke usage on schema stock_service from shop_app'))
  await admin.query(named('revoke insert on payment_service.payments from shop_app'))
  const started = startSystem(t, 'memory', {
    databaseUrl: app,
    migrate: 'check',
    log: loggerOf(log)
  })
  await said(/may not use the schema stock_service: expected "grant usage on schema stock_service/)
  await said(/may not read and write the table payments .* expected "grant select, insert/)
  await admin.query(named('grant usage on schema stock_service to shop_app'))
  await admin.query(named('grant insert on payment_service.payments to shop_app'))
  const { api } = await started
  await api.putProduct('keyboard', 10)
  await api.settled(await api.placeOrder())
})
