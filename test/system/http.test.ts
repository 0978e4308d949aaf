import { Ajv2020 } from 'ajv/dist/2020.js'
import { STATUS_CODES } from 'node:http'
import { connect as connectTo } from 'node:net'
import { Readable } from 'node:stream'
import { text as textOf } from 'node:stream/consumers'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import type { Answer, Api } from '../support/api.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

const NOBODY = '01890000-0000-7000-8000-000000000000'
const ORDER = {
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const PRODUCT = { name: 'Keyboard', unitPrice: 8900, currency: 'EUR', onHand: 10 }
const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

t.test('what a client may get wrong', async (t) => {
  const { api, system, databaseUrl } = await startSystem(t, 'memory')
  const database = await connect(t, databaseUrl)
  await api.putProduct('keyboard', 10)
  /** Everything that a request could have written. */
  const written = async () =>
    (
      await database.query(`select (select count(*) from order_service.orders) as orders, (select count(*) from order_service.order_lines) as lines, (select count(*) from order_service.saga) as sagas,
      (select count(*) from order_service.outbox) as outbox, (select count(*) from order_service.idempotency_key) as keys, (select json_agg(p order by p.product_id) from stock_service.products p) as products`)
    ).rows[0]

  const item = (fields: object) => ({
    ...ORDER,
    items: [{ productId: 'keyboard', quantity: 1, ...fields }]
  })
  const badOrders: [what: string, body: unknown, field?: string][] = [
    ['quantity 0', item({ quantity: 0 }), 'items[0].quantity'],
    ['a negative quantity', item({ quantity: -1 }), 'items[0].quantity'],
    ['half a unit', item({ quantity: 0.5 }), 'items[0].quantity'],
    ['ten million units', item({ quantity: 1e7 }), 'items[0].quantity'],
    ['a quantity in quotes', item({ quantity: '5' }), 'items[0].quantity'],
    ['quantity true', item({ quantity: true }), 'items[0].quantity'],
    ['quantity null', item({ quantity: null }), 'items[0].quantity'],
    [
      'an item without quantity',
      { ...ORDER, items: [{ productId: 'keyboard' }] },
      'items[0].quantity'
    ],
    ['an item without product', { ...ORDER, items: [{ quantity: 1 }] }, 'items[0].productId'],
    [
      'the second item wrong',
      { ...ORDER, items: [...ORDER.items, { productId: 'keyboard', quantity: 0 }] },
      'items[1].quantity'
    ],
    ['an unknown field in an item', item({ price: 1 }), 'items[0].price'],
    [
      '__proto__ in an item',
      `{"customerId":"ada","items":[{"productId":"keyboard","quantity":1,"__proto__":{"quantity":1}}],"paymentMethod":"pm_card_visa"}`
    ],
    ['no items', { ...ORDER, items: [] }, 'items'],
    ['101 items', { ...ORDER, items: Array.from({ length: 101 }, () => ORDER.items[0]) }, 'items'],
    ['items that are no list', { ...ORDER, items: ORDER.items[0] }, 'items'],
    ['items null', { ...ORDER, items: null }, 'items'],
    ['an item that is no object', { ...ORDER, items: ['keyboard'] }, 'items[0]'],
    ['an empty productId', item({ productId: '' }), 'items[0].productId'],
    ['a number for productId', item({ productId: 7 }), 'items[0].productId'],
    ['a NUL in productId', item({ productId: 'key\0board' }), 'items[0].productId'],
    ['a line break in productId', item({ productId: 'keyboard\n' }), 'items[0].productId'],
    ['a path in productId', item({ productId: '../keyboard' }), 'items[0].productId'],
    ['a productId of 65 characters', item({ productId: 'k'.repeat(65) }), 'items[0].productId'],
    ['no customerId', { ...ORDER, customerId: undefined }, 'customerId'],
    ['customerId null', { ...ORDER, customerId: null }, 'customerId'],
    ['a NUL in customerId', { ...ORDER, customerId: 'a\0da' }, 'customerId'],
    ['an escape sequence in customerId', { ...ORDER, customerId: '\u001b[31mada' }, 'customerId'],
    ['no paymentMethod', { ...ORDER, paymentMethod: undefined }, 'paymentMethod'],
    ['an unknown paymentMethod', { ...ORDER, paymentMethod: 'pm_card_unheardOf' }, 'paymentMethod'],
    [
      'paymentMethod named like a property of every object',
      { ...ORDER, paymentMethod: 'constructor' },
      'paymentMethod'
    ],
    ['a negative expectedTotal', { ...ORDER, expectedTotal: -1 }, 'expectedTotal'],
    ['expectedTotal in a fraction', { ...ORDER, expectedTotal: 10.5 }, 'expectedTotal'],
    ['expectedTotal in quotes', { ...ORDER, expectedTotal: '1000' }, 'expectedTotal'],
    ['expectedTotal beyond exact integers', { ...ORDER, expectedTotal: 2 ** 53 }, 'expectedTotal'],
    ['an unknown field', { ...ORDER, total: 1 }, 'total'],
    ['an orderId of its own', { ...ORDER, orderId: NOBODY }, 'orderId'],
    [
      '__proto__',
      `{"__proto__":{"customerId":"ada"},"items":[{"productId":"keyboard","quantity":1}],"paymentMethod":"pm_card_visa"}`
    ],
    [
      'constructor.prototype',
      `{"constructor":{"prototype":{}},"customerId":"ada","items":[{"productId":"keyboard","quantity":1}],"paymentMethod":"pm_card_visa"}`
    ],
    ['malformed JSON', '{"customerId":"ada",'],
    ['two JSON documents', `${JSON.stringify(ORDER)}${JSON.stringify(ORDER)}`],
    ['an empty body', ''],
    ['null', 'null', 'body'],
    ['a list', [ORDER], 'body'],
    ['a text', '"order"', 'body']
  ]
  for (const [what, body, field] of badOrders) {
    await t.test(`an order with ${what}`, async (t) => {
      const before = await written()
      isProblem(
        t,
        await api.call('POST', '/orders', body, { 'idempotency-key': 'not-used-up' }),
        400,
        field
      )
      t.same(await written(), before, 'nothing is written')
    })
  }

  const badProducts: [what: string, body: unknown, field: string][] = [
    ['no name', { ...PRODUCT, name: undefined }, 'name'],
    ['an empty name', { ...PRODUCT, name: '' }, 'name'],
    ['a NUL in the name', { ...PRODUCT, name: 'Key\0board' }, 'name'],
    ['a line break in the name', { ...PRODUCT, name: 'Key\nboard' }, 'name'],
    ['a name of 201 characters', { ...PRODUCT, name: 'k'.repeat(201) }, 'name'],
    ['a negative price', { ...PRODUCT, unitPrice: -1 }, 'unitPrice'],
    ['a price in a fraction', { ...PRODUCT, unitPrice: 89.5 }, 'unitPrice'],
    ['a price in quotes', { ...PRODUCT, unitPrice: '8900' }, 'unitPrice'],
    ['no currency', { ...PRODUCT, currency: undefined }, 'currency'],
    ['a currency in small letters', { ...PRODUCT, currency: 'eur' }, 'currency'],
    ['a negative onHand', { ...PRODUCT, onHand: -1 }, 'onHand'],
    ['onHand beyond what is kept', { ...PRODUCT, onHand: 1e9 + 1 }, 'onHand'],
    ['a reserved of its own', { ...PRODUCT, reserved: 0 }, 'reserved']
  ]
  for (const [what, body, field] of badProducts) {
    await t.test(`a product with ${what}`, async (t) => {
      const before = await written()
      isProblem(t, await api.call('PUT', '/products/keyboard', body), 400, field)
      isProblem(t, await api.call('PUT', '/products/new', body), 400, field)
      t.same(await written(), before, 'nothing is written')
    })
  }

  for (const quantity of [0, -1, 0.5, '5', null, 1e6 + 1]) {
    await t.test(`a restock by ${JSON.stringify(quantity)}`, async (t) => {
      const before = await written()
      isProblem(
        t,
        await api.call('POST', '/products/keyboard/restock', { quantity }),
        400,
        'quantity'
      )
      t.same(await written(), before, 'nothing is written')
    })
  }

  await t.test('a product whose id is none', async (t) => {
    for (const id of ['-dash', 'a%20b', 'a%00b', 'a%2Fb', 'k'.repeat(65), '%C3%A9']) {
      isProblem(t, await api.call('PUT', `/products/${id}`, PRODUCT), 400, 'productId')
      isProblem(t, await api.call('GET', `/products/${id}`), 400, 'productId')
      isProblem(
        t,
        await api.call('POST', `/products/${id}/restock`, { quantity: 1 }),
        400,
        'productId'
      )
    }
  })

  await t.test('an id that is no UUID', async (t) => {
    for (const id of [
      '1',
      'keyboard',
      NOBODY.slice(1),
      `${NOBODY}0`,
      `urn:uuid:${NOBODY}`,
      `%7B${NOBODY}%7D`,
      NOBODY.replaceAll('-', ''),
      `${NOBODY}%00`,
      `${NOBODY}%0A`,
      "'%20or%201=1"
    ]) {
      for (const [path, field] of [
        [`/orders/${id}`, 'orderId'],
        [`/sagas/${id}`, 'sagaId'],
        [`/sagas/${id}/replay`, 'sagaId'],
        [`/reservations/${id}`, 'orderId'],
        [`/payments/${id}`, 'orderId']
      ] as const) {
        isProblem(t, await api.call('GET', path), 400, field)
      }
    }
  })

  await t.test('an id that nothing has', async (t) => {
    for (const path of [
      `/orders/${NOBODY}`,
      `/sagas/${NOBODY}`,
      `/sagas/${NOBODY}/replay`,
      `/reservations/${NOBODY}`,
      `/payments/${NOBODY}`,
      '/products/unheard-of'
    ]) {
      isProblem(t, await api.call('GET', path), 404)
    }
    isProblem(t, await api.call('POST', '/products/unheard-of/restock', { quantity: 1 }), 404)
  })

  const badQueries: [query: string, field: string][] = [
    ['limit=0', 'limit'],
    ['limit=-1', 'limit'],
    ['limit=101', 'limit'],
    ['limit=', 'limit'],
    ['limit=ten', 'limit'],
    ['limit=1&limit=2', 'limit'],
    ['cursor=', 'cursor'],
    ['cursor=abc', 'cursor'],
    ['cursor=%00', 'cursor'],
    [`cursor=${'a'.repeat(201)}`, 'cursor'],
    [`cursor=${Buffer.from("' or 1=1").toString('base64url')}`, 'cursor'],
    ['page=2', 'page'],
    ['__proto__=1', '__proto__'],
    ['constructor=1', 'constructor']
  ]
  await t.test('a query that a list does not know', async (t) => {
    for (const list of ['/orders', '/sagas', '/products'])
      for (const [query, field] of badQueries)
        isProblem(t, await api.call('GET', `${list}?${query}`), 400, field)
    for (const status of [
      'completed',
      '',
      'Suspend.reservingStock',
      'toString',
      'Completed&status=Failed'
    ])
      isProblem(t, await api.call('GET', `/orders?status=${status}`), 400, 'status')
    for (const state of ['settled', '', 'Failed.', 'Suspend.settled', 'Completed&state=Failed'])
      isProblem(t, await api.call('GET', `/sagas?state=${state}`), 400, 'state')
    isProblem(t, await api.call('GET', '/products?status=Completed'), 400, 'status')
    isProblem(t, await api.call('GET', '/orders?state=Completed'), 400, 'state')
  })

  await t.test('what is no request to Node', async (t) => {
    for (const [status, text] of [
      [431, `GET / HTTP/1.1\r\nhost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`],
      [400, 'HELO there\r\n\r\n']
    ] as const) {
      const socket = connectTo(Number(new URL(system.url).port), '127.0.0.1')
      socket.end(text)
      const [, head, body] = /^(HTTP[^]*?)\r\n\r\n([^]*)$/.exec(await textOf(socket)) ?? []
      t.match(
        head,
        new RegExp(
          `^HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/problem\\+json\r\n`
        ),
        `${status}`
      )
      t.match(JSON.parse(body!), { title: STATUS_CODES[status], status, detail: /\S/ })
    }
  })

  await t.test('a cursor of another list', async (t) => {
    const cursor = Buffer.from('keyboard').toString('base64url')
    isProblem(t, await api.call('GET', `/orders?cursor=${cursor}`), 400, 'cursor')
    isProblem(t, await api.call('GET', `/sagas?cursor=${cursor}`), 400, 'cursor')
  })

  await t.test('an Idempotency-Key that is none', async (t) => {
    const before = await written()
    for (const key of ['', 'two words', 'k'.repeat(256), 'clé', 'tab\tbed'])
      isProblem(
        t,
        await api.call('POST', '/orders', ORDER, { 'idempotency-key': key }),
        400,
        'idempotency-key'
      )
    t.same(await written(), before, 'nothing is written')
  })

  await t.test('a body that is too large, announced or not', async (t) => {
    const before = await written()
    const payload = JSON.stringify({ ...ORDER, padding: 'x'.repeat(1024 * 1024) })
    const headers = { 'content-type': 'application/json' }
    // Injected: over a socket the client may still be writing when the answer comes.
    for (const body of [payload, Readable.from([payload.slice(0, 100), payload.slice(100)])]) {
      const {
        statusCode,
        headers: answered,
        body: text
      } = await system.app.inject({ method: 'POST', url: '/orders', headers, payload: body })
      isProblem(
        t,
        {
          status: statusCode,
          headers: new Headers({ 'content-type': String(answered['content-type']) }),
          text,
          body: JSON.parse(text)
        },
        413
      )
    }
    t.same(await written(), before, 'nothing is written')
  })

  await t.test('a body that is no JSON by its content type', async (t) => {
    const before = await written()
    for (const type of [
      'application/xml',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'nonsense'
    ]) {
      isProblem(
        t,
        await api.call('POST', '/orders', JSON.stringify(ORDER), { 'content-type': type }),
        415
      )
      isProblem(
        t,
        await api.call('PUT', '/products/new', JSON.stringify(PRODUCT), { 'content-type': type }),
        415
      )
    }
    t.same(await written(), before, 'nothing is written')
  })

  await t.test('an address or a method that is not served', async (t) => {
    for (const [method, path] of [
      ['GET', '/nothing'],
      ['GET', '/orders/x/y'],
      ['DELETE', '/orders'],
      ['PUT', `/orders/${NOBODY}`],
      ['POST', '/products/keyboard'],
      ['DELETE', '/products/keyboard'],
      ['GET', '/ops/nobody/outbox'],
      ['GET', '/sagas/definitions/nothing'],
      ['POST', '/nothing']
    ] as const) {
      isProblem(t, await api.call(method, path, method === 'POST' ? {} : undefined), 404)
    }
  })
})

t.test('what an Idempotency-Key promises', async (t) => {
  const { api, databaseUrl } = await startSystem(t, 'memory')
  const database = await connect(t, databaseUrl)
  const count = async (customerId: string) =>
    Number(
      (
        await database.query('select count(*) from order_service.orders where customer_id = $1', [
          customerId
        ])
      ).rows[0].count
    )
  const place = (key: string, order: object) =>
    api.call('POST', '/orders', order, { 'idempotency-key': key })

  await t.test('the same key with the same order is one order, for ever', async (t) => {
    const order = { ...ORDER, customerId: 'same' }
    const first = await place('key-1', order)
    t.equal(first.status, 202)
    t.equal(first.headers.get('idempotent-replayed'), null)
    t.equal(first.headers.get('location'), `/orders/${first.body.orderId}`)
    await api.settled(first.body.orderId)
    const reordered = {
      paymentMethod: order.paymentMethod,
      items: [{ quantity: 1, productId: 'keyboard' }],
      customerId: 'same'
    }
    for (const again of [await place('key-1', order), await place('key-1', reordered)]) {
      t.equal(again.status, 202)
      t.same(again.body, first.body, 'the first answer')
      t.equal(again.headers.get('idempotent-replayed'), 'true')
      t.equal(again.headers.get('location'), `/orders/${first.body.orderId}`)
    }
    t.equal(await count('same'), 1)
  })

  await t.test('the same key with another order is refused', async (t) => {
    const order = { ...ORDER, customerId: 'other', expectedTotal: 1000 }
    t.equal((await place('key-2', order)).status, 202)
    for (const other of [
      { ...order, customerId: 'another' },
      { ...order, items: [{ productId: 'keyboard', quantity: 2 }] },
      { ...order, items: [...order.items, ...order.items] },
      { ...order, paymentMethod: 'pm_card_chargeDeclined' },
      { ...order, expectedTotal: 1001 },
      { ...order, expectedTotal: undefined }
    ]) {
      isProblem(t, await place('key-2', other), 422, 'Idempotency-Key')
    }
    t.equal(await count('other'), 1)
    t.equal(await count('another'), 0)
  })

  await t.test('50 requests at once with one key are one order', async (t) => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => place('key-3', { ...ORDER, customerId: 'at-once' }))
    )
    t.same(new Set(answers.map(({ status }) => status)), new Set([202]))
    t.equal(new Set(answers.map(({ body }) => body.orderId)).size, 1)
    t.equal(
      answers.filter(({ headers }) => headers.get('idempotent-replayed') === null).length,
      1,
      'one is the first'
    )
    t.equal(await count('at-once'), 1)
  })

  await t.test('two orders at once under one key: one is taken, the other refused', async (t) => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        place('key-4', { ...ORDER, customerId: `rival-${index % 2}` })
      )
    )
    for (const status of [202, 422])
      t.equal(answers.filter((answer) => answer.status === status).length, 10, `${status}`)
    t.equal((await count('rival-0')) + (await count('rival-1')), 1)
  })

  await t.test('without a key, or with another, the same order is a new order', async (t) => {
    const order = { ...ORDER, customerId: 'twice' }
    const answers = [
      await api.call('POST', '/orders', order),
      await api.call('POST', '/orders', order),
      await place('key-5', order),
      await place('KEY-5', order),
      await place(`!~${'k'.repeat(253)}`, order)
    ]
    t.same(
      answers.map(({ status }) => status),
      [202, 202, 202, 202, 202]
    )
    t.equal(new Set(answers.map(({ body }) => body.orderId)).size, 5)
    t.equal(await count('twice'), 5)
  })

  await t.test('a request that was not valid uses no key up', async (t) => {
    isProblem(t, await place('key-6', { ...ORDER, items: [] }), 400, 'items')
    t.match(await place('key-6', ORDER), { status: 202 })
  })
})

t.test('why an order fails', async (t) => {
  const { api } = await startSystem(t, 'memory')
  await api.putProduct('keyboard', 2, 8900)
  await api.putProduct('mouse', 5, 3900)
  await api.putProduct('tea', 5, 300, 'GBP')
  const fails = async (
    t: Test,
    reason: string,
    productId: string | null,
    order: Parameters<Api['placeOrder']>[0]
  ) => {
    const orderId = await api.placeOrder(order)
    t.match(await api.settled(orderId), { status: 'Failed', context: { failureReason: reason } })
    t.match(await api.get(`/orders/${orderId}`), {
      status: 'Failed',
      failureReason: reason,
      total: null,
      currency: null
    })
    t.match(await api.get(`/reservations/${orderId}`), {
      status: 'Refused',
      reason,
      productId,
      lines: []
    })
    t.equal((await api.call('GET', `/payments/${orderId}`)).status, 404, 'nobody was asked to pay')
    t.match(
      await api.get('/products/keyboard'),
      { onHand: 2, reserved: 0 },
      'nothing is taken, not even in part'
    )
    t.match(await api.get('/products/mouse'), { onHand: 5, reserved: 0 })
  }
  const mouse = { productId: 'mouse', quantity: 1 }
  await t.test('UnknownProduct', (t) =>
    fails(t, 'UnknownProduct', 'unheard-of', {
      items: [mouse, { productId: 'unheard-of', quantity: 1 }]
    })
  )
  await t.test('OutOfStock', (t) =>
    fails(t, 'OutOfStock', 'keyboard', { items: [mouse, { productId: 'keyboard', quantity: 3 }] })
  )
  await t.test('OutOfStock by two lines together', (t) =>
    fails(t, 'OutOfStock', 'keyboard', {
      items: [{ productId: 'keyboard', quantity: 2 }, mouse, { productId: 'keyboard', quantity: 1 }]
    })
  )
  await t.test('MixedCurrencies', (t) =>
    fails(t, 'MixedCurrencies', 'tea', { items: [mouse, { productId: 'tea', quantity: 1 }] })
  )
  await t.test('PriceChanged', (t) =>
    fails(t, 'PriceChanged', null, {
      items: [mouse, { productId: 'keyboard', quantity: 1 }],
      expectedTotal: 12_799
    })
  )
  await t.test('a price that is as expected fails nothing', async (t) => {
    const orderId = await api.placeOrder({
      items: [mouse, { productId: 'keyboard', quantity: 1 }],
      expectedTotal: 12_800
    })
    t.match(await api.settled(orderId), { status: 'Completed' })
    t.match(await api.get(`/orders/${orderId}`), {
      status: 'Completed',
      failureReason: null,
      expectedTotal: 12_800,
      total: 12_800,
      currency: 'EUR'
    })
  })
})

t.test('what lists, sagas and products answer', async (t) => {
  const { api } = await startSystem(t, 'memory')
  await api.putProduct('keyboard', 30, 8900)
  const placed: { orderId: string; customerId: string; status: string }[] = []
  for (let index = 0; index < 41; index++) {
    const [paymentMethod, status] =
      index % 3 === 0 ? ['pm_card_chargeDeclined', 'Failed'] : ['pm_card_visa', 'Completed']
    const customerId = `customer-${index}`
    placed.push({
      orderId: await api.placeOrder({ customerId, paymentMethod }),
      customerId,
      status
    })
  }
  for (const { orderId } of placed) await api.settled(orderId)
  const newestFirst = placed.toReversed()

  await t.test('the pages of a list hold every order exactly once, newest first', async (t) => {
    for (const limit of [1, 7, 41, 100])
      t.same(
        (await walk(api, '/orders?', limit)).map(({ orderId }) => orderId),
        newestFirst.map(({ orderId }) => orderId),
        `${limit} a page`
      )
    t.equal((await api.get('/orders')).items.length, 20, 'a page is 20 when nothing is said')
    for (const status of ['Completed', 'Failed', 'Suspend']) {
      t.same(
        (await walk(api, `/orders?status=${status}&`, 4)).map((order) => [
          order.orderId,
          order.customerId,
          order.status
        ]),
        newestFirst
          .filter((order) => order.status === status)
          .map((order) => [order.orderId, order.customerId, status])
      )
    }
    t.match((await walk(api, '/orders?', 50)).at(0), {
      items: [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod: 'pm_card_visa',
      total: 8900
    })
  })

  await t.test('what arrives while somebody turns the pages moves nothing', async (t) => {
    const first = await api.get('/orders?limit=20')
    const late = await api.placeOrder({
      customerId: 'late',
      items: [{ productId: 'unheard-of', quantity: 1 }]
    })
    await api.settled(late)
    const second = await api.get(`/orders?limit=100&cursor=${first.nextCursor}`)
    t.same(
      [...first.items, ...second.items].map(({ orderId }: { orderId: string }) => orderId),
      newestFirst.map(({ orderId }) => orderId)
    )
    t.equal(second.nextCursor, null)
  })

  await t.test('one order, by its id in capitals or not', async (t) => {
    const { orderId, customerId } = placed[1]!
    const order = await api.get(`/orders/${orderId}`)
    t.match(order, {
      orderId,
      customerId,
      status: 'Completed',
      failureReason: null,
      items: [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod: 'pm_card_visa',
      expectedTotal: null,
      total: 8900,
      currency: 'EUR'
    })
    t.ok(Date.parse(order.createdAt) <= Date.parse(order.updatedAt))
    t.same(await api.get(`/orders/${orderId.toUpperCase()}`), order)
    t.match(await api.get(`/reservations/${orderId}`), {
      orderId,
      status: 'Reserved',
      total: 8900,
      currency: 'EUR',
      lines: [{ productId: 'keyboard', quantity: 1, unitPrice: 8900 }]
    })
    t.match(await api.get(`/payments/${orderId}`), {
      orderId,
      status: 'Completed',
      amount: 8900,
      currency: 'EUR',
      paymentMethod: 'pm_card_visa',
      attempts: 1,
      refundedAmount: 0,
      nextAttemptAt: null
    })
  })

  await t.test('sagas by state', async (t) => {
    const completed = newestFirst
      .filter(({ status }) => status === 'Completed')
      .map(({ orderId }) => orderId)
    const declined = newestFirst
      .filter(({ status }) => status === 'Failed')
      .map(({ orderId }) => orderId)
    const ids = async (state: string, limit: number) =>
      (await walk(api, `/sagas?state=${state}&`, limit)).map(({ sagaId }) => sagaId)
    t.same(await ids('Completed', 5), completed)
    t.same((await ids('Failed', 5)).slice(1), declined, 'a top-level state means all inside it')
    t.same((await ids('Failed.settled', 100)).slice(1), declined)
    t.same(await ids('Failed.refunding', 5), [])
    t.equal((await walk(api, '/sagas?', 10)).length, 42)
    t.same(await api.get('/sagas/summary'), {
      Suspend: 0,
      Completed: 27,
      Failed: 15,
      stuck: 0,
      byState: { Completed: 27, 'Failed.settled': 15 },
      endedSince: null
    })
  })

  await t.test('one saga with its whole history, and its replay', async (t) => {
    const { orderId, customerId } = placed[0]!
    const saga = await api.get(`/sagas/${orderId}`)
    t.match(saga, {
      sagaId: orderId,
      status: 'Failed',
      state: 'Failed.settled',
      context: { orderId, customerId, total: 8900, currency: 'EUR', failureReason: 'CardDeclined' },
      timers: []
    })
    t.same(
      saga.accepts.toSorted(),
      ['PaymentCompletedEvent', 'StockReservedEvent'],
      'a saga that has failed still answers late events'
    )
    t.same(
      saga.history.map((step: { sequence: number }) => step.sequence),
      saga.history.map((_: unknown, index: number) => index + 1)
    )
    t.equal(saga.version, saga.history.length)
    t.match(saga.history[0], {
      event: 'OrderCreatedEvent',
      from: null,
      to: 'Suspend.reservingStock',
      sent: []
    })
    const declined = saga.history.find(
      ({ event }: { event: string }) => event === 'PaymentFailedEvent'
    )
    t.match(declined, {
      to: 'Failed.releasingStock',
      sent: [{ type: 'OrderFailedEvent' }, { type: 'ReleaseStock' }]
    })
    t.match(saga.history.at(-1), {
      event: 'StockReleasedEvent',
      from: 'Failed.releasingStock',
      to: 'Failed.settled'
    })
    for (const { orderId: sagaId } of placed)
      t.match(await api.get(`/sagas/${sagaId}/replay`), { consistent: true, firstDifference: null })
    t.match(await api.get(`/sagas/${orderId}/replay`), {
      steps: saga.version,
      state: 'Failed.settled'
    })
  })

  await t.test('the definition of the machine', async (t) => {
    const { states, events, transitions, mermaid, name } = await api.get('/sagas/definitions/order')
    t.equal(name, 'order')
    t.same(states.toSorted(), [
      'Completed',
      'Failed.refunding',
      'Failed.releasingStock',
      'Failed.settled',
      'Suspend.reservingStock',
      'Suspend.takingPayment'
    ])
    t.match(mermaid, /^stateDiagram-v2\n/)
    for (const state of states as string[]) {
      t.match(
        mermaid,
        new RegExp(`state "${state.split('.').at(-1)}" as ${state.replace('.', '_')}\\b`)
      )
      t.ok(
        events.length > 0 &&
          transitions.some(
            ({ from, to }: { from: string; to: string }) =>
              from === state || to === state || state.startsWith(from)
          ),
        `${state} takes part`
      )
    }
    for (const event of [
      'StockReservedEvent',
      'StockNotReservedEvent',
      'StockReleasedEvent',
      'PaymentCompletedEvent',
      'PaymentFailedEvent',
      'PaymentRefundedEvent',
      'after deadline'
    ])
      t.ok(events.includes(event) && mermaid.includes(`: ${event}`), event)
    for (const { from, to, event } of transitions)
      t.ok(
        mermaid.includes(`${from.replace('.', '_')} --> ${to.replace('.', '_')}: ${event}`),
        `${from} -> ${to}`
      )
  })

  await t.test('products: create, replace, restock, list', async (t) => {
    t.match(await api.get('/products/keyboard'), { productId: 'keyboard', onHand: 3, reserved: 27 })
    t.match(await api.call('PUT', '/products/mouse', { ...PRODUCT, name: 'Mäuse 鼠' }), {
      status: 201,
      body: {
        productId: 'mouse',
        name: 'Mäuse 鼠',
        unitPrice: 8900,
        currency: 'EUR',
        onHand: 10,
        reserved: 0
      }
    })
    const { onHand: _, ...named } = PRODUCT
    t.match(await api.call('PUT', '/products/mouse', named), {
      status: 200,
      body: { name: 'Keyboard', onHand: 10 }
    })
    const etag = (await api.call('GET', '/products/keyboard')).headers.get('etag')!
    t.match(
      await api.call(
        'PUT',
        '/products/keyboard',
        { ...PRODUCT, unitPrice: 1, onHand: 5 },
        { 'if-match': etag }
      ),
      { status: 200, body: { unitPrice: 1, onHand: 5, reserved: 27 } },
      'what is held for orders stays held'
    )
    t.match(await api.call('POST', '/products/keyboard/restock', { quantity: 7 }), {
      status: 200,
      body: { onHand: 12, reserved: 27 }
    })
    t.match(await api.get('/products/keyboard'), {
      name: 'Keyboard',
      unitPrice: 1,
      onHand: 12,
      reserved: 27
    })
    await api.putProduct('full', 999_999_999)
    isProblem(t, await api.call('POST', '/products/full/restock', { quantity: 2 }), 409, 'quantity')
    t.match(await api.call('POST', '/products/full/restock', { quantity: 1 }), {
      status: 200,
      body: { onHand: 1_000_000_000 }
    })
    for (const limit of [1, 2, 3, 100])
      t.same(
        (await walk(api, '/products?', limit)).map(({ productId }) => productId),
        ['full', 'keyboard', 'mouse']
      )
    await Promise.all(
      Array.from({ length: 20 }, () => api.call('POST', '/products/mouse/restock', { quantity: 5 }))
    )
    t.match(await api.get('/products/mouse'), { onHand: 110 }, 'no restock is lost')

    const keyed = (quantity: number, key: string, productId = 'mouse') =>
      api.call('POST', `/products/${productId}/restock`, { quantity }, { 'idempotency-key': key })
    const answers = await Promise.all(Array.from({ length: 10 }, () => keyed(5, 'delivery-1')))
    t.same(
      answers.map(({ status }) => status),
      Array.from({ length: 10 }, () => 200)
    )
    t.equal(
      answers.filter(({ headers }) => headers.get('idempotent-replayed') === 'true').length,
      9
    )
    t.match(await api.get('/products/mouse'), { onHand: 115 }, 'under one key, once')
    isProblem(t, await keyed(6, 'delivery-1'), 422, 'Idempotency-Key')
    isProblem(t, await keyed(5, 'delivery-1', 'keyboard'), 422, 'Idempotency-Key')
    isProblem(t, await keyed(2, 'delivery-2', 'full'), 409, 'quantity')
    isProblem(t, await keyed(5, 'delivery-3', 'unheard-of'), 404)
    t.match(
      await keyed(1, 'delivery-2'),
      { status: 200, body: { onHand: 116 } },
      'a key of what was refused is free'
    )
    isProblem(t, await keyed(5, 'two words'), 400, 'idempotency-key')
  })
})

t.test('what an operator sees while messages do not flow', async (t) => {
  let closed = true
  let reopened = () => {}
  const { api } = await startSystem(t, 'memory', {
    wrap: (transport) =>
      changed(transport, {
        start: (flowing) => {
          reopened = flowing
        },
        get canPublish() {
          return !closed
        },
        problem: () => (closed ? 'closed by the test' : transport.problem())
      })
  })
  await api.putProduct('keyboard', 10)
  const orderId = await api.placeOrder()
  t.match(await api.get('/health/live'), { status: 'live' })
  const unready = await until('the relay has its connection', async () => {
    const answer = await api.call('GET', '/health/ready')
    return answer.body.services.order.relay === 'ok' && answer
  })
  t.match(unready, {
    status: 503,
    body: {
      status: 'unavailable',
      services: { order: { database: 'ok', broker: 'closed by the test' } }
    }
  })
  t.match(await api.get('/ops/order/outbox'), { pending: 1, postponed: 0, lastError: null })
  const age = (await api.get('/ops/order/outbox')).oldestAgeSeconds
  t.ok(age > 0 && age < 60, 'the age of the oldest message')
  t.match(await api.get('/ops/stock/outbox'), { pending: 0, oldestAgeSeconds: 0 })
  t.match(await api.get('/ops/payment/outbox'), { pending: 0, oldestAgeSeconds: 0 })
  t.match(await api.get(`/orders/${orderId}`), { status: 'Suspend', total: null })
  const saga = await api.get(`/sagas/${orderId}`)
  t.match(saga, {
    state: 'Suspend.reservingStock',
    version: 1,
    timers: [{ event: 'after deadline' }]
  })
  const dueInMs = Date.parse(saga.timers[0].dueAt) - Date.parse(saga.createdAt)
  t.equal(dueInMs, 30_000, 'the deadline counts from the order')
  t.ok(
    ['StockReservedEvent', 'StockNotReservedEvent', 'after deadline'].every((event) =>
      saga.accepts.includes(event)
    )
  )
  t.match(await api.get('/sagas/summary'), {
    Suspend: 1,
    Completed: 0,
    Failed: 0,
    byState: { 'Suspend.reservingStock': 1 }
  })

  closed = false
  reopened()
  t.match(await api.settled(orderId), { state: 'Completed', timers: [] })
  for (const service of ['order', 'stock', 'payment'])
    await until(
      `the outbox of ${service} is empty`,
      async () => (await api.get(`/ops/${service}/outbox`)).pending === 0
    )
  t.match(await api.get('/health/ready'), {
    status: 'ready',
    services: { order: { broker: 'ok' }, stock: { broker: 'ok' }, payment: { broker: 'ok' } }
  })
})

t.test('the trace of a request is in every message that follows from it', async (t) => {
  const messages: {
    destination: string
    payload: {
      message: { orderId: string }
      headers: Record<string, string>
      conversationId: string
    }
  }[] = []
  const { api } = await startSystem(t, 'memory', {
    wrap: (transport) =>
      changed(transport, {
        publish: (message) => {
          messages.push({
            destination: message.destination,
            payload: JSON.parse(message.payload.toString())
          })
          return transport.publish(message)
        }
      })
  })
  await api.putProduct('keyboard', 10)
  const sent = async (traceparent: string) => {
    const { body } = await api.call(
      'POST',
      '/orders',
      { ...ORDER, paymentMethod: 'pm_card_chargeDeclined' },
      { traceparent }
    )
    await api.settled(body.orderId)
    return until('all its messages have left', async () => {
      const found = messages.filter(({ payload }) => payload.message.orderId === body.orderId)
      return new Set(found.map(({ destination }) => destination)).size === 6 && found
    })
  }
  const traced = await sent(TRACEPARENT)
  t.same(traced.map(({ destination }) => destination).toSorted(), [
    'Contracts:OrderCreatedEvent',
    'Contracts:OrderFailedEvent',
    'Contracts:PaymentFailedEvent',
    'Contracts:StockReleasedEvent',
    'Contracts:StockReservedEvent',
    'stock'
  ])
  for (const { destination, payload } of traced)
    t.equal(payload.headers.traceparent, TRACEPARENT, destination)
  t.equal(new Set(traced.map(({ payload }) => payload.conversationId)).size, 1, 'one conversation')
  for (const { destination, payload } of await sent('00-not-a-trace'))
    t.same(payload.headers, {}, `${destination} carries no trace that is none`)
})

t.test('the documentation describes what is served', async (t) => {
  const { api, system } = await startSystem(t, 'memory')
  const document = await api.get('/openapi.json')
  const documented = Object.entries<object>(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`)
  )
  const served = routesOf(system.app.printRoutes({ commonPrefix: false })).filter(
    (route) =>
      !/^(HEAD|OPTIONS) | \/(docs.*|console.*|openapi\.json)?$/.test(route) &&
      // In a process with one saga, its own place is the same as /sagas.
      !/ \/sagas\/order(\/|$)/.test(route)
  )
  t.ok(served.length >= 17)
  t.same(documented.toSorted(), served.toSorted(), 'every route and no other')
  t.same(faultsOf(document), [])
  const undocumented = Object.entries<Answer['body']>(document.paths).flatMap(
    ([path, operations]) =>
      Object.entries<Answer['body']>(operations)
        .filter(([, { responses }]) => !responses['4XX'] || !responses['5XX'])
        .map(([method]) => `${method} ${path}`)
  )
  t.same(undocumented, [], 'every route tells how its errors look')
  t.match(await api.call('GET', '/docs'), { status: 200, body: /swagger/i })
  for (const asset of ['swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-initializer.js'])
    t.match(await api.call('GET', `/docs/static/${asset}`), { status: 200 })
  t.match(await api.call('GET', '/'), { status: 200, body: /swagger/i }, 'the root leads there')
  t.match(document.paths['/orders'].post.requestBody.content['application/json'].schema, {
    required: ['customerId', 'items', 'paymentMethod'],
    additionalProperties: false
  })
})

/** An error as RFC 9457 wants it. @param field must be among its `errors` */
function isProblem(
  t: Test,
  { status, headers, body }: Answer,
  expected: number,
  field?: string
): void {
  t.match(
    { status, body, type: headers.get('content-type') },
    {
      status: expected,
      type: /^application\/problem\+json(;|$)/,
      body: { type: String, title: STATUS_CODES[expected], status: expected, detail: /\S/ }
    }
  )
  if (field)
    t.ok(
      body.errors?.some(
        (error: { field: string; expected: string }) =>
          error.field === field && error.expected.length > 3
      ),
      `names ${field}`
    )
}

/** All items of a list, page by page. */
async function walk(api: Api, list: string, limit: number): Promise<Answer['body'][]> {
  const items: Answer['body'][] = []
  for (let cursor: string | null | undefined; cursor !== null;) {
    const page = await api.get(`${list}limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`)
    if (page.items.length > limit || (page.nextCursor !== null && page.items.length < limit))
      throw new Error(`A page of ${page.items.length}, ${limit} asked for`)
    items.push(...page.items)
    cursor = page.nextCursor
  }
  return items
}

async function connect(t: Test, databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** A transport that does what another does, except for some of it. */
function changed(transport: Transport, changes: Partial<Transport>): Transport {
  return new Proxy(transport, {
    get(target, key) {
      const source = key in changes ? changes : target
      const value: unknown = Reflect.get(source, key, source)
      return typeof value === 'function' ? value.bind(source) : value
    }
  })
}

/** Fastify's route tree -> `GET /orders/{orderId}` */
function routesOf(tree: string): string[] {
  const parents: { indent: number; path: string }[] = []
  return tree.split('\n').flatMap((line) => {
    const [, indent, part, methods] = /^([│ ]*)[├└]── (.*?)(?: \(([A-Z, ]+)\))?$/.exec(line) ?? []
    if (indent === undefined) return []
    while (parents.length > 0 && parents.at(-1)!.indent >= indent.length) parents.pop()
    const path = `${parents.at(-1)?.path ?? ''}${part}`
    parents.push({ indent: indent.length, path })
    return (methods ?? '')
      .split(', ')
      .filter(Boolean)
      .map((method) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
  })
}

/**
 * What keeps a document from being OpenAPI 3.1: its own rules by hand, its schemas by JSON Schema
 * 2020-12.
 */
function faultsOf(document: Answer['body']): string[] {
  const faults: string[] = []
  const expect = (fine: unknown, fault: string) => void (fine || faults.push(fault))
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const schemaAt = (at: string, schema: unknown, examples: unknown[] = []) => {
    expect(
      typeof schema === 'object' && ajv.validateSchema(schema as object),
      `${at}: ${ajv.errorsText()}`
    )
    for (const example of examples)
      expect(ajv.validate(schema as object, example), `${at}: its example ${ajv.errorsText()}`)
  }
  expect(/^3\.1\.\d+$/.test(document.openapi), 'openapi: 3.1.x')
  expect(document.info?.title && document.info.version, 'info: title and version')
  const tags = (document.tags ?? []).map(({ name }: { name: string }) => name)
  for (const [path, operations] of Object.entries<Answer['body']>(document.paths)) {
    expect(path.startsWith('/'), `${path}: starts with /`)
    for (const [method, operation] of Object.entries<Answer['body']>(operations)) {
      const at = `${method} ${path}`
      expect(operation.summary, `${at}: has a summary`)
      expect(
        (operation.tags ?? []).length > 0 &&
          operation.tags.every((tag: string) => tags.includes(tag)),
        `${at}: has declared tags`
      )
      const parameters: Answer['body'][] = operation.parameters ?? []
      const inPath = parameters.filter((parameter) => parameter.in === 'path')
      expect(
        inPath.every(({ required }) => required === true),
        `${at}: path parameters are required`
      )
      expect(
        inPath
          .map(({ name }) => `{${name}}`)
          .toSorted()
          .join() === (path.match(/\{\w+\}/g) ?? []).toSorted().join(),
        `${at}: declares its path parameters`
      )
      expect(
        new Set(parameters.map((parameter) => `${parameter.in} ${parameter.name}`)).size ===
          parameters.length,
        `${at}: parameters are unique`
      )
      for (const parameter of parameters) {
        expect(
          ['path', 'query', 'header', 'cookie'].includes(parameter.in),
          `${at}: parameter ${parameter.name} is in ${parameter.in}`
        )
        schemaAt(`${at} ${parameter.name}`, parameter.schema)
      }
      if (operation.requestBody) {
        expect(
          Object.keys(operation.requestBody.content ?? {}).join() === 'application/json',
          `${at}: takes JSON`
        )
        for (const { schema, example } of Object.values<Answer['body']>(
          operation.requestBody.content
        ))
          schemaAt(`${at} body`, schema, example === undefined ? [] : [example])
      }
      expect(
        Object.keys(operation.responses ?? {}).some((status) => /^2\d\d$/.test(status)),
        `${at}: says what success is`
      )
      for (const [status, response] of Object.entries<Answer['body']>(operation.responses ?? {})) {
        expect(/^([1-5](\d\d|XX)|default)$/.test(status), `${at}: status ${status}`)
        expect(typeof response.description === 'string', `${at} ${status}: has a description`)
        for (const { schema } of Object.values<Answer['body']>(response.content ?? {}))
          schemaAt(`${at} ${status}`, schema)
        for (const [name, { schema }] of Object.entries<Answer['body']>(response.headers ?? {}))
          schemaAt(`${at} ${status} ${name}`, schema)
      }
    }
  }
  for (const [, pointer] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]*)"/g)) {
    const found = pointer!
      .split('/')
      .reduce((value, key) => value?.[key.replaceAll('~1', '/').replaceAll('~0', '~')], document)
    expect(found !== undefined, `$ref #/${pointer} leads nowhere`)
  }
  return faults
}
