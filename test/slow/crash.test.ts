import { connect as connectBroker } from 'amqplib'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { shopTopology } from '../../src/shop.ts'
import { judge, type Evidence } from '../faults/oracle.ts'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests, startRabbitMQ } from '../support/rabbitmq.ts'
import { Api } from '../support/api.ts'
import { Program, ROOT } from '../support/program.ts'
import { Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

const ORDERS = 500
const PRODUCTS = ['keyboard', 'monitor', 'mouse']
/** Of each product: enough for most, not for all. */
const PUT_IN = 250
const METHODS = [
  'pm_card_visa',
  'pm_card_visa',
  'pm_card_visa',
  'pm_card_chargeDeclined',
  'pm_sim_lost_response'
]
/** What a stop may take, ms: far below the 20 s after which a process gives up. */
const QUICK = 10_000

// What `npm start` does before it starts; nothing when the build is current.
const prepared = spawnSync(process.execPath, ['scripts/prepare.mjs', 'build'], {
  cwd: ROOT,
  stdio: 'inherit'
})
if (prepared.status !== 0) throw new Error('The product could not be built')

t.setTimeout(600_000)
// Most of what follows is waiting: for claims of dead processes to run out, for a broker to start.
t.jobs = 2

t.test('all in one process, killed again and again', async (t) => {
  const dataDir = await temporaryFolder(t)
  const run = () => Program.start(t, { DATA_DIR: dataDir })
  let program = run()
  const shop = shopAt(async () => new Api((await program).url))
  await shop.open()
  const orders = shop.placeOrders(ORDERS)
  for (const answered of [60, 180, 300, 420]) {
    await shop.answered(answered)
    program = restarted(await program, run)
    await program
  }
  await orders
  await isConsistent(t, new Api((await program).url), shop, {
    databaseUrl: await embeddedDatabase(dataDir)
  })
  t.match(await (await program).stop('SIGTERM'), { code: 0, signal: null })
})

t.test('three processes, each killed in turn', async (t) => {
  const env = await places()
  const run = (service: string) => Program.start(t, env, service)
  const programs = { order: run('order'), stock: run('stock'), payment: run('payment') }
  const apiOf = async () =>
    new Api({
      order: (await programs.order).url,
      stock: (await programs.stock).url,
      payment: (await programs.payment).url
    })
  const shop = shopAt(apiOf)
  await shop.open()
  const orders = shop.placeOrders(ORDERS)
  for (const [answered, service] of [
    [60, 'order'],
    [150, 'stock'],
    [240, 'payment'],
    [330, 'stock'],
    [420, 'order']
  ] as const) {
    await shop.answered(answered)
    programs[service] = restarted(await programs[service], () => run(service))
    await programs[service]
  }
  await orders
  const broker = await rabbitmqForTests()
  await isConsistent(t, await apiOf(), shop, {
    databaseUrl: env.DATABASE_URL,
    queues: () => broker.queues(env.RABBITMQ_URL)
  })
})

t.test('the broker goes away while orders come in', async (t) => {
  const broker = await startRabbitMQ()
  t.teardown(() => broker.stop())
  const program = await Program.start(t, {
    DATABASE_URL: await newDatabase(),
    RABBITMQ_URL: broker.url,
    ORDER_DEADLINE_SECONDS: '600'
  })
  const api = new Api(program.url)
  await program.ready()
  await api.putProduct('keyboard', 1000)
  const orderIds = await Promise.all(Array.from({ length: 20 }, () => api.placeOrder()))
  await broker.registered(
    '/',
    shopTopology().queues.map(({ name }) => name)
  )
  await broker.kill()
  for (let index = 0; index < 5; index++)
    orderIds.push(...(await Promise.all(Array.from({ length: 20 }, () => api.placeOrder()))))
  const notReady = await until('the broker is missed', async () => {
    const { status, body } = await api.call('GET', '/health/ready')
    return status === 503 && body
  })
  for (const service of ['order', 'stock', 'payment'])
    t.match(
      notReady.services[service],
      { database: 'ok', broker: /RabbitMQ|ECONNREFUSED/ },
      service
    )
  t.match(await api.get('/health/live'), { status: 'live' })
  t.ok((await api.get('/ops/order/outbox')).pending > 0, 'what cannot leave waits')
  await broker.restart()
  for (const orderId of orderIds) t.match(await api.settled(orderId), { status: 'Completed' })
  t.match(await api.get('/products/keyboard'), {
    onHand: 1000 - orderIds.length,
    reserved: orderIds.length
  })
  await program.ready()
  await broker.kill()
  // Clients that keep their connections open, too, must not hold the stop up.
  const asking = Promise.allSettled(
    orderIds.slice(0, 20).map((orderId) => api.get(`/sagas/${orderId}/replay`))
  )
  t.match(await program.stop('SIGTERM'), { code: 0 }, 'a clean stop needs no broker')
  await asking
})

t.test('a start before its database and its broker', async (t) => {
  const { DATABASE_URL, RABBITMQ_URL } = await places()
  const database = await laterServer(t, DATABASE_URL)
  const broker = await laterServer(t, RABBITMQ_URL)
  const program = await Program.start(t, { DATABASE_URL: database.url, RABBITMQ_URL: broker.url })
  const api = new Api(program.url)
  const notReady = await until('both are missed', async () => {
    const { status, body } = await api.call('GET', '/health/ready')
    return (
      status === 503 &&
      /ECONNREFUSED/.test(body.services.order.database) &&
      /ECONNREFUSED/.test(body.services.order.broker) &&
      body
    )
  })
  t.equal(notReady.status, 'unavailable')
  t.match(await api.get('/health/live'), { status: 'live' })
  const refused = await api.call('POST', '/orders', {
    customerId: 'ada',
    items: [{ productId: 'keyboard', quantity: 1 }],
    paymentMethod: 'pm_card_visa'
  })
  t.match(refused, { status: 503, body: { title: 'Service Unavailable', detail: /database/ } })
  t.ok(refused.headers.get('retry-after'))

  await database.appear()
  const halfReady = await until('the database is used', async () => {
    const { body } = await api.call('GET', '/health/ready')
    return (
      Object.values<Record<string, string>>(body.services).every(
        (parts) => parts.database === 'ok' && parts.relay === 'ok'
      ) && body
    )
  })
  t.equal(halfReady.status, 'unavailable', 'a broker is still missing')
  await api.putProduct('keyboard', 10)
  const orderId = await api.placeOrder()
  await broker.appear()
  t.match(await api.settled(orderId), { status: 'Completed' })
  await program.ready()
  for (const schema of ['order', 'stock', 'payment'])
    t.equal(
      program.logged(
        ({ msg, schema: of }) => /Cannot use the database/.test(msg) && of === `${schema}_service`
      ).length,
      1,
      `one line for ${schema}`
    )
  const [complaint, ...more] = program.logged(({ msg }) => /Cannot reach RabbitMQ/.test(msg))
  t.match(complaint, { level: 40, reason: /ECONNREFUSED/ })
  t.same(more, [], 'said once')
  t.match(await program.stop('SIGTERM'), { code: 0 })
})

t.test('a clean stop', async (t) => {
  await t.test('embedded: ends quickly with 0, and the next start has its data', async (t) => {
    const dataDir = await temporaryFolder(t)
    const orderIds: string[] = []
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const program = await Program.start(t, { DATA_DIR: dataDir })
      const api = new Api(program.url)
      await program.ready()
      for (const orderId of orderIds)
        t.match(await api.get(`/orders/${orderId}`), { status: 'Completed' })
      t.match(
        await api.get('/products/keyboard'),
        { onHand: 100 - orderIds.length, reserved: orderIds.length },
        'samples are put on the shelf once'
      )
      for (let index = 0; index < 3; index++) orderIds.push(await api.placeOrder())
      for (const orderId of orderIds) await api.settled(orderId)
      const { code, ms } = await program.stop(signal)
      t.equal(code, 0, signal)
      t.ok(ms < QUICK, `${signal} took ${ms} ms`)
      t.same(
        program.logged(({ level }) => level >= 50),
        [],
        'no error'
      )
    }
  })

  await t.test(
    'distributed, in the middle of orders: what was handled is not delivered again',
    async (t) => {
      const env = await places()
      const order = await Program.start(t, env, 'order')
      const stock = await Program.start(t, env, 'stock')
      const api = new Api({ order: order.url, stock: stock.url, payment: stock.url })
      await Promise.all([order.ready(), stock.ready()])
      await api.putProduct('keyboard', 100_000)
      const orderIds: string[] = []
      const placing = Promise.all(
        Array.from({ length: 10 }, async () => {
          for (let index = 0; index < 30; index++) orderIds.push(await api.placeOrder())
        })
      )
      await until(
        'stock is at work',
        async () => (await api.get('/products/keyboard')).reserved > 20
      )
      t.match(await stock.stop('SIGTERM'), { code: 0 })
      await placing
      const database = await connectDatabase(t, env.DATABASE_URL)
      const broker = await connectBroker(env.RABBITMQ_URL)
      const channel = await broker.createChannel()
      const waiting: string[] = []
      for (let got = await channel.get('stock'); got; got = await channel.get('stock'))
        waiting.push(JSON.parse(got.content.toString()).messageId)
      await broker.close()
      const { rows: handled } = await database.query(
        'select message_id from stock_service.inbox where message_id = any($1)',
        [waiting]
      )
      t.same(handled, [], 'no message that was handled is still in the queue')
      const services = {
        stock: await Program.start(t, env, 'stock'),
        payment: await Program.start(t, env, 'payment')
      }
      const whole = new Api({
        order: order.url,
        stock: services.stock.url,
        payment: services.payment.url
      })
      for (const orderId of orderIds) t.match(await whole.settled(orderId), { status: 'Completed' })
      t.match(await whole.get('/products/keyboard'), {
        onHand: 100_000 - orderIds.length,
        reserved: orderIds.length
      })
      for (const program of [order, services.stock, services.payment])
        t.match(await program.stop('SIGINT'), { code: 0 })
    }
  )
})

t.test('a setting that cannot be used', async (t) => {
  const url = 'postgres://nobody@127.0.0.1:1/nothing'
  const cases: [args: string[], env: Record<string, string>, named: RegExp, expected: RegExp][] = [
    [[], { PORT: 'abc' }, /PORT/, /port number from 0 .* to 65535/],
    [[], { PORT: '65536' }, /PORT/, /port number from 0 .* to 65535/],
    [[], { PORT: '8080.9' }, /PORT/, /port number from 0 .* to 65535/],
    [[], { BLOCKED_SECONDS: 'true' }, /BLOCKED_SECONDS/, /seconds from 1 to 3600, got "true"/],
    [[], { ORDER_DEADLINE_SECONDS: '-1' }, /ORDER_DEADLINE_SECONDS/, /seconds from 0\.1/],
    [[], { RABBITMQ_URL: 'foo' }, /RABBITMQ_URL/, /amqp:\/\//],
    [[], { DATABASE_URL: 'mysql://localhost/x' }, /DATABASE_URL/, /postgres:\/\//],
    [
      [],
      { DATABASE_URL: 'postgres://u:pk_test/ss@localhost/x' },
      /DATABASE_URL/,
      /user and password percent-encoded/
    ],
    [
      [],
      { DATABASE_URL: 'postgres://u:pk_test%@localhost/x' },
      /DATABASE_URL/,
      /user and password percent-encoded/
    ],
    [
      [],
      { RABBITMQ_URL: 'amqp://u:pk_test/ss@localhost/x' },
      /RABBITMQ_URL/,
      /user and password percent-encoded/
    ],
    [[], { LOG_LEVEL: 'loud' }, /LOG_LEVEL/, /fatal, error, warn/],
    [[], { PAYMENT_GATEWAY: 'paypal' }, /PAYMENT_GATEWAY/, /simulated or stripe/],
    [
      [],
      { PAYMENT_GATEWAY: 'stripe' },
      /STRIPE_SECRET_KEY/,
      /secret key of Stripe, because PAYMENT_GATEWAY is stripe/
    ],
    [[], { STRIPE_SECRET_KEY: 'pk_test_public' }, /STRIPE_SECRET_KEY/, /sk_test_/],
    [[], { STRIPE_API_URL: 'stripe.com' }, /STRIPE_API_URL/, /https:\/\//],
    [
      ['order'],
      { DATABASE_URL: url },
      /RABBITMQ_URL/,
      /order alone can reach the other services only through a broker/
    ],
    [['shop'], {}, /shop/, /order, stock, payment/],
    [[], { ORDER_DATABASE_URL: url }, /DATABASE_URL/, /stock and payment/]
  ]
  for (const third of [cases.slice(0, 6), cases.slice(6, 12), cases.slice(12)]) {
    await Promise.all(
      third.map(async ([args, env, named, expected]) => {
        const program = new Program(t, env, args)
        const { code } = await program.exited
        const what = [...args, ...Object.entries(env).map((pair) => pair.join('='))].join(' ')
        t.equal(code, 1, what)
        t.match(program.errors, named, `${what}: names it`)
        t.match(program.errors, expected, `${what}: says what was expected`)
        t.notMatch(program.errors, /\n +at /, `${what}: no stack trace`)
        t.notMatch(program.errors, /pk_test/, `${what}: shows no secret`)
      })
    )
  }
})

function shopAt(api: () => Promise<Api>): Shop {
  return new Shop({
    api,
    products: PRODUCTS,
    putIn: PUT_IN,
    lines: 2,
    methods: METHODS,
    customers: 20
  })
}

/** Every order has ended, and order, stock and payment tell the same story of each. */
async function isConsistent(
  t: Test,
  api: Api,
  shop: Shop,
  at: Pick<Evidence, 'databaseUrl' | 'queues'>
): Promise<void> {
  const { orders, completed, broken } = await judge({
    ...at,
    api,
    ...shop.evidence(),
    patience: 120_000
  })
  t.same(broken, [], 'order, stock and payment agree')
  t.ok(orders >= ORDERS * 0.9 && orders <= ORDERS)
  t.ok(completed > 50, 'enough of them went well')
}

/** Where the embedded server of this folder listens now. */
async function embeddedDatabase(dataDir: string): Promise<string> {
  const [, , , port] = (await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split(
    '\n'
  )
  const password = await readFile(join(dataDir, 'postgres', 'sagabox-password'), 'utf8')
  return `postgres://sagabox:${password.trim()}@127.0.0.1:${port}/sagabox`
}

/** Kills a program and starts it again. */
async function restarted(program: Program, run: () => Promise<Program>): Promise<Program> {
  await program.kill()
  return run()
}

async function newDatabase(): Promise<string> {
  return (await postgresForTests()).createDatabase('crash')
}

/** A database and a virtual host of its own. */
async function places() {
  return {
    DATABASE_URL: await newDatabase(),
    RABBITMQ_URL: await (await rabbitmqForTests()).createVhost(),
    ORDER_DEADLINE_SECONDS: '60'
  }
}

/**
 * A folder that goes with the test, and with it the database server that a killed program has left
 * there.
 */
async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-crash-'))
  await chmod(folder, 0o711)
  t.teardown(async () => {
    const pid = Number.parseInt(
      await readFile(join(folder, 'postgres', 'postmaster.pid'), 'utf8').catch(() => ''),
      10
    )
    if (pid > 0) process.kill(pid, 'SIGQUIT')
    await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  })
  return folder
}

/** An address where nobody answers until the server behind `url` appears there. */
async function laterServer(t: Test, url: string) {
  const target = new URL(url)
  const open = new Set<{ destroy(): void }>()
  const server = createServer((socket) => {
    const upstream = connect(Number(target.port), target.hostname)
    for (const [from, to] of [
      [socket, upstream],
      [upstream, socket]
    ] as const) {
      open.add(from)
      from.on('error', () => {}).on('close', () => to.destroy())
      from.pipe(to)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  const here = new URL(url)
  here.port = String(port)
  return {
    url: here.href,
    async appear() {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    }
  }
}

async function connectDatabase(t: Test, databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  return client
}
