import pg from 'pg'
import t, { type Test } from 'tap'
import { OLD_AUDIT_ROWS } from '../../packages/sagabox/src/messaging/postgres/audit.ts'
import { OldRowsCleaner } from '../../packages/sagabox/src/messaging/postgres/old-rows.ts'
import { guardedShop, routesOf, type Person } from '../support/guarded-shop.ts'
import { testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

const SERVICES = ['order', 'stock', 'payment'] as const
const PRODUCT = { name: 'Lamp', unitPrice: 1000, currency: 'EUR', onHand: 100 }
const GONE = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'

async function open(t: Test) {
  const shop = await guardedShop(t, { settings: { deadlineSeconds: 600 } })
  const database = new pg.Client({ connectionString: shop.databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await until(
    'it is ready',
    async () => (await shop.api.call('GET', '/health/ready')).status === 200
  )
  const rowsOf = async (service: string) =>
    (await database.query(`select * from ${service}_service.audit order by id`)).rows
  const all = async () => {
    const rows = []
    for (const service of SERVICES) rows.push(...(await rowsOf(service)))
    return rows
  }
  /** Of refusals, which are written after the answer. */
  const refused = (service: string, count: number) =>
    until(`${count} refusals are written`, async () => {
      const rows = (await rowsOf(service)).filter(({ outcome }) => outcome === 'refused')
      return rows.reduce((sum, { times }) => sum + times, 0) === count && rows
    })
  const place = async () => {
    const { body } = await shop.ask('carl', 'POST', '/orders', {
      customerId: 'ada',
      items: [{ productId: 'lamp', quantity: 1 }],
      paymentMethod: 'pm_card_visa'
    })
    return body.orderId as string
  }
  const settled = (orderId: string) =>
    until('the order has ended', async () =>
      /^(Completed|Failed\.settled)/.test(
        (await shop.ask('vera', 'GET', `/sagas/${orderId}`)).body.state
      )
    )
  const letter = async (service: string, columns: Record<string, unknown> = {}) => {
    const row = {
      endpoint: service,
      payload: Buffer.from('{}'),
      exception: 'Error',
      reason: 'broken',
      fingerprint: Buffer.from(`${Math.random()}`),
      kind: 'error',
      ...columns
    }
    const names = Object.keys(row)
    const { rows } = await database.query(
      `insert into ${service}_service.dead_letter (${names.join(', ')})
       values (${names.map((_, index) => `$${index + 1}`).join(', ')}) returning id`,
      Object.values(row)
    )
    return rows[0].id as string
  }
  return { ...shop, database, rowsOf, all, refused, place, settled, letter }
}

type Opened = Awaited<ReturnType<typeof open>>

interface Change {
  who?: Person
  path?: string
  body?: unknown
  target: string
  reason?: string
}

/** What each service takes, and what its body has besides the order. */
const TAKEN: Record<string, [string, object]> = {
  order: ['PaymentFailedEvent', { reason: 'CardDeclined' }],
  stock: ['ReleaseStock', {}],
  payment: ['RefundPayment', {}]
}

/** For each route that changes something, how to change it. */
function changesOf(shop: Opened): Record<string, () => Promise<Change>> {
  const { database, place, settled, letter, ask } = shop
  /** An order that waits for stock. */
  const waiting = async () => {
    await ask('otto', 'POST', '/ops/stock/endpoint/pause', { reason: 'for the test' })
    return place()
  }
  const refusedRefund = async () => {
    await ask('otto', 'POST', '/ops/stock/endpoint/resume')
    const orderId = await place()
    await settled(orderId)
    await database.query(
      `update payment_service.payments set status = 'RefundRefused' where order_id = $1`,
      [orderId]
    )
    return orderId
  }
  const saga = (orderId: string, action: string, more: Partial<Change> = {}) => ({
    path: `/sagas/${orderId}/${action}`,
    target: `order saga ${orderId}`,
    ...more
  })
  const ofService = (service: string): Record<string, () => Promise<Change>> => {
    const ops = `/ops/${service}`
    const letters = `${ops}/dead-letters`
    const outboxRow = async (table: string, columns: string, values: string) => {
      const { rows } = await database.query(
        `insert into ${service}_service.${table} (message_id, destination, required, payload, ${columns})
         values (gen_random_uuid(), 'nowhere', true, '{}', ${values}) returning id`
      )
      return rows[0].id as string
    }
    return {
      [`POST ${letters}/{id}/retry`]: async () => {
        const id = await letter(service)
        const path = `${letters}/${id}/retry?why=mended`
        return { path, target: `dead letter ${id}`, reason: 'mended' }
      },
      [`PUT ${letters}/groups/{group}/note`]: async () => {
        await letter(service)
        const { body } = await ask('vera', 'GET', `${letters}/groups`)
        const { id } = body.groups[0]
        const path = `${letters}/groups/${id}/note`
        const target = `dead letter group ${id}`
        return { path, body: { note: 'known' }, target, reason: 'known' }
      },
      [`POST ${letters}/{id}/edit`]: async () => {
        const [type, more] = TAKEN[service]!
        const id = await letter(service, { message_type: type, correlation_id: GONE })
        const path = `${letters}/${id}/edit`
        const body = { body: { orderId: GONE, ...more }, why: 'a typo' }
        return { who: 'anna', path, body, target: `dead letter ${id}`, reason: 'a typo' }
      },
      [`DELETE ${letters}/{id}`]: async () => {
        const id = await letter(service)
        const path = `${letters}/${id}?why=spam`
        return { who: 'anna', path, target: `dead letter ${id}`, reason: 'spam' }
      },
      [`POST ${letters}/deleted/{id}/restore`]: async () => {
        const id = await letter(service)
        await ask('anna', 'DELETE', `${letters}/${id}?why=spam`)
        return { path: `${letters}/deleted/${id}/restore`, target: `dead letter ${id}` }
      },
      [`POST ${letters}/{id}/undo`]: async () => {
        // Only the order service has a saga with effects.
        const id = await letter(service, {
          message_type: 'StockReservedEvent',
          correlation_id: GONE
        })
        const path = `${letters}/${id}/undo`
        return { path, body: { reason: 'lost' }, target: `dead letter ${id}`, reason: 'lost' }
      },
      [`POST ${letters}/retry`]: async () => ({
        body: { why: 'mended', type: 'Nothing' },
        target: 'group retry 1',
        reason: 'mended'
      }),
      [`POST ${letters}/retries/{id}/stop`]: async () => {
        const { rows } = await database.query(
          `insert into ${service}_service.dead_letter_retry (filter, per_second, sent_at)
           values ('{"reason":"broken"}', 1, now()) returning id`
        )
        // It waits for the outcome of a letter that is under way.
        await letter(service, { status: 'retrying', retry_id: rows[0].id, retried_at: new Date() })
        const path = `${letters}/retries/${rows[0].id}/stop`
        return {
          path,
          body: { why: 'enough' },
          target: `group retry ${rows[0].id}`,
          reason: 'enough'
        }
      },
      [`POST ${ops}/outbox/rows/{id}/discard`]: async () => {
        const id = await outboxRow(
          'outbox',
          'put_off, due_at',
          `'refused', now() + interval '1 day'`
        )
        const path = `${ops}/outbox/rows/${id}/discard`
        const body = { reason: 'nobody is there' }
        return { who: 'anna', path, body, target: `outbox row ${id}`, ...body }
      },
      [`POST ${ops}/outbox/scheduled/{id}/discard`]: async () => {
        const id = await outboxRow(
          'outbox_scheduled',
          'token, due_at',
          `'one', now() + interval '1 day'`
        )
        const path = `${ops}/outbox/scheduled/${id}/discard`
        const body = { reason: 'nobody is there' }
        return { who: 'anna', path, body, target: `outbox row ${id}`, ...body }
      },
      [`POST ${ops}/endpoint/pause`]: async () => ({
        body: { reason: 'a look' },
        target: `endpoint ${service}`,
        reason: 'a look'
      }),
      [`POST ${ops}/endpoint/resume`]: async () => ({ target: `endpoint ${service}` })
    }
  }
  return {
    ...ofService('order'),
    ...ofService('stock'),
    ...ofService('payment'),
    'POST /sagas/{sagaId}/retry': async () => {
      const orderId = await refusedRefund()
      await database.query(
        `update order_service.saga set state = 'Failed.releasingStock',
           value = '{"Failed":"releasingStock"}' where saga_id = $1`,
        [orderId]
      )
      return saga(orderId, 'retry?why=mended', { reason: 'mended' })
    },
    'POST /sagas/{sagaId}/cancel': async () =>
      saga(await waiting(), 'cancel', { body: { reason: 'a wish' }, reason: 'a wish' }),
    'POST /sagas/jobs': async () => ({
      body: { action: 'retry', filter: { ids: [GONE] }, reason: 'mended' },
      target: 'order saga job 1',
      reason: 'mended'
    }),
    'POST /sagas/jobs/{id}/stop': async () => {
      const { rows } = await database.query(
        `with job as (
           insert into order_service.saga_job (saga, action, filter, reason, stop_after_failures, at_least)
           values ('order', 'retry', '{}', 'mended', 1, false) returning id
         )
         insert into order_service.saga_job_item (job_id, saga_id, outcome, state, at)
         select id, $1, 'underWay', 'Suspend.reservingStock', now() from job returning job_id as id`,
        [await waiting()]
      )
      const [{ id }] = rows
      const path = `/sagas/jobs/${id}/stop`
      return { path, body: { reason: 'enough' }, target: `order saga job ${id}`, reason: 'enough' }
    },
    'POST /sagas/{sagaId}/answer': async () => {
      const body = { event: 'StockNotReservedEvent', body: { reason: 'Gone' }, reason: 'none left' }
      return saga(await waiting(), 'answer', { body, reason: 'none left' })
    },
    'POST /sagas/{sagaId}/migrate': async () => {
      const orderId = await waiting()
      const { body } = await ask('vera', 'GET', `/sagas/${orderId}`)
      const moved = { state: body.state, version: body.version, reason: 'a try' }
      return saga(orderId, 'migrate', { who: 'anna', body: moved, reason: 'a try' })
    },
    'POST /sagas/{sagaId}/drop-deferred': async () => {
      const orderId = await waiting()
      await database.query(`update order_service.saga set deferred = $2 where saga_id = $1`, [
        orderId,
        JSON.stringify([{ event: { type: 'PaymentFailedEvent' }, messageId: null, headers: {} }])
      ])
      const body = { event: 'PaymentFailedEvent', reason: 'never' }
      return saga(orderId, 'drop-deferred', { who: 'anna', body, reason: 'never' })
    },
    'POST /orders/{orderId}/cancel': async () => {
      const orderId = await waiting()
      return { who: 'carl', path: `/orders/${orderId}/cancel`, target: `order ${orderId}` }
    },
    'POST /payments/{orderId}/settle': async () => {
      const orderId = await refusedRefund()
      const body = { outcome: 'kept', amount: 1000, reason: 'Lost' }
      const path = `/payments/${orderId}/settle`
      return { who: 'carl', path, body, target: `payment ${orderId}`, reason: 'Lost' }
    },
    'POST /payments/{orderId}/retry': async () => {
      const orderId = await refusedRefund()
      return { who: 'carl', path: `/payments/${orderId}/retry`, target: `payment ${orderId}` }
    },
    'PUT /products/{productId}': async () => ({
      who: 'carl',
      path: '/products/bulb',
      body: PRODUCT,
      target: 'product bulb'
    }),
    'PATCH /products/{productId}': async () => ({
      who: 'carl',
      path: '/products/lamp',
      body: { name: 'A lamp' },
      target: 'product lamp'
    }),
    'POST /products/{productId}/restock': async () => ({
      who: 'carl',
      path: '/products/lamp/restock',
      body: { quantity: 1 },
      target: 'product lamp'
    })
  }
}

/** No saga with effects runs there. */
const CANNOT = [
  'POST /ops/stock/dead-letters/{id}/undo',
  'POST /ops/payment/dead-letters/{id}/undo'
]

t.test('every route that changes something writes who did it', async (t) => {
  const shop = await open(t)
  const { ask, all } = shop
  t.equal((await ask('carl', 'PUT', '/products/lamp', PRODUCT)).status, 201)
  const changes = changesOf(shop)
  const routes = routesOf((await ask('anna', 'GET', '/openapi.json')).body)
  const audited = routes.filter(({ isAudited }) => isAudited)
  t.same(
    routes.filter(({ method, isAudited }) => method !== 'GET' && !isAudited),
    [{ ...routes.find(({ method, path }) => method === 'POST' && path === '/orders') }],
    'but for orders, which have an owner'
  )
  t.ok(audited.length >= 35)
  for (const { method, path, template, permission } of audited) {
    const route = `${method} ${template}`
    if (CANNOT.includes(route)) continue
    const prepare = changes[route]
    if (!prepare) {
      t.fail(`${route} changes something, and this test does not know how to ask it`)
      continue
    }
    const change = await prepare()
    const before = (await all()).map(({ id, target, at }) => `${id} ${target} ${Number(at)}`)
    const who = change.who ?? 'otto'
    const answer = await ask(who, method, change.path ?? path, change.body)
    t.ok(answer.status >= 200 && answer.status < 300, `${route}: ${answer.status} ${answer.text}`)
    const more = (await all()).filter(
      ({ id, target, at }) => !before.includes(`${id} ${target} ${Number(at)}`)
    )
    t.match(
      more,
      [
        {
          actor: who,
          kind: 'key',
          action: permission,
          target: change.target,
          reason: change.reason ?? null,
          outcome: 'done',
          status: answer.status,
          times: 1,
          request_id: /^req-/
        }
      ],
      route
    )
    t.equal(more.length, 1, `${route}: once`)
  }
})

t.test('what is refused is written, and a flood of it costs few rows', async (t) => {
  const { ask, api, refused, rowsOf, letter } = await open(t)
  const id = await letter('stock')
  const path = `/ops/stock/dead-letters/${id}`
  t.equal((await ask('otto', 'DELETE', `${path}?why=spam`)).status, 403)
  t.equal((await ask('anna', 'DELETE', path)).status, 400, 'no reason')
  t.equal((await ask('otto', 'POST', '/ops/stock/dead-letters/4711/retry')).status, 404)
  t.equal((await ask('vera', 'GET', '/ops/stock/audit')).status, 403, 'reading changes nothing')
  const each = await refused('stock', 3)
  // Each is written by itself.
  t.match(
    each.toSorted((a, b) => a.status - b.status),
    [
      { actor: 'anna', status: 400, reason: /why/ },
      {
        actor: 'otto',
        roles: ['operator'],
        action: 'letter:delete',
        target: `dead letter ${id}`,
        reason: /^otto is operator, and letter:delete is for admin$/,
        status: 403
      },
      { actor: 'otto', status: 404, target: 'dead letter 4711' }
    ]
  )

  const flood = Array.from({ length: 100 }, () => api.call('DELETE', `${path}?why=spam`))
  for (const { status } of await Promise.all(flood)) t.equal(status, 401)
  t.equal((await ask('otto', 'DELETE', `${path}?why=spam`)).status, 403)
  const rows = await refused('stock', 104)
  t.equal(rows.filter(({ kind }) => kind === 'anonymous').length, 10)
  t.match(
    rows.filter(({ kind }) => kind === 'several'),
    [{ actor: 'anonymous', times: 90, reason: '90 more in 10 s' }]
  )
  t.match(rows.filter(({ status }) => status === 403).length, 2, 'who is known is not crowded out')
  t.same(await rowsOf('order'), [], 'orders of others are not concerned')
})

t.test(
  'what is rolled back leaves no row, and what cannot be written down is not done',
  async (t) => {
    const { ask, database, letter, rowsOf } = await open(t)
    const id = await letter('stock')
    const path = `/ops/stock/dead-letters/${id}?why=spam`
    await database.query(`
    create function stock_service.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'not now'; end $$;
    create constraint trigger refuse after insert on stock_service.dead_letter_deleted
      deferrable initially deferred for each row execute function stock_service.refuse()`)
    t.equal((await ask('anna', 'DELETE', path)).status, 500)
    t.same(await rowsOf('stock'), [], 'failed at the commit')
    await database.query(`
    drop trigger refuse on stock_service.dead_letter_deleted;
    create trigger refuse before insert on stock_service.audit
      for each row execute function stock_service.refuse()`)
    t.equal((await ask('anna', 'DELETE', path)).status, 500)
    t.equal((await ask('otto', 'POST', '/ops/stock/endpoint/pause', { reason: 'x' })).status, 500)
    t.match((await ask('vera', 'GET', '/ops/stock/endpoint')).body, { status: 'running' })
    t.equal((await ask('carl', 'PUT', '/products/lamp', PRODUCT)).status, 500)
    t.equal((await ask('carl', 'GET', '/products/lamp')).status, 404)
    await database.query('drop trigger refuse on stock_service.audit')
    t.equal((await ask('anna', 'DELETE', path)).status, 204, 'it was still there')
    t.match(await rowsOf('stock'), [{ outcome: 'done', status: 204 }])
  }
)

t.test('the audit is read by page and filter, exported, and deleted when it is old', async (t) => {
  const { ask, database, letter, system } = await open(t)
  const ids = []
  for (let index = 0; index < 5; index++) ids.push(await letter('stock'))
  for (const id of ids) await ask('anna', 'DELETE', `/ops/stock/dead-letters/${id}?why=spam`)
  await ask('otto', 'POST', `/ops/stock/dead-letters/deleted/${ids[0]}/restore`)
  const audit = '/ops/stock/audit'
  const first = await ask('anna', 'GET', `${audit}?limit=4`)
  t.match(first.body.items, [{ actor: 'otto', action: 'letter:restore', reason: null }, {}, {}, {}])
  const rest = await ask('anna', 'GET', `${audit}?limit=4&cursor=${first.body.nextCursor}`)
  t.equal(rest.body.items.length, 2)
  t.equal(rest.body.nextCursor, null)
  const seen = [...first.body.items, ...rest.body.items].map(({ id }: { id: string }) => id)
  t.equal(new Set(seen).size, 6)
  for (const [query, count] of [
    ['actor=anna', 5],
    ['action=letter:restore', 1],
    [`target=dead%20letter%20${ids[0]}`, 2],
    [`actor=anna&target=dead%20letter%20${ids[0]}`, 1],
    ['from=2000-01-01T00:00:00Z', 6],
    ['to=2000-01-01T00:00:00Z', 0]
  ] as const)
    t.equal((await ask('anna', 'GET', `${audit}?${query}`)).body.items.length, count, query)
  for (const query of ['cursor=x', 'from=yesterday', 'colour=red', 'limit=0'])
    t.equal((await ask('anna', 'GET', `${audit}?${query}`)).status, 400, query)

  await database.query(`
    insert into stock_service.audit
      (at, actor, kind, roles, action, target, outcome, status, request_id)
    select now() - days * interval '1 day', 'old', 'key', '{}', 'x', '', outcome, 200, ''
    from unnest(array[29, 31, 364, 366]) as days, unnest(array['done', 'refused']) as outcome`)
  await database.query(`
    insert into stock_service.audit (actor, kind, roles, action, target, outcome, status, request_id)
    select 'many', 'key', '{}', 'x', '', 'done', 200, '' from generate_series(1, 1200)`)
  const exported = await ask('anna', 'GET', `${audit}/export?actor=many`)
  t.match(exported.headers.get('content-type'), /ndjson/)
  const lines = exported.text.trim().split('\n')
  t.equal(new Set(lines.map((line) => JSON.parse(line).id)).size, 1200)
  await new OldRowsCleaner(system.service('stock').database, OLD_AUDIT_ROWS, testLog).runOnce()
  const { rows: kept } = await database.query(
    `select outcome, now()::date - at::date as days from stock_service.audit where actor = 'old' order by at, outcome`
  )
  t.same(kept, [
    { outcome: 'done', days: 364 },
    { outcome: 'done', days: 31 },
    { outcome: 'done', days: 29 },
    { outcome: 'refused', days: 29 }
  ])
})

t.test("a saga's history names who moved it", async (t) => {
  const { ask, place } = await open(t)
  await ask('carl', 'PUT', '/products/lamp', PRODUCT)
  await ask('otto', 'POST', '/ops/stock/endpoint/pause', { reason: 'for the test' })
  const orderId = await place()
  const body = { event: 'StockNotReservedEvent', body: { reason: 'Gone' }, reason: 'none left' }
  t.equal((await ask('otto', 'POST', `/sagas/${orderId}/answer`, body)).status, 200)
  t.match((await ask('vera', 'GET', `/sagas/${orderId}`)).body.history.at(-1), {
    event: 'StockNotReservedEvent',
    note: 'by hand, otto: none left'
  })
  t.match((await ask('vera', 'GET', `/sagas/${orderId}/replay`)).body, { consistent: true })
})
