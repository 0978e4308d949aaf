import t, { type Test } from 'tap'
import { GatedTransport } from '../support/gated-transport.ts'
import { randomBy } from '../faults/fault.ts'
import { shopTopology } from '../../src/shop.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import type { Answer, Api } from '../support/api.ts'
import { startSystem, watched } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

const NAMED = { name: 'Keyboard', unitPrice: 1000, currency: 'EUR' }
const path = (productId: string) => `/products/${productId}`
const etagOf = ({ headers }: Answer) => headers.get('etag')!
const ifMatch = (etag: string) => ({ 'if-match': etag })

async function openShop(t: Test) {
  let gate!: GatedTransport
  const running = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  const quiet = () => settled(watched(running.system, gate))
  return { ...running, gate, quiet, stock: running.system.service('stock').database }
}

t.test('the units of a product that is there are replaced by who has read them', async (t) => {
  const { api, gate, quiet, stock } = await openShop(t)
  const put = (body: object, headers?: Record<string, string>, productId = 'keyboard') =>
    api.call('PUT', path(productId), body, headers)

  await t.test('the example: a price that is changed while 8 of 10 are sold', async (t) => {
    const created = await put({ ...NAMED, onHand: 10 })
    t.match(created, { status: 201, body: { onHand: 10 } })
    await api.settled(await api.placeOrder({ items: [{ productId: 'keyboard', quantity: 8 }] }))
    t.match(await put({ ...NAMED, unitPrice: 900, onHand: 10 }), {
      status: 428,
      body: { detail: /say which version/, errors: [{ field: 'If-Match', expected: /ETag/ }] }
    })
    t.match(await put({ ...NAMED, unitPrice: 900, onHand: 10 }, ifMatch(etagOf(created))), {
      status: 412,
      body: { detail: /2 units on hand now/, errors: [{ field: 'If-Match' }] }
    })
    t.match(await put({ ...NAMED, unitPrice: 900 }), {
      status: 200,
      body: { unitPrice: 900, onHand: 2, reserved: 8 }
    })
    t.match(await api.call('PATCH', path('keyboard'), { unitPrice: 800 }), {
      status: 200,
      body: { name: 'Keyboard', unitPrice: 800, onHand: 2, reserved: 8 }
    })
  })

  await t.test('an ETag names what was read, and is good once', async (t) => {
    const read = await api.call('GET', path('keyboard'))
    const replaced = await put({ ...NAMED, onHand: 5 }, ifMatch(etagOf(read)))
    t.match(replaced, { status: 200, body: { onHand: 5, reserved: 8 } })
    t.match(await put({ ...NAMED, onHand: 5 }, ifMatch(etagOf(read))), { status: 412 })
    t.equal(etagOf(await api.call('GET', path('keyboard'))), etagOf(replaced))
    for (const change of [
      () => api.call('POST', '/products/keyboard/restock', { quantity: 1 }),
      () => api.call('PATCH', path('keyboard'), { name: 'Other' }),
      () => put(NAMED)
    ]) {
      const before = etagOf(await api.call('GET', path('keyboard')))
      const changed = await change()
      t.equal(changed.status, 200)
      t.not(etagOf(changed), before, 'another version')
      t.match(await put({ ...NAMED, onHand: 1 }, ifMatch(before)), { status: 412 })
    }
    const now = etagOf(await api.call('GET', path('keyboard')))
    t.match(
      await put({ ...NAMED, onHand: 6 }, ifMatch(`"gone", W/${now}`)),
      { status: 200 },
      'one of a list, weak by a proxy'
    )
    t.match(
      await api.call('PATCH', path('keyboard'), { unitPrice: 1 }, ifMatch(now)),
      { status: 412 },
      'who names a version is held to it'
    )
    t.match(await put(NAMED, ifMatch(now)), { status: 412 })
  })

  await t.test('whatever fits everything is no version', async (t) => {
    for (const header of ['*', '5', '"5', '', '"1",', 'W/5']) {
      t.match(
        await put({ ...NAMED, onHand: 1 }, ifMatch(header)),
        { status: 400, body: { errors: [{ field: 'If-Match' }] } },
        header
      )
    }
    for (const header of ['"abc"', '"-1"', '"99999999999999999999"', '"1e1"', '""'])
      t.match(await put({ ...NAMED, onHand: 1 }, ifMatch(header)), { status: 412 }, header)
  })

  await t.test('what is not there is created freely, and not replaced', async (t) => {
    t.match(await put(NAMED, {}, 'new'), { status: 400, body: { errors: [{ field: 'onHand' }] } })
    t.match(await put({ ...NAMED, onHand: 1 }, ifMatch('"0"'), 'new'), { status: 412 })
    t.match(await api.call('PATCH', path('new'), { unitPrice: 1 }), { status: 404 })
    t.match(await api.call('GET', path('new')), { status: 404 })
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, onHand) => put({ ...NAMED, onHand }, {}, 'new'))
    )
    t.same(
      answers.map(({ status }) => status).toSorted((a, b) => a - b),
      [201, ...Array.from({ length: 9 }, () => 428)],
      'made at once by ten, it is made once'
    )
    t.equal(
      (await api.get(path('new'))).onHand,
      answers.find(({ status }) => status === 201)!.body.onHand
    )
    t.same(
      await stock.rows(`select count(*)::integer as rows from products where product_id = 'new'`),
      [{ rows: 1 }]
    )
  })

  await t.test('PATCH changes no units', async (t) => {
    for (const body of [
      { onHand: 1 },
      { reserved: 0 },
      { version: 1 },
      {},
      [],
      null,
      { unitPrice: null }
    ])
      t.match(
        await api.call('PATCH', path('keyboard'), body),
        { status: 400 },
        JSON.stringify(body)
      )
  })

  await t.test('of ten who read the same, one writes', async (t) => {
    const etag = etagOf(await api.call('GET', path('keyboard')))
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        put({ ...NAMED, onHand: 100 + index }, ifMatch(etag))
      )
    )
    t.same(
      answers.map(({ status }) => status).toSorted((a, b) => a - b),
      [200, ...Array.from({ length: 9 }, () => 412)]
    )
  })

  await t.test('what is held goes back to a full shelf', async (t) => {
    await api.putProduct('bolt', 1_000_000_000, 0)
    gate.hold('payment', 'StockReservedEvent')
    const orderId = await api.placeOrder({ items: [{ productId: 'bolt', quantity: 5 }] })
    await until(
      'it is held',
      async () => (await api.call('GET', `/reservations/${orderId}`)).status === 200
    )
    t.match(await api.call('POST', '/products/bolt/restock', { quantity: 5 }), {
      status: 200,
      body: { onHand: 1_000_000_000 }
    })
    t.match(await api.call('POST', `/orders/${orderId}/cancel`), { status: 202 })
    await api.settled(orderId)
    gate.release('payment', 'StockReservedEvent')
    t.match(await api.get(path('bolt')), { onHand: 1_000_000_005, reserved: 0 })
    t.match(await api.call('POST', '/products/bolt/restock', { quantity: 1 }), {
      status: 409,
      body: { errors: [{ expected: 'must be at most 0' }] }
    })
    t.match(await api.call('PATCH', path('bolt'), { unitPrice: 1 }), { status: 200 })
    await quiet()
  })

  await t.test('a product that somebody deleted, or made anew, holds nobody up', async (t) => {
    for (const productId of ['gone', 'anew', 'dear', 'near']) await api.putProduct(productId, 10)
    gate.hold('payment', 'StockReservedEvent')
    const orders = await Promise.all(
      ['gone', 'anew', 'near'].map((productId) =>
        api.placeOrder({ items: [{ productId, quantity: 4 }] })
      )
    )
    for (const orderId of orders)
      await until(
        'it is held',
        async () => (await api.call('GET', `/reservations/${orderId}`)).status === 200
      )
    await stock.rows(`delete from products where product_id in ('gone', 'anew')`)
    await api.putProduct('anew', 10)
    await stock.rows(`update products set unit_price = 9007199254740993 where product_id = 'dear'`)
    const more = [
      await api.placeOrder({ items: [{ productId: 'gone', quantity: 1 }] }),
      await api.placeOrder({ items: [{ productId: 'dear', quantity: 1 }] })
    ]
    for (const orderId of orders)
      t.match(await api.call('POST', `/orders/${orderId}/cancel`), { status: 202 })
    for (const orderId of [...orders, ...more])
      t.match(await api.settled(orderId), { state: 'Failed.settled' })
    gate.release('payment', 'StockReservedEvent')
    t.same(
      await Promise.all(
        more.map(async (orderId) => (await api.get(`/orders/${orderId}`)).failureReason)
      ),
      ['UnknownProduct', 'TotalTooLarge']
    )
    t.match(await api.get(path('anew')), { onHand: 10, reserved: 0 }, 'it never held them')
    t.match(await api.get(path('near')), { onHand: 10, reserved: 0 })
    t.same((await api.get('/ops/stock/dead-letters')).items, [])
    await quiet()
  })

  await t.test(
    'a restock’s key names it for ever, also of a product that was made anew',
    async (t) => {
      const restock = () =>
        api.call(
          'POST',
          '/products/brief/restock',
          { quantity: 3 },
          { 'idempotency-key': 'delivery-9' }
        )
      await api.putProduct('brief', 1)
      t.match(await restock(), { status: 200, body: { onHand: 4 } })
      await stock.rows(`delete from products where product_id = 'brief'`)
      t.match(await restock(), { status: 404 })
      await api.putProduct('brief', 1)
      const again = await restock()
      t.match(again, { status: 200, body: { onHand: 1 } })
      t.equal(again.headers.get('idempotent-replayed'), 'true')
    }
  )
})

/** Whoever looks after one product through the API; each notes what it has put in. */
class Keeper {
  /** Units put in less those taken out, by what was answered. */
  putIn = 0
  readonly #api: Api
  readonly #random: () => number

  constructor(api: Api, random: () => number) {
    this.#api = api
    this.#random = random
  }

  async work(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round++) await this.#step()
  }

  async #step(): Promise<void> {
    const pick = this.#random()
    const amount = Math.floor(this.#random() * 8)
    if (pick < 0.3) return this.#restock(amount + 1)
    if (pick < 0.45)
      return void (await this.#expect(
        [200],
        await this.#api.call('PATCH', path('thing'), { unitPrice: 500 + amount })
      ))
    if (pick < 0.6)
      return void (await this.#expect(
        [200],
        await this.#api.call('PUT', path('thing'), { ...NAMED, unitPrice: 500 + amount })
      ))
    // What a form does: reads, waits for somebody, writes what was read and a bit more.
    const read = await this.#api.call('GET', path('thing'))
    const onHand = Math.max(0, read.body.onHand + amount - 3)
    if (pick < 0.7)
      return void (await this.#expect(
        [428],
        await this.#api.call('PUT', path('thing'), { ...NAMED, onHand })
      ))
    const answer = await this.#expect(
      [200, 412],
      await this.#api.call('PUT', path('thing'), { ...NAMED, onHand }, ifMatch(etagOf(read)))
    )
    if (answer.status === 200) this.putIn += onHand - read.body.onHand
  }

  async #restock(quantity: number): Promise<void> {
    await this.#expect([200], await this.#api.call('POST', '/products/thing/restock', { quantity }))
    this.putIn += quantity
  }

  async #expect(expected: number[], answer: Answer): Promise<Answer> {
    if (!expected.includes(answer.status))
      throw new Error(`Expected ${expected.join(' or ')}, and got ${answer.status}: ${answer.text}`)
    return answer
  }
}

t.test('stock is not oversold by any interleaving of the routes', async (t) => {
  const { api, stock, quiet } = await openShop(t)
  const methods = ['pm_card_visa', 'pm_card_visa', 'pm_card_chargeDeclined', 'pm_sim_answers_twice']
  for (const seed of [1, 2, 3]) {
    const random = randomBy(seed)
    await stock.rows(`delete from products where product_id = 'thing'`)
    await stock.rows(`delete from reservations; delete from reservation_lines`)
    await api.putProduct('thing', 20)
    const keepers = Array.from({ length: 4 }, () => new Keeper(api, random))
    const customer = async () => {
      for (let round = 0; round < 10; round++) {
        const orderId = await api.placeOrder({
          items: [{ productId: 'thing', quantity: 1 + Math.floor(random() * 3) }],
          paymentMethod: methods[Math.floor(random() * methods.length)]!
        })
        if (random() < 0.2) await api.call('POST', `/orders/${orderId}/cancel`)
      }
    }
    await Promise.all([
      ...keepers.map((keeper) => keeper.work(25)),
      customer(),
      customer(),
      customer()
    ])
    await quiet()
    const { onHand, reserved } = await api.get(path('thing'))
    const [{ sold }] = await stock.rows(
      `
        select coalesce(sum(quantity), 0)::integer as sold from reservation_lines
          join reservations using (order_id) where status = 'Reserved'
          and reservation_lines.product_id = 'thing'`
    )
    const putIn = keepers.reduce((sum, keeper) => sum + keeper.putIn, 20)
    t.same(
      { total: onHand + reserved, reserved },
      { total: putIn, reserved: sold },
      `seed ${seed}: put in = on hand + sold`
    )
    t.ok(sold > 0 && onHand >= 0, `seed ${seed}: ${sold} of ${putIn} were sold`)
  }
})
