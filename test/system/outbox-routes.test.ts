import t from 'tap'
import type {
  PublishOutcome,
  Transport
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

const CREATED = 'Contracts:OrderCreatedEvent'

t.test('what no queue takes is listed by destination, and given up with a reason', async (t) => {
  const refusing = { yes: true }
  const { api, system } = await startSystem(t, 'memory', {
    wrap: (transport) =>
      new Proxy(transport, {
        get(target, key) {
          const value: unknown = Reflect.get(target, key, target)
          if (key === 'publish') {
            const publish: Transport['publish'] = (message): Promise<PublishOutcome> =>
              refusing.yes && message.destination === CREATED
                ? Promise.resolve('refused')
                : target.publish(message)
            return publish
          }
          return typeof value === 'function' ? value.bind(target) : value
        }
      })
  })
  await api.putProduct('keyboard', 10)
  const orderIds = [await api.placeOrder(), await api.placeOrder(), await api.placeOrder()]
  const status = await until('all are put off', async () => {
    const found = await api.get('/ops/order/outbox')
    return found.putOff[0]?.rows === 3 && found
  })
  t.match(status, {
    pending: 3,
    atLeast: false,
    postponed: 3,
    lastError: /^refused/,
    putOff: [{ destination: CREATED, rows: 3, atLeast: false, reason: /^refused/ }]
  })

  const rows = '/ops/order/outbox/rows'
  // The oldest is not among them while it is tried.
  const first = await until('the first page is full', async () => {
    const page = await api.get(`${rows}?limit=2&destination=${encodeURIComponent(CREATED)}`)
    return page.nextCursor !== null && page
  })
  t.match(
    first.items,
    orderIds.slice(0, 2).map((orderId) => ({
      destination: CREATED,
      putOff: 'refused',
      payload: new RegExp(orderId),
      payloadEncoding: 'utf8',
      required: true
    }))
  )
  const rest = await api.get(`${rows}?limit=2&cursor=${first.nextCursor}`)
  t.match(rest, { items: [{ payload: new RegExp(orderIds[2]!) }], nextCursor: null })
  t.same(await api.get(`${rows}?destination=nowhere`), { items: [], nextCursor: null })

  const { id, messageId } = first.items[1]
  for (const [path, body, expected] of [
    [`${rows}/${id}/discard`, {}, 400],
    [`${rows}/${id}/discard`, { reason: '' }, 400],
    [`${rows}/${id}/discard`, { reason: 'a\u0000b' }, 400],
    [`${rows}/x/discard`, { reason: 'why' }, 400],
    [`${rows}/999999999999999/discard`, { reason: 'why' }, 404]
  ] as const) {
    t.equal(
      (await api.call('POST', path, body)).status,
      expected,
      `${path} ${JSON.stringify(body)}`
    )
  }
  for (const query of ['cursor=eA', 'destination=%00', 'destination=', 'limit=0'])
    t.equal((await api.call('GET', `${rows}?${query}`)).status, 400, query)
  t.match(
    await api.call('POST', `${rows}/${id}/discard`, { reason: 'the customer went elsewhere' }),
    { status: 200, body: { id, messageId, status: 'discarded' } }
  )
  t.equal((await api.call('POST', `${rows}/${id}/discard`, { reason: 'once more' })).status, 404)
  t.match(await api.get('/ops/order/outbox/discarded'), {
    items: [
      {
        id,
        messageId,
        discardReason: 'the customer went elsewhere',
        payload: new RegExp(orderIds[1]!)
      }
    ],
    nextCursor: null
  })
  t.match(await api.get(`/ops/order/outbox/discarded/${id}`), {
    id,
    headers: null,
    payload: new RegExp(orderIds[1]!)
  })
  t.equal((await api.call('GET', '/ops/order/outbox/discarded/1')).status, 404)

  // A row that only waits for its time, or is on its way, is nobody's to discard.
  const [later] = await system.service('order').database.rows(
    `
        insert into outbox (message_id, destination, required, payload,
          due_at) values (gen_random_uuid(), 'order', false, '{}', now() + interval '1 hour')
          returning id`
  )
  t.match(await api.call('POST', `${rows}/${later.id}/discard`, { reason: 'why' }), {
    status: 409,
    body: { detail: /not put off/ }
  })
  await system.service('order').database.rows('delete from outbox where id = $1', [later.id])

  refusing.yes = false
  for (const orderId of [orderIds[0]!, orderIds[2]!])
    t.match(await api.settled(orderId), { state: 'Completed' })
  t.match(await api.get(`/sagas/${orderIds[1]}`), { state: 'Suspend.reservingStock' })
  await until('nothing is put off', async () => (await api.get('/ops/order/outbox')).pending === 0)
})
