import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t, { type Test } from 'tap'
import { PaymentCompletedEvent } from '../../src/contracts/payment.ts'
import { ReleaseStock, StockReservedEvent } from '../../src/contracts/stock.ts'
import { EnvelopeWriter } from '../../packages/sagabox/src/messaging/message/envelope.ts'
import { faultMessage } from '../../packages/sagabox/src/messaging/message/fault.ts'
import { OLD_DELETED_LETTERS } from '../../packages/sagabox/src/messaging/dead-letters/deleted.ts'
import { oldInboxRows } from '../../packages/sagabox/src/messaging/inbox/old.ts'
import { OldRowsCleaner } from '../../packages/sagabox/src/messaging/postgres/old-rows.ts'
import { message, type Message } from '../../packages/sagabox/src/messaging/message/message.ts'
import type {
  TransportMessage,
  Transport
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import type { Answer, Api } from '../support/api.ts'
import { startSystem, testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(120_000)

const LETTERS = '/ops/stock/dead-letters'

/**
 * A queue that is purged while messages are in it: a while long, what is sent back to an endpoint
 * is gone.
 */
class Purged {
  now = false

  wrap(transport: Transport): Transport {
    return new Proxy(transport, {
      get: (target, name) => {
        if (name === 'publish')
          return (sent: TransportMessage) =>
            this.now && sent.headers?.['sagabox-replayed'] !== undefined
              ? Promise.resolve('accepted')
              : target.publish(sent)
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      }
    })
  }
}

async function open(t: Test) {
  const purged = new Purged()
  const started = await startSystem(t, 'memory', {
    settings: { redeliverySeconds: [], deadlineSeconds: 600 },
    wrap: (transport) => purged.wrap(transport)
  })
  const database = new pg.Client({ connectionString: started.databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await database.query('set search_path = stock_service')
  const publish = (given: Partial<TransportMessage> = {}) =>
    started.system.transport.publish({
      messageId: randomUUID(),
      destination: 'stock',
      required: true,
      payload: `no envelope ${randomUUID()}`,
      ...given
    })
  const letters = (count: number): Promise<Answer['body'][]> =>
    until(`there are ${count} letters`, async () => {
      const { items } = await started.api.get(LETTERS)
      return items.length >= count && items
    })
  /** As if so many minutes had passed since anything was sent back. */
  const pass = (minutes: number) =>
    database.query(`update dead_letter set retried_at = retried_at - $1 * interval '1 minute'`, [
      minutes
    ])
  return { ...started, purged, database, publish, letters, pass }
}

function ended(api: Api, location: string): Promise<Answer['body']> {
  return until('the group retry has ended', async () => {
    const retry = await api.get(location)
    return retry.state !== 'running' && retry
  })
}

t.test(
  'a letter whose message is gone can be sent back again, or deleted, after ten minutes',
  async (t) => {
    const { api, purged, publish, letters, pass } = await open(t)
    await publish()
    const [{ id, retryingSince }] = (await letters(1)) as [Answer['body']]
    t.equal(retryingSince, null)
    purged.now = true
    t.match(await api.call('POST', `${LETTERS}/${id}/retry`), {
      status: 202,
      body: { warning: undefined }
    })
    const retrying = await api.get(`${LETTERS}/${id}`)
    t.match(retrying, { status: 'retrying', retryingSince: /^\d{4}-/ })
    await pass(9)
    for (const [method, path] of [
      ['POST', `${LETTERS}/${id}/retry`],
      ['DELETE', `${LETTERS}/${id}?why=mended`]
    ] as const) {
      t.match(
        await api.call(method, path),
        { status: 409, body: { detail: /since \d{4}-.* If nothing is heard of it until \d{4}-/ } },
        method
      )
    }
    await pass(2)
    t.match(await api.call('POST', `${LETTERS}/${id}/retry`), {
      status: 202,
      body: { warning: /sent back before, at \d{4}-.* the inbox lets one of the two be handled/ }
    })
    t.match(
      await api.call('POST', `${LETTERS}/${id}/retry`),
      { status: 409 },
      'it is under way anew'
    )
    await pass(11)
    t.match(await api.call('DELETE', `${LETTERS}/${id}?why=mended`), { status: 204 })
    purged.now = false
    t.match(await api.call('POST', `${LETTERS}/deleted/${id}/restore`), {
      status: 200,
      body: { id, status: 'waiting', retryingSince: null }
    })
    t.match(await api.call('POST', `${LETTERS}/${id}/retry`), { status: 202 })
    await until('it is back', async () => (await api.get(`${LETTERS}/${id}`)).seen === 2)
    t.match(await api.get(`${LETTERS}/${id}`), { status: 'waiting', retryingSince: null })
  }
)

t.test(
  'a group whose messages are gone ends, and what it has lost can be sent back again',
  async (t) => {
    const { api, purged, publish, letters, pass } = await open(t)
    for (let sent = 0; sent < 7; sent++) await publish()
    await letters(7)
    purged.now = true
    const first = await api.call('POST', `${LETTERS}/retry`, { why: 'mended' })
    t.match(first, { status: 202, body: { left: 7, atLeast: false, lost: 0 } })
    const location = first.headers.get('location')!
    await until('one is under way', async () => (await api.get(location)).underWay === 1)
    await pass(9)
    t.match(await api.get(location), { state: 'running', underWay: 1, lost: 0 })
    await pass(2)
    await until('five are under way', async () => (await api.get(location)).underWay === 5)
    await pass(11)
    t.match(await ended(api, location), {
      state: 'stopped',
      sent: 6,
      handled: 0,
      failedAgain: 0,
      underWay: 0,
      lost: 6,
      left: 1,
      reason: /of 6 nothing was heard for 10 minutes/
    })
    purged.now = false
    const second = await api.call('POST', `${LETTERS}/retry`, { why: 'mended' })
    t.equal(second.body.left, 7)
    t.match(await ended(api, second.headers.get('location')!), {
      state: 'stopped',
      reason: /of the first 6 failed again$/,
      sent: 6,
      lost: 0,
      left: 1
    })
  }
)

t.test('a letter of an endpoint that is not here is not sent back', async (t) => {
  const { api, database, publish, letters } = await open(t)
  await publish()
  const [{ id }] = (await letters(1)) as [Answer['body']]
  await database.query(`update dead_letter set endpoint = 'warehouse'`)
  t.match(await api.call('POST', `${LETTERS}/${id}/retry`), {
    status: 409,
    body: { detail: 'Its endpoint warehouse is not here (stock is): nobody would take it' }
  })
  const group = await api.call('POST', `${LETTERS}/retry`, { why: 'mended' })
  t.match(await ended(api, group.headers.get('location')!), { state: 'done', sent: 0, left: 0 })
  t.match(await api.get(`${LETTERS}/${id}`), { status: 'waiting' })
})

t.test('a deleted letter is kept whole for 30 days, and can be brought back', async (t) => {
  const { api, system, database, publish, letters } = await open(t)
  const payload = Buffer.from([0xff, 0, 1])
  await publish({ payload, headers: { note: 'mine' } })
  const [{ id }] = (await letters(1)) as [Answer['body']]
  const before = await api.get(`${LETTERS}/${id}`)
  t.match(await api.call('DELETE', `${LETTERS}/${id}?why=spam`), { status: 204 })
  t.same((await api.get(LETTERS)).items, [])
  const { items, nextCursor } = await api.get(`${LETTERS}/deleted`)
  t.match(items, [{ id, deletedAt: /^\d{4}-/, why: 'spam', bytes: 3 }])
  t.equal(nextCursor, null)
  t.match(await api.get(`${LETTERS}/deleted/${id}`), {
    headers: { note: 'mine' },
    payload: '/wAB',
    why: 'spam'
  })

  t.match(await api.call('POST', `${LETTERS}/deleted/${id}/restore`), { status: 200, body: before })
  t.same(await api.get(`${LETTERS}/${id}`), before, 'as it was')
  t.match(await api.call('POST', `${LETTERS}/deleted/${id}/restore`), { status: 404 })
  await api.call('DELETE', `${LETTERS}/${id}?why=mended`)
  await publish({ payload })
  const [again] = (await letters(1)) as [Answer['body']]
  t.not(again.id, id)
  t.match(await api.call('POST', `${LETTERS}/deleted/${id}/restore`), {
    status: 409,
    body: { detail: /become a dead letter again/ }
  })
  const audit = await database.query('select action from dead_letter_audit order by id')
  t.same(
    audit.rows.map(({ action }) => action),
    ['delete', 'restore', 'delete']
  )

  const cleaner = new OldRowsCleaner(
    system.service('stock').database,
    [...oldInboxRows(7), OLD_DELETED_LETTERS],
    testLog
  )
  await database.query(`update dead_letter_deleted set deleted_at = now() - interval '29 days'`)
  await cleaner.runOnce()
  t.equal((await api.get(`${LETTERS}/deleted`)).items.length, 1)
  await database.query(`update dead_letter_deleted set deleted_at = now() - interval '31 days'`)
  await cleaner.runOnce()
  t.match(await api.call('GET', `${LETTERS}/deleted/${id}`), {
    status: 404,
    body: { detail: /30 days/ }
  })
})

t.test('what is kept and shown of a letter has a size', async (t) => {
  const { api, database, publish, letters } = await open(t)
  const long = 'ö'.repeat(250_000)
  const deep = Array.from({ length: 3000 }).reduce<unknown>((inner) => ({ inner }), 1)
  const headers = {
    'MT-Fault-Message': long,
    'MT-Fault-StackTrace': long,
    'MT-Fault-ExceptionType': long,
    'x-first-death-reason': long,
    note: 'kept',
    [long]: 1,
    long,
    deep,
    list: Array.from({ length: 50_000 }, () => 'x')
  }
  await publish({ destination: 'stock_error', headers, contentType: long })
  const [{ id }] = (await letters(1)) as [Answer['body']]
  const { rows } = await database.query(
    'select octet_length(dead_letter::text) as bytes from dead_letter'
  )
  t.ok(rows[0].bytes < 80_000, `${rows[0].bytes} bytes are stored`)
  t.match(await api.get(`${LETTERS}/${id}`), {
    headers: {
      note: 'kept',
      'MT-Fault-Message': /… \(500000 bytes\)$/,
      'sagabox-headers-dropped': /^\d headers were too long/
    }
  })

  // As 0.1 has stored it.
  const attempt = (number: number) => ({
    at: '2026-01-01T00:00:00.000Z',
    error: `Error: try ${number}`
  })
  await database.query(`update dead_letter set headers = $1, attempts = $2`, [
    JSON.stringify({ long }),
    JSON.stringify(Array.from({ length: 5160 }, (_, index) => attempt(index + 1)))
  ])
  const tries = [
    ...[1, 2, 3, 4, 5].map(attempt),
    ...Array.from({ length: 20 }, (_, index) => attempt(5141 + index))
  ]
  const shown = await api.call('GET', `${LETTERS}/${id}`)
  t.ok(shown.text.length < 20_000, 'what is shown, too')
  t.same([shown.body.attempts, shown.body.attemptsLeftOut], [tries, 5135])
  await api.call('POST', `${LETTERS}/${id}/retry`)
  await until('it is back', async () => (await api.get(`${LETTERS}/${id}`)).seen === 2)
  const { rows: kept } = await database.query('select attempts, attempts_left_out from dead_letter')
  t.equal(kept[0].attempts.length, 25)
  t.equal(kept[0].attempts_left_out, 5136)
  t.same(kept[0].attempts.slice(0, 24), [...tries.slice(0, 5), ...tries.slice(6)])
  t.match(kept[0].attempts[24].error, /^UnreadableMessage: contentType/)
})

t.test('what a forged fault says of an order has a size', async (t) => {
  const { api, publish } = await open(t)
  await api.putProduct('keyboard', 0)
  await api.putProduct('lamp', 10)
  const orderId = await api.placeOrder({
    items: [{ productId: 'lamp', quantity: 1 }],
    paymentMethod: 'pm_sim_unavailable'
  })
  await until(
    'it waits',
    async () => (await api.get(`/sagas/${orderId}`)).state === 'Suspend.takingPayment'
  )
  const failed = message(ReleaseStock, { orderId })
  const fault = faultMessage(failed, { type: 'Forged\0', text: `${'x'.repeat(500_000)}\0` })
  await publish({ destination: 'order', payload: write(fault) })
  const { lastError } = await until('the order shows it', async () => {
    const { waitingFor } = await api.get(`/sagas/${orderId}`)
    return waitingFor?.lastError ? waitingFor : undefined
  })
  t.ok(lastError.message.length <= 2000, `${lastError.message.length} characters`)
  t.match(
    lastError.message,
    /^Fault<ReleaseStock>: Forged.*: xxx.*… \(5\d{5} bytes\) \(node on \S+\)$/
  )
})

t.test('letters of one type have one name', async (t) => {
  const { api, database, publish, letters } = await open(t)
  const { message: body, ...envelope } = JSON.parse(
    write(message(ReleaseStock, { orderId: randomUUID() }))
  ) as Record<string, unknown>
  const broken = { ...envelope, message: { ...(body as object), orderId: 5 } }
  await publish({
    destination: 'stock_error',
    payload: JSON.stringify({ ...envelope, message: body })
  })
  await publish({ payload: JSON.stringify(broken) })
  await publish({ payload: `\uFEFF${JSON.stringify({ ...broken, conversationId: 'no' })}` })
  await publish({ payload: JSON.stringify({ ...broken, filler: 'x'.repeat(50_000) }) })
  await publish({
    payload: JSON.stringify({
      ...broken,
      messageType: ['urn:message:Shop:Parcel', 'urn:message:Contracts:ReleaseStock']
    })
  })
  await publish({
    payload: JSON.stringify({ ...broken, messageType: ['urn:message:Contracts:OtherEvent'] })
  })
  await publish({
    payload: JSON.stringify({ ...broken, messageType: ['urn:message:Shop:OtherEvent'] })
  })
  await publish({
    payload: JSON.stringify({
      ...broken,
      messageType: ['urn:message:MassTransit:Fault[[Contracts:OtherEvent]]']
    })
  })
  const found = await letters(8)
  t.same(
    found.map(({ type }) => String(type)).toSorted((a, b) => a.localeCompare(b)),
    [
      'Fault<OtherEvent>',
      'OtherEvent',
      'ReleaseStock',
      'ReleaseStock',
      'ReleaseStock',
      'ReleaseStock',
      'ReleaseStock',
      'Shop:OtherEvent'
    ]
  )

  // As 0.1 named what it could not read.
  await database.query(
    `
      update dead_letter set message_type = 'Contracts:ReleaseStock' where id in (select id
        from dead_letter where message_type = 'ReleaseStock' order by id limit 2)`
  )
  const { groups } = await api.get(`${LETTERS}/groups?type=ReleaseStock`)
  t.same(
    new Set(
      groups.map(({ type, exception, count }: Answer['body']) => `${type} ${exception} ${count}`)
    ),
    new Set(['ReleaseStock UnreadableMessage 4', 'ReleaseStock Unknown 1'])
  )
  for (const type of [
    'ReleaseStock',
    'Contracts:ReleaseStock',
    'urn:message:Contracts:ReleaseStock'
  ]) {
    const list = await api.get(`${LETTERS}?type=${type}`)
    t.same(
      list.items.map((one: Answer['body']) => one.type),
      Array.from({ length: 5 }, () => 'ReleaseStock'),
      type
    )
  }
  t.equal(
    (await api.call('POST', `${LETTERS}/retry`, { type: 'Contracts:ReleaseStock', why: 'mended' }))
      .body.left,
    5
  )
})

t.test('a byte order mark before an envelope is read over', async (t) => {
  const { api, publish } = await open(t)
  const orderId = randomUUID()
  await publish({ payload: Buffer.from(`\uFEFF${write(message(ReleaseStock, { orderId }))}`) })
  await until(
    'it is handled',
    async () => (await api.call('GET', `/reservations/${orderId}`)).status === 200
  )
})

t.test('no filter reaches the database with what it cannot store', async (t) => {
  const { api } = await open(t)
  for (const field of ['type', 'exception', 'reason', 'messageId', 'correlationId']) {
    for (const list of [LETTERS, `${LETTERS}/groups`])
      t.match(
        await api.call('GET', `${list}?${field}=a%00b`),
        { status: 400, body: { errors: [{ field }] } },
        `${list} ${field}`
      )
    for (const text of ['a\\u0000b', '\\ud800', 'x\\udc00y', '\\u007f'])
      t.match(
        await api.call('POST', `${LETTERS}/retry`, `{"why":"mended","${field}":"${text}"}`),
        { status: 400, body: { errors: [{ field }] } },
        `${field} ${text}`
      )
  }
  t.match(await api.call('DELETE', `${LETTERS}/1?why=%00`), {
    status: 400,
    body: { errors: [{ field: 'why' }] }
  })
  t.match(await api.call('POST', `${LETTERS}/1/undo`, '{"reason":"\\u0000"}'), {
    status: 400,
    body: { errors: [{ field: 'reason' }] }
  })
  t.match(await api.call('GET', `${LETTERS}?reason=${encodeURIComponent('größer 😀 "\\ %_')}`), {
    status: 200
  })
})

t.test('large letters are not stored together', async (t) => {
  const { database, publish, letters } = await open(t)
  await Promise.all(
    Array.from({ length: 4 }, () =>
      publish({ destination: 'stock_error', payload: randomUUID().repeat(10_000) })
    )
  )
  await Promise.all(Array.from({ length: 4 }, () => publish({ destination: 'stock_error' })))
  await letters(8)
  const { rows } = await database.query(
    'select count(*)::integer as letters from dead_letter group by xmin::text order by 1'
  )
  t.same(
    rows.map((row) => row.letters).filter((count) => count === 1).length >= 4,
    true,
    JSON.stringify(rows)
  )
  const { rows: large } = await database.query(
    'select count(distinct xmin::text)::integer as transactions from dead_letter where octet_length(payload) > 300000'
  )
  t.same(large, [{ transactions: 4 }])
})

t.test('a database that forgot: what was done for an order that is gone is undone', async (t) => {
  const { api, database, publish } = await open(t)
  const path = '/ops/order/dead-letters'
  await api.putProduct('keyboard', 10)
  const [orderId, other] = [await api.placeOrder(), await api.placeOrder()]
  await api.settled(orderId)
  await api.settled(other)
  await database.query(`delete from order_service.saga where saga_id = $1`, [orderId])
  const late = [
    message(StockReservedEvent, {
      orderId,
      customerId: 'ada',
      items: [{ productId: 'keyboard', quantity: 1 }],
      total: 1000,
      currency: 'EUR',
      paymentMethod: 'pm_card_visa'
    }),
    message(PaymentCompletedEvent, { orderId, amount: 1000, currency: 'EUR' })
  ]
  for (const sent of late) await publish({ destination: 'order', payload: write(sent) })
  const orphans = await until('both are dead letters', async () => {
    const { items } = await api.get(`${path}?status=waiting`)
    return items.length === 2 && items
  })
  const [{ id }, { id: second }] = orphans
  t.match(await api.call('POST', `${path}/${id}/undo`, {}), {
    status: 400,
    body: { errors: [{ field: 'reason' }] }
  })
  t.match(await api.call('POST', `${path}/4711/undo`, { reason: 'x' }), { status: 404 })
  const undone = await api.call('POST', `${path}/${id}/undo`, {
    reason: 'the standby had not got it'
  })
  t.match(undone, {
    status: 202,
    body: {
      status: 'undone',
      sent: [{ type: 'ReleaseStock' }, { type: 'RefundPayment' }],
      others: [second]
    }
  })
  await until(
    'the money is back',
    async () => (await api.get(`/payments/${orderId}`)).status === 'Refunded'
  )
  await until('the unit is back', async () => (await api.get('/products/keyboard')).onHand === 9)
  await until(
    'the answers have come',
    async () => (await api.get(`${path}?status=undone`)).items.length === 4
  )
  t.same((await api.get(`${path}?status=waiting`)).items, [], 'nobody is asked about the answers')
  t.match(await api.call('POST', `${path}/${id}/undo`, { reason: 'again' }), {
    status: 409,
    body: { detail: /undone/ }
  })
  t.match(await api.call('POST', `${path}/${id}/retry`), { status: 409 })
  const { rows } = await database.query(
    'select action, details from order_service.dead_letter_audit'
  )
  t.match(rows, [
    {
      action: 'undo',
      details: {
        why: 'the standby had not got it',
        sent: [{ type: 'ReleaseStock' }, { type: 'RefundPayment' }]
      }
    },
    { action: 'undo' }
  ])

  // A letter of an order that is there, one that names none, and a service without sagas.
  const kept = write(message(PaymentCompletedEvent, { orderId: other, amount: 1, currency: 'EUR' }))
  await publish({ destination: 'order_error', payload: kept })
  await publish({ destination: 'order', payload: 'no envelope' })
  await publish()
  const waiting = await until('they are letters', async () => {
    const { items } = await api.get(`${path}?status=waiting`)
    return items.length === 2 && items
  })
  for (const letter of waiting)
    t.match(await api.call('POST', `${path}/${letter.id}/undo`, { reason: 'x' }), {
      status: 409,
      body: { detail: /is there|no event/ }
    })
  const [mine] = await until('it is a letter', async () => {
    const { items } = await api.get(LETTERS)
    return items.length === 1 && items
  })
  t.match(await api.call('POST', `${LETTERS}/${mine.id}/undo`, { reason: 'x' }), {
    status: 409,
    body: { detail: /No saga/ }
  })
})

function write(sent: Message): string {
  return new EnvelopeWriter('loopback://localhost/', 'test').write(sent)
}
