import pg from 'pg'
import t from 'tap'
import { postgresForTests } from '../support/postgres.ts'
import { startSystem } from '../support/system.ts'

/**
 * Whatever writes to the table meets a serialization failure, as often as the sequence says: it
 * does not roll back.
 */
const SPOIL = `
  create sequence public.failures;
  create function public.fail() returns trigger language plpgsql as $$
  begin
    if nextval('public.failures') < 0 then raise exception 'somebody was first' using errcode = '40001'; end if;
    return coalesce(new, old);
  end $$;
  alter sequence public.failures minvalue -100;
  create trigger fail before insert or update
    or delete on order_service.orders for each row execute function public.fail();
  create trigger fail before update on order_service.saga for each row execute function public.fail();
  create trigger fail before delete
    or update on order_service.dead_letter for each row execute function public.fail();
  create trigger fail before insert
    or update on stock_service.products for each row execute function public.fail();`

const PRODUCT = { name: 'Keyboard', unitPrice: 8900, currency: 'EUR', onHand: 10 }
const ORDER = {
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}

t.test('a request whose transaction has lost to another', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  // Of two systems, so that no event goes from one to the other: an order stays where the requests
  // have brought it.
  const { api: order } = await startSystem(t, 'memory', { services: ['order'], databaseUrl })
  const { api: stock } = await startSystem(t, 'memory', { services: ['stock'], databaseUrl })
  const database = new pg.Client({ connectionString: databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await database.query(SPOIL)
  const {
    rows: [letter]
  } = await database.query(
    `
      insert into order_service.dead_letter (endpoint, payload, exception, reason,
        fingerprint) values ('order', '', 'Error', '', '') returning id`
  )
  const failing = (times: number) =>
    database.query('select setval($1, $2, false)', ['public.failures', -times])
  await failing(0)
  const orderId = await order.placeOrder()

  const requests = [
    ['POST /orders', 202, () => order.call('POST', '/orders', ORDER)],
    ['POST /orders/:orderId/cancel', 202, () => order.call('POST', `/orders/${orderId}/cancel`)],
    ['POST /sagas/:sagaId/retry', 202, () => order.call('POST', `/sagas/${orderId}/retry`)],
    ['PUT /products/:productId', 201, () => stock.call('PUT', '/products/keyboard', PRODUCT)],
    [
      'POST /products/:productId/restock',
      200,
      () => stock.call('POST', '/products/keyboard/restock', { quantity: 1 })
    ],
    [
      'DELETE /ops/order/dead-letters/:id',
      204,
      () => order.call('DELETE', `/ops/order/dead-letters/${letter.id}?why=mended`)
    ]
  ] as const
  for (const [request, success, call] of requests) {
    await t.test(request, async (t) => {
      await failing(100)
      const { status, headers, body } = await call()
      t.match(
        { status, detail: body.detail, retryAfter: headers.get('retry-after') },
        { status: 503, detail: 'Others are changing the same thing; try again', retryAfter: '1' },
        'always: it is told to try again'
      )
      await failing(2)
      t.equal((await call()).status, success, 'twice: it does not show')
    })
  }
  t.equal((await stock.get('/products/keyboard')).onHand, 11, 'what was run again was done once')
})

t.test(
  'orders that cannot be taken because of a lock are refused in time, and are not taken later',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const { api } = await startSystem(t, 'memory', { services: ['order'], databaseUrl })
    const database = new pg.Client({ connectionString: databaseUrl })
    await database.connect()
    t.teardown(() => database.end())
    const place = (key: number) =>
      api.call('POST', '/orders', ORDER, { 'idempotency-key': `order-${key}` })
    await database.query('begin; lock table order_service.orders in exclusive mode')
    for (const { status, headers, body } of await Promise.all([1, 2, 3].map(place))) {
      t.match(
        { status, detail: body.detail, retryAfter: headers.get('retry-after') },
        { status: 503, detail: /^The order was not taken/, retryAfter: '1' }
      )
    }
    await database.query('commit')
    t.same((await api.get('/orders')).items, [])
    for (const { status, headers } of await Promise.all([1, 2, 3].map(place)))
      t.same([status, headers.get('idempotent-replayed')], [202, null])
  }
)
