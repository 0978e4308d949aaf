import { once } from 'node:events'
import { STATUS_CODES } from 'node:http'
import { connect as connectTo, type Socket } from 'node:net'
import { text as textOf } from 'node:stream/consumers'
import Fastify from 'fastify'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { DatabaseAway } from '../../packages/sagabox/src/messaging/errors/database-away.ts'
import { buildApp } from '../../packages/sagabox/src/http/app.ts'
import { limitConnections } from '../../packages/sagabox/src/http/connections.ts'
import { HttpProblem } from '../../packages/sagabox/src/http/problem.ts'
import { Refusals } from '../../packages/sagabox/src/http/refusals.ts'
import { ExportDesk } from '../../packages/sagabox/src/http/export-desk.ts'
import { startSystem, testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

const ORDER = {
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const JSON_BODY = { 'content-type': 'application/json' }

t.test('what a request may cost, and hold', async (t) => {
  const { api, system, databaseUrl } = await startSystem(t, 'memory')
  const { port } = new URL(system.url)
  await api.putProduct('keyboard', 1000)
  await api.putProduct('mouse', 1000)
  const inject = async (
    url: string,
    payload: string | Buffer,
    headers: Record<string, string> = JSON_BODY
  ) => {
    const { statusCode, body } = await system.app.inject({ method: 'POST', url, headers, payload })
    return {
      status: statusCode,
      body: JSON.parse(body) as { detail: string; errors?: { field: string }[] }
    }
  }

  await t.test('a limit is named, with the size', async (t) => {
    const large = (bytes: number) => JSON.stringify({ ...ORDER, padding: 'x'.repeat(bytes) })
    t.match(await inject('/orders', large(70_000)), {
      status: 413,
      body: { detail: /^The body has 70\d\d\d bytes; POST \/orders takes at most 65536$/ }
    })
    t.match(await inject('/products/keyboard/restock', large(17_000)), {
      status: 413,
      body: { detail: /POST \/products\/:productId\/restock takes at most 16384$/ }
    })
    const chunked = `POST /orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${'8000\r\n'.concat('x'.repeat(0x8000), '\r\n').repeat(3)}`
    t.match(await raw(port, chunked), {
      status: 413,
      body: { detail: /^The body has more than 65536 bytes; POST \/orders takes at most 65536$/ }
    })
    t.match(
      await inject(
        '/orders',
        JSON.stringify(
          {
            ...ORDER,
            items: Array.from({ length: 100 }, () => ({
              productId: 'k'.repeat(64),
              quantity: 1_000_000
            }))
          },
          null,
          4
        )
      ),
      { status: 202 },
      'the largest order, written wide'
    )
  })

  await t.test('hundreds of the worst bodies are told apart, a few fields each', async (t) => {
    const fields = `{${Array.from({ length: 6000 }, (_, index) => `"k${index}":1`).join()}}`
    const items = `{"items":[${Array.from({ length: 20_000 }, () => '{}').join()}]}`
    const deep = `{"items":${'['.repeat(30_000)}${']'.repeat(30_000)}}`
    const poisoned = `{"items":[{"__proto__":{"quantity":1}}]}`
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        inject('/orders', [fields, items, deep, poisoned][index % 4]!)
      )
    )
    for (const { status, body } of answers) {
      t.equal(status, 400)
      t.ok((body.errors?.length ?? 0) <= 8)
    }
    t.match(answers[0]!.body.errors, [{ field: 'customerId' }])
  })

  await t.test('a body that is compressed, no text, or broken off', async (t) => {
    t.match(
      await inject('/orders', JSON.stringify(ORDER), { ...JSON_BODY, 'content-encoding': 'gzip' }),
      { status: 415, body: { detail: /encoded as gzip; expected one that is not compressed/ } }
    )
    t.match(await inject('/orders', Buffer.from([0x7b, 0xff, 0x7d])), {
      status: 400,
      body: { detail: /not UTF-8/ }
    })
    const socket = connectTo(Number(port), '127.0.0.1')
    const logged: unknown[] = []
    const warn = t.capture(system.app.log, 'warn', (...line: unknown[]) => void logged.push(line))
    socket.write(
      'POST /orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"customerId"'
    )
    await once(socket, 'connect')
    await until(
      'the request has arrived',
      async () => (await api.get('/health/live')).status === 'live'
    )
    const gone = new Promise((resolve) =>
      system.app.server.getConnections((_error, count) => resolve(count))
    )
    socket.destroy()
    await gone
    await until('it is gone', async () => (await connections(system.app.server)) <= 2)
    warn.restore()
    t.same(logged, [], 'nobody is told that the database is away')
  })

  await t.test('a POST that takes no body takes whatever a client sends for none', async (t) => {
    const cancel = async () =>
      `/orders/${await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })}/cancel`
    const forms: [headers: Record<string, string>, body: string][] = [
      [JSON_BODY, ''],
      [{ ...JSON_BODY, 'content-length': '0' }, ''],
      [JSON_BODY, '{}'],
      [JSON_BODY, 'null'],
      [JSON_BODY, '{'],
      [{ 'content-type': 'application/x-www-form-urlencoded' }, ''],
      [{ 'content-type': 'text/plain' }, ''],
      [{}, '{}']
    ]
    for (const [headers, body] of forms)
      t.match(
        await inject(await cancel(), body, headers),
        { status: 202 },
        JSON.stringify([headers, body])
      )
    const chunked = `POST ${await cancel()} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n`
    t.match(await raw(port, chunked), { status: 202 })
    t.match(
      await inject(await cancel(), 'x'.repeat(20_000), JSON_BODY),
      { status: 413 },
      'within limits'
    )
    t.match(await inject('/orders', '', JSON_BODY), {
      status: 400,
      body: { detail: 'The body is empty; expected JSON' }
    })
  })

  await t.test('null in an optional field is none, in a required one an error', async (t) => {
    t.match(await api.call('POST', '/orders', { ...ORDER, expectedTotal: null }), { status: 202 })
    t.match(await api.call('POST', '/orders', { ...ORDER, customerId: null }), {
      status: 400,
      body: { errors: [{ field: 'customerId' }] }
    })
    t.match(
      await api.call('POST', '/orders', { ...ORDER, total: null }),
      { status: 400, body: { errors: [{ field: 'total' }] } },
      'an unknown field stays one'
    )
    t.match(
      await api.call('POST', '/ops/order/dead-letters/retry', {
        type: null,
        why: 'mended',
        perSecond: null,
        kind: 'error'
      }),
      { status: 202, body: { filter: { kind: 'error' } } }
    )
    const key = { 'idempotency-key': 'null-or-none' }
    t.match(await api.call('POST', '/orders', ORDER, key), { status: 202 })
    t.match(
      await api.call('POST', '/orders', { ...ORDER, expectedTotal: null }, key),
      { status: 202 },
      'the same order'
    )
  })

  await t.test('a text that PostgreSQL does not take is an error of the request', async (t) => {
    for (const field of ['type', 'exception', 'reason', 'messageId', 'correlationId']) {
      for (const list of ['dead-letters', 'dead-letters/groups']) {
        t.match(await api.call('GET', `/ops/stock/${list}?${field}=a%00b`), {
          status: 400,
          body: { errors: [{ field }] }
        })
      }
      for (const bad of ['a\0b', 'a\u001fb', '\ud800', 'x\udc00y']) {
        const body = JSON.stringify({ why: 'mended', [field]: bad })
        t.match(
          await api.call('POST', '/ops/stock/dead-letters/retry', body),
          { status: 400, body: { errors: [{ field }] } },
          body
        )
      }
      t.match(await api.call('GET', `/ops/stock/dead-letters?${field}=%F0%9F%90%98%20M%C3%A4use`), {
        status: 200
      })
    }
    t.match(await api.call('DELETE', '/ops/stock/dead-letters/1?why=%00'), {
      status: 400,
      body: { errors: [{ field: 'why' }] }
    })
    t.match(
      await api.call(
        'PUT',
        '/products/odd',
        JSON.stringify({ name: 'half \ud83d', unitPrice: 1, currency: 'EUR', onHand: 1 })
      ),
      { status: 400, body: { errors: [{ field: 'name' }] } }
    )
    for (const list of ['/orders', '/sagas', '/products', '/ops/order/dead-letters']) {
      for (const cursor of ['%00', 'a%0Ab', 'a=', '%ED%A0%80'])
        t.match(
          await api.call('GET', `${list}?cursor=${cursor}`),
          { status: 400, body: { errors: [{ field: 'cursor' }] } },
          list + cursor
        )
    }
  })

  await t.test('what Node would answer with nothing', async (t) => {
    t.match(await raw(port, 'GET /health/live HTTP/1.1\r\nconnection: close\r\n\r\n'), {
      status: 400,
      body: { title: 'Bad Request', detail: /no Host header/ }
    })
    t.match(await raw(port, 'GET /health/live HTTP/1.0\r\n\r\n'), { status: 200 })
    t.match(
      await raw(
        port,
        'POST /orders HTTP/1.1\r\nhost: a\r\nexpect: the-unexpected\r\ncontent-length: 0\r\n\r\n'
      ),
      { status: 417, body: { title: STATUS_CODES[417], status: 417, detail: /100-continue/ } }
    )
  })

  await t.test('what people ask and change takes no connection from orders', async (t) => {
    const [blocker, other] = [await connect(t, databaseUrl), await connect(t, databaseUrl)]
    await blocker.query(
      `begin; select from stock_service.products where product_id = 'mouse' for update; lock table order_service.dead_letter`
    )
    const restocks = Array.from({ length: 8 }, () =>
      api.call('POST', '/products/mouse/restock', { quantity: 1 })
    )
    const searches = Array.from({ length: 12 }, () =>
      api.call('GET', '/ops/order/dead-letters?reason=x')
    )
    await until('the connections for requests are all in use', async () => {
      const { rows } =
        await other.query(`select count(*) filter (where query ~ 'dead_letter')::int as searching, count(*) filter (where query ~ 'products')::int as restocking
        from pg_stat_activity where wait_event_type = 'Lock'`)
      return rows[0].searching >= 4 && rows[0].restocking >= 4
    })
    const { requests, database } = system.service('order')
    t.not(requests.database, database)
    t.match(await api.call('POST', '/orders', ORDER), { status: 202 })
    t.match(await api.call('GET', '/health/live'), { status: 200 })
    t.match(await api.call('GET', '/health/ready'), { status: 200 })
    const answers = await Promise.all([...restocks, ...searches])
    await blocker.query('rollback')
    for (const { status, headers, body } of answers) {
      t.equal(status, 503)
      t.equal(headers.get('retry-after'), '1')
      t.match(body.detail, /try again/)
    }
    t.match(
      answers.filter(({ body }) => /No database connection became free in time/.test(body.detail))
        .length > 0,
      true
    )
    t.match(await api.call('POST', '/products/mouse/restock', { quantity: 1 }), { status: 200 })
    const [limits] = await requests.database.rows(`
      select current_setting('statement_timeout') as statement,
        current_setting('lock_timeout') as lock`)
    t.same(limits, { statement: '3s', lock: '1s' })
  })

  await t.test('what a request sends leaves at once, by the same relay', async (t) => {
    const orderId = await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })
    await until(
      'payment is asked',
      async () => (await api.get(`/sagas/${orderId}`)).state === 'Suspend.takingPayment'
    )
    const { relay } = system.service('order')
    const spied = t.capture(relay, 'offer', relay.offer.bind(relay))
    t.match(await api.call('POST', `/orders/${orderId}/cancel`), { status: 202 })
    t.ok(spied().length > 0, 'the relay was given it')
    t.match(await api.settled(orderId), { state: 'Failed.settled' })
  })

  await t.test('each operation has a name of its own', async (t) => {
    const { paths } = await api.get('/openapi.json')
    const ids = Object.values<Record<string, { operationId: string }>>(paths).flatMap(
      (operations) => Object.values(operations).map(({ operationId }) => operationId)
    )
    t.equal(new Set(ids).size, ids.length)
    for (const id of ids) t.match(id, /^[a-z][A-Za-z]+$/)
    t.equal(paths['/orders/{orderId}/cancel'].post.operationId, 'postOrdersByOrderIdCancel')
    t.equal(paths['/ops/order/dead-letters/{id}'].get.operationId, 'getOpsOrderDeadLettersById')
  })

  await t.test('the routes can be mounted in any fastify', async (t) => {
    for (const service of system.services) {
      const app = Fastify()
      t.teardown(() => app.close())
      for (const routes of [...service.parts.routes, ...service.operatorRoutes])
        await app.register(routes)
      await app.ready()
    }
  })
})

t.test('clients beyond the limit are refused, and the log says so once', async (t) => {
  const lines = recorded()
  const app = Fastify()
  limitConnections(app.server, lines.log, 3)
  app.get('/', async () => 'here')
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  const { port } = app.server.address() as { port: number }
  const open = async () => {
    const socket = connectTo(port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    return socket
  }
  const inside = [await open(), await open(), await open()]
  await until('they are counted', async () => (await connections(app.server)) === 3)
  for (let index = 0; index < 5; index++) await once(await open(), 'close')
  t.same(lines.texts(), [
    'MAX_CONNECTIONS: 3 clients are connected, and no more are let in. Find out who holds them, or raise the setting'
  ])
  inside.pop()!.destroy()
  await until('there is room again', async () => lines.texts().length === 2)
  t.same(lines.texts()[1], 'Clients are let in again; 5 connections were refused')
  for (const socket of inside) socket.destroy()
})

t.test('more connections than files may be open are not promised', async (t) => {
  const lines = recorded()
  const app = Fastify()
  limitConnections(app.server, lines.log, 1e9)
  t.ok(app.server.maxConnections < 1e9 || process.platform !== 'linux')
  t.match(lines.texts()[0] ?? 'the limit of open files', /the limit of open files/)
})

t.test('exports: few at a time, and none that nobody reads', async (t) => {
  const desk = new ExportDesk(2, 20)
  let returned = 0
  async function* pages(count: number): AsyncGenerator<string> {
    try {
      for (let page = 0; page < count; page++) yield 'x'.repeat(1000)
    } finally {
      returned++
    }
  }
  const fake = () => {
    const socket = { destroyed: false, destroy: () => (socket.destroyed = true) }
    return socket as unknown as Socket
  }
  const [first, second] = [fake(), fake()]
  const reading = await desk.open(() => pages(3), first)
  const stalled = await desk.open(() => pages(1000), second)
  await t.rejects(
    desk.open(() => pages(1), fake()),
    { status: 503, message: /2 exports are running/ }
  )
  t.equal((await textOf(reading)).length, 3000)
  await until('its place is free', async () => {
    const next = await desk.open(() => pages(1), fake()).catch(() => undefined)
    next?.resume()
    return next !== undefined
  })
  stalled.read(1)
  await until('who takes nothing is cut off', async () => second.destroyed)
  t.notOk(first.destroyed)
  stalled.destroy()
  await once(stalled, 'close')
  await until('its pages are closed', async () => returned >= 3)
  const broken = { next: () => Promise.reject(new Error('no database')) }
  await t.rejects(
    desk.open(() => broken as unknown as AsyncGenerator<string>, fake()),
    /no database/
  )
  const after = await desk.open(() => pages(1), fake())
  after.destroy()
})

t.test('behind a proxy that takes a prefix away', async (t) => {
  const routes = (app: Awaited<ReturnType<typeof buildApp>>) => {
    app.get('/made', { schema: { summary: 'x' } }, () => ({}))
  }
  const app = await buildApp(testLog, routes, { publicUrl: 'https://example.com/shop/' })
  t.teardown(() => app.close())
  t.same((await app.inject('/openapi.json')).json().servers, [{ url: 'https://example.com/shop' }])
  for (const [path, target] of [
    ['/', 'https://example.com/shop/docs/'],
    ['/docs', 'https://example.com/shop/docs/']
  ] as const) {
    const { statusCode, headers } = await app.inject(path)
    t.equal(statusCode, 302)
    t.equal(new URL(headers.location!, `https://example.com/shop${path}`).href, target, path)
  }
  const page = (await app.inject('/docs/')).body
  const assets = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(
    ([, link]) => new URL(link!, 'https://example.com/shop/docs/').pathname
  )
  t.ok(assets.length >= 5)
  for (const asset of assets) {
    t.match(asset, /^\/shop\//)
    t.equal((await app.inject(asset.slice('/shop'.length))).statusCode, 200, asset)
  }
  const { api } = await startSystem(t, 'memory', {
    services: ['order'],
    app: { publicUrl: 'https://example.com/shop' }
  })
  const placed = await api.call('POST', '/orders', ORDER)
  t.equal(placed.headers.get('location'), `/shop/orders/${placed.body.orderId}`)
  t.match(
    (await api.call('POST', '/ops/order/dead-letters/retry', { why: 'mended' })).headers.get(
      'location'
    ),
    /^\/shop\/ops\/order\/dead-letters\/retries\/\d+$/
  )
})

t.test('an outage is a few lines, not one a request', async (t) => {
  const lines = recorded()
  const app = await buildApp(lines.log, (root) => {
    root.get('/away', { schema: { summary: 'x' } }, async () => {
      throw new DatabaseAway(
        Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
      )
    })
    root.get('/refused', { schema: { summary: 'x' } }, async () => {
      throw new HttpProblem(404, 'not here')
    })
    root.get('/bad', { schema: { summary: 'x' } }, async () => {
      throw Object.assign(new Error('invalid byte sequence'), {
        code: '22021',
        query: 'select secret'
      })
    })
  })
  for (let index = 0; index < 50; index++) t.equal((await app.inject('/away')).statusCode, 503)
  await app.inject('/refused')
  t.match((await app.inject('/bad')).json(), {
    status: 400,
    detail: /cannot be stored or looked up/
  })
  t.equal(lines.texts().length, 1)
  t.match(lines.texts()[0], /^Database unavailable; requests are refused/)
  await app.close()
  t.match(lines.texts(), [
    /^Database unavailable/,
    'Database unavailable; 50 requests were refused'
  ])

  const again = recorded()
  const refusals = new Refusals(again.log, 20)
  for (let index = 0; index < 10; index++) refusals.refused('Away', {})
  await until('it is over', async () => again.texts().length === 3)
  refusals.refused('Away', {})
  refusals.stop()
  t.same(again.texts(), [
    'Away; requests are refused. Further ones are counted',
    'Away; 9 more requests were refused in 0.02 s',
    'Over: Away. 10 requests were refused',
    'Away; requests are refused. Further ones are counted'
  ])
})

/** Sends bytes as they are, and reads until the server closes. */
async function raw(port: string, bytes: string): Promise<{ status: number; body: unknown }> {
  const socket = connectTo(Number(port), '127.0.0.1')
  socket.write(bytes)
  const [, status, body] = /^HTTP\/1\.1 (\d+) [^]*?\r\n\r\n([^]*)$/.exec(await textOf(socket)) ?? []
  return { status: Number(status), body: body?.startsWith('{') ? JSON.parse(body) : body }
}

function connections(server: {
  getConnections(then: (error: Error | null, count: number) => void): unknown
}): Promise<number> {
  return new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))
}

function recorded() {
  const written: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void written.push(line) })
  return { log, texts: () => written.map((line) => (JSON.parse(line) as { msg: string }).msg) }
}

async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return client
}
