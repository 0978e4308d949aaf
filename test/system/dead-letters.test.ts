import pg from 'pg'
import t, { type Test } from 'tap'
import { OLD_DELETED_LETTERS } from '../../packages/sagabox/src/messaging/dead-letters/deleted.ts'
import { oldInboxRows } from '../../packages/sagabox/src/messaging/inbox/old.ts'
import { OldRowsCleaner } from '../../packages/sagabox/src/messaging/postgres/old-rows.ts'
import type { Api, Answer } from '../support/api.ts'
import { startSystem, testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

const LETTERS = '/ops/payment/dead-letters'
const ORDERS = 12

t.setTimeout(120_000)

async function connect(t: Test, databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** Waits until a group retry has ended. */
function ended(api: Api, location: string): Promise<Answer['body']> {
  return until('the group retry has ended', async () => {
    const retry = await api.get(location)
    return retry.state !== 'running' && retry
  })
}

t.test(
  'payment breaks for a while: the operator sees the letters, mends the cause, sends the group back, and every order ends',
  async (t) => {
    const { api, databaseUrl } = await startSystem(t, 'memory', {
      settings: { redeliverySeconds: [], deadlineSeconds: 600 }
    })
    const database = await connect(t, databaseUrl)
    await api.putProduct('keyboard', 1000)
    await database.query('alter table payment_service.payments rename column amount to amount_away')
    const orderIds = await Promise.all(Array.from({ length: ORDERS }, () => api.placeOrder()))
    const groups = await until('all are dead letters', async () => {
      const found = await api.get(`${LETTERS}/groups`)
      return found.total === ORDERS && found
    })
    t.match(groups.groups, [
      {
        kind: 'error',
        status: 'waiting',
        type: 'StockReservedEvent',
        exception: 'DatabaseError 42703',
        count: ORDERS,
        reason: /column "amount".* does not exist/
      }
    ])

    await t.test('a list with filters and pages', async (t) => {
      const first = await api.get(
        `${LETTERS}?limit=5&type=StockReservedEvent&status=waiting&reason=COLUMN`
      )
      const second = await api.get(`${LETTERS}?limit=20&cursor=${first.nextCursor}`)
      t.equal(first.items.length, 5)
      t.equal(second.items.length, ORDERS - 5)
      t.same(
        new Set([...first.items, ...second.items].map(({ correlationId }) => correlationId)),
        new Set(orderIds)
      )
      for (const query of [
        'type=OrderCreatedEvent',
        'status=handled',
        'kind=skipped',
        'exception=TypeError',
        'from=2100-01-01T00:00:00Z',
        'to=2000-01-01T00:00:00Z'
      ])
        t.same((await api.get(`${LETTERS}?${query}`)).items, [], query)
      t.equal((await api.get(`${LETTERS}?correlationId=${orderIds[3]}`)).items.length, 1)
    })

    await t.test('one letter, whole', async (t) => {
      const [{ id }] = (await api.get(`${LETTERS}?correlationId=${orderIds[0]}`)).items
      const letter = await api.get(`${LETTERS}/${id}`)
      t.match(letter, {
        status: 'waiting',
        seen: 1,
        stack: String,
        payloadEncoding: 'utf8',
        headers: {
          'MT-Reason': 'fault',
          'MT-Fault-MessageType': 'urn:message:Contracts:StockReservedEvent'
        }
      })
      t.equal(letter.attempts.length, 4, 'the first try and three retries')
      t.match(JSON.parse(letter.payload), {
        messageId: letter.messageId,
        message: { orderId: orderIds[0] }
      })
      const { status, headers } = await api.call('GET', `${LETTERS}/${id}/payload`)
      t.equal(status, 200)
      t.equal(headers.get('content-length'), String(letter.bytes))
    })

    await t.test(
      'sent back while the cause is still there, the group stops after its first letters',
      async (t) => {
        const { status, headers, body } = await api.call('POST', `${LETTERS}/retry`, {
          type: 'StockReservedEvent',
          why: 'to see'
        })
        t.equal(status, 202)
        t.match(body, { state: 'running', perSecond: 20, filter: { type: 'StockReservedEvent' } })
        t.match(await ended(api, headers.get('location')!), {
          state: 'stopped',
          reason: /failed again/,
          sent: 6,
          failedAgain: Number,
          left: ORDERS - 6
        })
        t.match(await api.call('POST', `${headers.get('location')}/stop`, { why: 'enough' }), {
          status: 409
        })
      }
    )

    await database.query('alter table payment_service.payments rename column amount_away to amount')
    const { body: one } = await api.call('GET', `${LETTERS}?limit=1&status=waiting`)
    const retried = await api.call('POST', `${LETTERS}/${one.items[0].id}/retry`)
    t.match(retried, {
      status: 202,
      body: { status: 'retrying', messageId: one.items[0].messageId, warning: undefined }
    })
    await until(
      'it is handled',
      async () => (await api.get(`${LETTERS}/${one.items[0].id}`)).status === 'handled'
    )
    t.match(await api.call('POST', `${LETTERS}/${one.items[0].id}/retry`), {
      status: 409,
      body: { detail: /handled/ }
    })

    const { headers } = await api.call('POST', `${LETTERS}/retry`, {
      perSecond: 1000,
      why: 'mended'
    })
    t.match(await ended(api, headers.get('location')!), {
      state: 'done',
      sent: ORDERS - 1,
      handled: ORDERS - 1,
      failedAgain: 0,
      left: 0
    })
    for (const orderId of orderIds) t.match(await api.settled(orderId), { status: 'Completed' })
    t.match(await api.get('/products/keyboard'), { onHand: 1000 - ORDERS, reserved: ORDERS })
    t.match(
      (await api.get(`${LETTERS}/retries`)).items.map(({ state }: { state: string }) => state),
      ['done', 'stopped']
    )
  }
)

t.test(
  'a compensation that becomes a dead letter shows on the saga that waits for it',
  async (t) => {
    const { api, databaseUrl } = await startSystem(t, 'memory', {
      settings: { redeliverySeconds: [] }
    })
    const database = await connect(t, databaseUrl)
    await api.putProduct('keyboard', 10)
    // Reserving works, releasing does not.
    await database.query(`
    create function stock_service.refuse() returns trigger language plpgsql as $$ begin raise exception 'the warehouse is locked'; end $$;
    create trigger refuse before update on stock_service.reservations for each row execute function stock_service.refuse()`)
    const orderId = await api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' })
    const saga = await until('the saga knows why it waits', async () => {
      const found = await api.get(`/sagas/${orderId}`)
      return found.waitingFor?.lastError ? found : undefined
    })
    t.match(saga, {
      state: 'Failed.releasingStock',
      waitingFor: {
        lastError: {
          message:
            /^Fault<ReleaseStock>: DatabaseError P0001: the warehouse is locked \(node on \S+\)$/,
          type: 'ReleaseStock',
          at: String
        }
      }
    })
    await database.query('drop trigger refuse on stock_service.reservations')
    const [letter] = (await api.get('/ops/stock/dead-letters?type=ReleaseStock')).items
    t.match(await api.call('POST', `/ops/stock/dead-letters/${letter.id}/retry`), { status: 202 })
    t.match(await api.settled(orderId), { state: 'Failed.settled' })
  }
)

t.test('what an operator may get wrong, and what is kept of a deleted letter', async (t) => {
  const { api, databaseUrl, system } = await startSystem(t, 'memory', {
    settings: { inboxDays: 3 }
  })
  const database = await connect(t, databaseUrl)
  const { transport } = system
  await transport.publish({
    messageId: 'no uuid',
    destination: 'payment',
    required: true,
    payload: Buffer.from([1, 2, 0xff]),
    contentType: 'application/pdf',
    headers: { note: '<img src=x>' }
  })
  const [letter] = await until('it is a dead letter', async () => {
    const { items } = await api.get(LETTERS)
    return items.length > 0 && items
  })
  t.match(letter, {
    messageId: 'no uuid',
    type: null,
    exception: 'UnreadableMessage',
    reason: /^contentType: expected application\/vnd.masstransit\+json, got application\/pdf/,
    bytes: 3
  })
  t.match(await api.get(`${LETTERS}/${letter.id}`), {
    payload: 'AQL/',
    payloadEncoding: 'base64',
    contentType: 'application/pdf',
    headers: { note: '<img src=x>' }
  })

  for (const [method, path] of [
    ['GET', `${LETTERS}/4711`],
    ['GET', `${LETTERS}/4711/payload`],
    ['POST', `${LETTERS}/4711/retry`],
    ['DELETE', `${LETTERS}/4711?why=spam`],
    ['GET', `${LETTERS}/retries/4711`],
    ['POST', `${LETTERS}/retries/4711/stop`]
  ] as const) {
    t.match(
      await api.call(method, path, path.endsWith('/stop') ? { why: 'enough' } : undefined),
      { status: 404, body: { detail: /4711/ } },
      `${method} ${path}`
    )
  }
  for (const [query, field] of [
    ['status=lost', 'status'],
    ['kind=odd', 'kind'],
    ['from=yesterday', 'from'],
    ['limit=0', 'limit'],
    ['cursor=@', 'cursor'],
    ['colour=red', 'colour']
  ] as const) {
    t.match(
      await api.call('GET', `${LETTERS}?${query}`),
      { status: 400, body: { errors: [{ field }] } },
      query
    )
  }
  t.match(await api.call('GET', `${LETTERS}/abc`), {
    status: 400,
    body: { errors: [{ field: 'id' }] }
  })
  t.match(await api.call('POST', `${LETTERS}/retry`, { perSecond: 0, why: 'mended' }), {
    status: 400,
    body: { errors: [{ field: 'perSecond' }] }
  })
  t.match(await api.call('POST', `${LETTERS}/retry`, { everything: true, why: 'mended' }), {
    status: 400,
    body: { errors: [{ field: 'everything' }] }
  })

  await database.query(
    `update payment_service.dead_letter set first_seen_at = now() - interval '4 days'`
  )
  t.match(await api.call('POST', `${LETTERS}/${letter.id}/retry`), {
    status: 202,
    body: { warning: /older than the 3 days/ }
  })
  await until('it is back', async () => (await api.get(`${LETTERS}/${letter.id}`)).seen === 2)
  t.match(await api.call('DELETE', `${LETTERS}/${letter.id}?why=spam`), { status: 204 })
  t.match(await api.call('GET', `${LETTERS}/${letter.id}`), { status: 404 })
  const { rows } = await database.query(
    'select action, message_id, details from payment_service.dead_letter_audit order by id'
  )
  t.match(rows, [
    { action: 'retry' },
    {
      action: 'delete',
      message_id: 'no uuid',
      details: { why: 'spam', exception: 'UnreadableMessage' }
    }
  ])
})

t.test('the inbox forgets what is too old, a batch at a time, and nothing else', async (t) => {
  const { databaseUrl, system } = await startSystem(t, 'memory')
  const database = await connect(t, databaseUrl)
  await database.query(`
    insert into stock_service.inbox (message_id, endpoint, handled_at)
    select gen_random_uuid(), 'stock', now() - interval '8 days' from generate_series(1, 5000)
    union all select gen_random_uuid(), 'stock', now() - interval '6 days' from generate_series(1, 10)`)
  await database.query(
    `
      insert into stock_service.unfinished (message_id, endpoint,
        started_at) values (gen_random_uuid(), 'stock', now() - interval '8 days'),
        (gen_random_uuid(), 'stock', now())`
  )
  const cleaner = new OldRowsCleaner(
    system.service('stock').database,
    [...oldInboxRows(7), OLD_DELETED_LETTERS],
    testLog
  )
  t.equal(await cleaner.runOnce(), 5001, 'of the inbox 5000, and one start')
  t.match(
    (
      await database.query(
        'select (select count(*)::integer from stock_service.inbox) as inbox, (select count(*)::integer from stock_service.unfinished) as unfinished'
      )
    ).rows,
    [{ inbox: 10, unfinished: 1 }]
  )
})

t.test('the outbox tells who sends', async (t) => {
  const { api } = await startSystem(t, 'memory')
  const status = await until('a relay leads', async () => {
    const found = await api.get('/ops/stock/outbox')
    return found.leader !== null && found
  })
  t.match(status, {
    pending: 0,
    postponed: 0,
    leader: { application: 'sagabox relay stock_service', since: /^\d{4}-/ }
  })
})
