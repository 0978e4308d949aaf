import pg from 'pg'
import t, { type Test } from 'tap'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import type { Api, OrderRequest } from '../support/api.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

for (const transport of ['memory', 'rabbitmq'] as const) {
  t.test(`${transport}: customers at once`, async (t) => {
    const { api, databaseUrl } = await startSystem(t, transport)
    const database = await connect(t, databaseUrl)

    await t.test('200 orders for 100 units: 100 are sold', async (t) => {
      await api.putProduct('keyboard', 100)
      const watched = watch(database, 'keyboard', 100)
      const orderIds = await placeAll(
        [api],
        Array.from({ length: 200 }, () => ({}))
      )
      await allEnded(api)
      t.same(await watched.stop(), [], 'at no time was a unit too many or too few')
      const orders = await ordersOf(database, orderIds)
      t.equal(orders.filter(({ status }) => status === 'Completed').length, 100)
      t.equal(orders.filter(({ reason }) => reason === 'OutOfStock').length, 100)
      t.match(await api.get('/products/keyboard'), { onHand: 0, reserved: 100 })
      t.equal(
        (
          await database.query(
            'select count(*)::integer from payment_service.payments where order_id = any($1)',
            [orderIds]
          )
        ).rows[0].count,
        100,
        'only who got a unit was asked to pay'
      )
      await allReplay(t, api, orderIds)
    })

    await t.test('what declined cards held is sold to others or goes back', async (t) => {
      await api.putProduct('mouse', 40)
      const watched = watch(database, 'mouse', 40)
      const requests = Array.from({ length: 150 }, (_, index) => ({
        items: [{ productId: 'mouse', quantity: 1 + (index % 2) }],
        paymentMethod: index % 3 === 0 ? 'pm_card_visa' : 'pm_card_chargeDeclined'
      }))
      const orderIds = await placeAll([api], requests)
      await allEnded(api)
      t.same(await watched.stop(), [], 'at no time was a unit too many or too few')
      const orders = await ordersOf(database, orderIds)
      const sold = orders
        .filter(({ status }) => status === 'Completed')
        .reduce((units, order) => units + Number(order.units), 0)
      t.ok(sold > 0)
      t.match(await api.get('/products/mouse'), { onHand: 40 - sold, reserved: sold })
      t.ok(
        orders.every(
          ({ paymentMethod, status }) => paymentMethod === 'pm_card_visa' || status === 'Failed'
        ),
        'who could not pay got nothing'
      )
      t.same(
        new Set(orders.map(({ reason }) => reason)),
        new Set([null, 'CardDeclined', 'OutOfStock'])
      )
      const { rows } = await database.query(
        'select status, count(*)::integer from stock_service.reservations where order_id = any($1) group by status',
        [orderIds]
      )
      const reservations = Object.fromEntries(rows.map(({ status, count }) => [status, count]))
      t.equal(
        reservations.Released,
        orders.filter(({ reason }) => reason === 'CardDeclined').length
      )
      t.equal(reservations.Reserved, orders.filter(({ status }) => status === 'Completed').length)
      await allReplay(t, api, orderIds)
    })
  })
}

t.test(
  'two of each service, and orders that take the same products in opposite order',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase()
    const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
    const systems = [
      await startSystem(t, 'rabbitmq', { databaseUrl, rabbitmqUrl }),
      await startSystem(t, 'rabbitmq', { databaseUrl, rabbitmqUrl })
    ]
    const apis = systems.map(({ api }) => api)
    const database = await connect(t, databaseUrl)
    const onHand = 300
    for (const productId of ['a', 'b', 'c']) await apis[0]!.putProduct(productId, onHand)
    const watched = watch(database, 'a', onHand)
    const orderings = [
      ['a', 'b', 'c'],
      ['c', 'b', 'a'],
      ['b', 'a'],
      ['a', 'b']
    ]
    const requests = Array.from({ length: 400 }, (_, index) => ({
      items: orderings[index % orderings.length]!.map((productId) => ({ productId, quantity: 1 })),
      paymentMethod: index % 5 === 0 ? 'pm_card_chargeDeclined' : 'pm_card_visa'
    }))
    const orderIds = await placeAll(apis, requests)
    await allEnded(apis[1]!)
    t.same(await watched.stop(), [], 'at no time was a unit too many or too few')
    const orders = await ordersOf(database, orderIds)
    t.equal(orders.length, 400)
    for (const productId of ['a', 'b', 'c']) {
      const { rows } = await database.query(
        `
          select coalesce(sum(quantity), 0)::integer as sold from order_service.orders
            join order_service.order_lines using (order_id) where status = 'Completed'
            and product_id = $1`,
        [productId]
      )
      t.match(await apis[0]!.get(`/products/${productId}`), {
        onHand: onHand - rows[0].sold,
        reserved: rows[0].sold
      })
    }
    const { rows: twice } = await database.query(`
    select order_id from payment_service.payments
      join order_service.saga_history on saga_id = order_id and event = 'PaymentCompletedEvent'
    group by order_id having count(distinct message_id) > 1`)
    // One that overtook stock's price stands there twice: deferred, and then taken.
    t.same(twice, [], 'nobody paid twice')
    for (const service of ['order', 'stock', 'payment'])
      await until(
        `the outbox of ${service} is empty`,
        async () => (await apis[0]!.get(`/ops/${service}/outbox`)).pending === 0
      )
    for (const service of ['order', 'stock', 'payment'])
      t.equal(
        (await database.query(`select count(*)::integer from ${service}_service.dead_letter`))
          .rows[0].count,
        0,
        `${service} buried nothing`
      )
    await allReplay(t, apis[0]!, orderIds)

    // A connection hands its numbers in at the latest when it closes.
    for (const { system } of systems) await system.stop()
    const { rows: others } = await until('their connections have closed', async () => {
      const found = await database.query(
        'select count(*)::integer as open from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()'
      )
      return found.rows[0].open === 0 && found
    })
    t.equal(others[0].open, 0)
    t.equal(
      (
        await database.query(
          'select deadlocks::integer from pg_stat_database where datname = current_database()'
        )
      ).rows[0].deadlocks,
      0
    )
  }
)

/** Places all orders at once, in turn on each address. */
function placeAll(apis: readonly Api[], requests: readonly OrderRequest[]): Promise<string[]> {
  return Promise.all(
    requests.map((request, index) => apis[index % apis.length]!.placeOrder(request))
  )
}

/** Waits until every order ever placed has ended and nothing is left to undo. */
function allEnded(api: Api): Promise<unknown> {
  return until('all orders have ended', async () => {
    const { byState } = await api.get('/sagas/summary')
    return Object.keys(byState).every(
      (state) => state === 'Completed' || state === 'Failed.settled'
    )
  })
}

async function allReplay(t: Test, api: Api, orderIds: readonly string[]): Promise<void> {
  const wrong: unknown[] = []
  const waiting = [...orderIds]
  const replay = async () => {
    for (let orderId = waiting.pop(); orderId; orderId = waiting.pop()) {
      const result = await api.get(`/sagas/${orderId}/replay`)
      if (!result.consistent) wrong.push(result)
    }
  }
  await Promise.all(Array.from({ length: 10 }, replay))
  t.same(wrong, [], 'every history replays to where its saga is')
}

interface EndedOrder {
  status: string
  reason: string | null
  paymentMethod: string
  units: string
}

async function ordersOf(database: pg.Client, orderIds: readonly string[]): Promise<EndedOrder[]> {
  const { rows } = await database.query<EndedOrder>(
    `select status, failure_reason as reason, payment_method as "paymentMethod", (select sum(quantity) from order_service.order_lines l where l.order_id = o.order_id) as units
     from order_service.orders o where order_id = any($1)`,
    [orderIds]
  )
  return rows
}

/**
 * Looks at a product again and again; stop() tells every time when its units were not what was put
 * in.
 */
function watch(database: pg.Client, productId: string, putIn: number) {
  let stopped = false
  const wrong: unknown[] = []
  const watching = until('the watch is over', async () => {
    const { rows } = await database.query(
      'select on_hand::float8 as "onHand", reserved::integer from stock_service.products where product_id = $1',
      [productId]
    )
    const { onHand, reserved } = rows[0]
    if (onHand < 0 || reserved < 0 || onHand + reserved !== putIn) wrong.push(rows[0])
    return stopped
  })
  return {
    async stop() {
      stopped = true
      await watching
      return wrong
    }
  }
}

async function connect(t: Test, databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  return client
}
