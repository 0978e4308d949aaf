// The way an instance has gone, step by step, and its messages over all services.
import { randomUUID } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import t from 'tap'
import { shopTopology } from '../../src/shop.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

/** No request may hold others up for longer, ms. */
const LONGEST_STANDSTILL_MS = 200

t.test('steps with contexts, what can still come, the usual', async (t) => {
  let gate!: GatedTransport
  const { api } = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  await api.putProduct('keyboard', 10)
  await api.settled(await api.placeOrder())
  gate.hold('payment', 'StockReservedEvent')
  const id = await api.placeOrder()
  await until('it is priced', async () => (await api.get(`/sagas/${id}`)).version === 2)

  const path = await api.get(`/sagas/${id}/path`)
  t.match(path, {
    state: 'Suspend.takingPayment',
    stepsBefore: null,
    steps: [
      {
        sequence: 1,
        event: 'OrderCreatedEvent',
        from: null,
        to: 'Suspend.reservingStock',
        context: { orderId: id, total: null },
        changed: [],
        msInState: Number
      },
      {
        sequence: 2,
        event: 'StockReservedEvent',
        context: { total: 1000, currency: 'EUR' },
        changed: [
          { path: 'total', before: null, after: 1000 },
          { path: 'currency', before: null, after: 'EUR' }
        ]
      }
    ],
    timer: { at: String, to: 'Failed.releasingStock' },
    usual: { 'Suspend.takingPayment': { p50Ms: Number, p95Ms: Number, of: 1 } }
  })
  t.same(path.reachable, [
    'Completed',
    'Failed.releasingStock',
    'Failed.refunding',
    'Failed.settled'
  ])
  t.match(await api.get(`/sagas/${id}/path?before=2`), {
    steps: [{ sequence: 1 }],
    stepsBefore: null
  })
  t.match(await api.get(`/sagas/${id}/path?limit=1`), {
    steps: [{ sequence: 2, changed: [{ path: 'total' }, { path: 'currency' }] }],
    stepsBefore: 2
  })

  const traced = await api.get(`/sagas/${id}/messages`)
  t.match(traced, {
    messages: [
      {
        contract: 'OrderCreatedEvent',
        kind: 'event',
        from: 'order',
        to: ['stock'],
        causedBy: null,
        hops: [{ service: 'stock', state: 'handled', waitedMs: Number, error: null }]
      },
      {
        contract: 'StockReservedEvent',
        from: 'stock',
        to: ['order', 'payment'],
        hops: [
          { service: 'stock', state: 'broker' },
          { service: 'order', state: 'handled' }
        ]
      }
    ],
    unknown: []
  })
  t.equal(traced.messages[1].causedBy, traced.messages[0].messageId)

  gate.release('payment', 'StockReservedEvent')
  await api.settled(id)
  t.match((await api.get(`/sagas/${id}/path`)).steps.at(-1), { to: 'Completed', msInState: null })
  const done = await api.get(`/sagas/${id}/messages`)
  t.same(
    done.messages.map(({ contract, hops }: { contract: string; hops: { state: string }[] }) => [
      contract,
      ...hops.map(({ state }) => state)
    ]),
    [
      ['OrderCreatedEvent', 'handled'],
      ['StockReservedEvent', 'handled', 'handled'],
      ['PaymentCompletedEvent', 'handled'],
      ['OrderCompletedEvent']
    ]
  )
  for (const part of ['path', 'messages']) {
    t.match(await api.call('GET', `/sagas/${randomUUID()}/${part}`), { status: 404 })
    t.match(await api.call('GET', `/sagas/x/${part}`), { status: 400 })
  }
  t.match(await api.call('GET', `/sagas/${id}/path?limit=101`), {
    status: 400,
    body: { errors: [{ field: 'limit' }] }
  })
})

t.test('ten thousand steps hold nobody up, and long values are cut', async (t) => {
  const { api, system } = await startSystem(t, 'memory')
  await api.putProduct('keyboard', 10)
  const id = await api.placeOrder()
  await api.settled(id)
  const { database } = system.service('order')
  await database.rows(
    `insert into saga_history (saga, saga_id, sequence, event, body, message_id, from_state,
       to_state, sent, note, machine_version)
     select saga, saga_id, 3 + n, event, body || jsonb_build_object('pad', repeat('x', 1000)),
       gen_random_uuid(), 'Completed', 'Completed',
       jsonb_build_array(jsonb_build_object('type', repeat('y', 200), 'messageId', gen_random_uuid())),
       'ignored: already completed', machine_version
     from saga_history, generate_series(1, 10000) as n where saga_id = $1 and sequence = 2`,
    [id]
  )
  await database.rows('update saga set version = 10003 where saga_id = $1', [id])
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const { steps, stepsBefore } = await api.get(`/sagas/${id}/path`)
  const { messages } = await api.get(`/sagas/${id}/messages`)
  const { finding } = await api.get(`/sagas/${id}/explanation`)
  delay.disable()
  t.equal(steps.length, 100)
  t.equal(stepsBefore, 9904)
  t.equal(messages.length, 100)
  t.equal(finding, 'ended')
  t.ok(
    delay.max / 1e6 < LONGEST_STANDSTILL_MS,
    `the longest standstill was ${(delay.max / 1e6).toFixed()} ms`
  )
})
