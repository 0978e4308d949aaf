import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { OrderCreatedEvent } from '../../src/contracts/order.ts'
import { PaymentCompletedEvent } from '../../src/contracts/payment.ts'
import { StockReservedEvent } from '../../src/contracts/stock.ts'
import { message, type Message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { transaction } from '../../packages/sagabox/src/messaging/postgres/sql.ts'
import { orderMachine } from '../../src/saga/machine.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { SagaHost } from '../../packages/sagabox/src/saga/run/host.ts'
import { readRecording } from '../../packages/sagabox/src/saga/store/recording.ts'
import { shopTopology } from '../../src/shop.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { renamedSaga, toCharging } from '../support/renamed-state.ts'
import { runCommand } from '../support/cli.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { startSystem, watched, type TestSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.test('a deploy that renames a state', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { settings: { deadlineSeconds: 600 } })
  const { database } = system.service('order')
  await api.putProduct('keyboard', 10)
  await api.settled(await api.placeOrder())
  const waiting = await Promise.all(
    Array.from({ length: 3 }, () => api.placeOrder({ paymentMethod: 'pm_sim_unavailable' }))
  )
  for (const orderId of waiting)
    await until(
      'payment is asked',
      async () => (await api.get(`/sagas/${orderId}`)).state === 'Suspend.takingPayment'
    )

  await t.test('saga:check against what runs: all is well', async (t) => {
    const { code, out } = await check(system.url)
    t.equal(code, 0)
    t.match(
      out,
      /Saga order, version 2: 4 instances read from http.*\n +4 {2}replay as recorded\n +0 {2}diverge\n +0 {2}are stranded/
    )
  })

  await t.test('saga:check against the new machine names those that it would strand', async (t) => {
    const { code, out } = await check(
      `${system.url}/sagas/export?since=2026-01-01T00:00:00Z`,
      '--app',
      'test/support/renamed-order.ts'
    )
    t.equal(code, 1)
    t.match(
      out,
      / 4 {2}state: "Suspend.takingPayment" recorded, "Suspend.charging" replayed, by StockReservedEvent in Suspend.reservingStock\n/
    )
    t.match(out, /Stranded, by state\n +3 {2}Suspend.takingPayment of version 2\n/)
    for (const orderId of waiting) t.match(out.slice(out.indexOf('Stranded, by state')), orderId)
  })

  await t.test('saga:check against the new machine with migrate says whom it moves', async (t) => {
    const { code, out } = await check(system.url, '--app', 'test/support/migrating-order.ts')
    t.equal(code, 0)
    t.match(out, /Saga order, version 3: 4 instances/)
    t.match(
      out,
      / 4 {2}are taken as recorded, wholly or in part: by versions of the machine that are not here\n +0 {2}diverge\n +0 {2}are stranded/
    )
    t.match(out, / 3 {2}Suspend.takingPayment of version 2 -> Suspend.charging\n/)
  })

  const paidOf = (orderId: string) =>
    message(PaymentCompletedEvent, { orderId, amount: 1000, currency: 'EUR' })
  const handle = (host: SagaHost, messages: Message[]) =>
    transaction(database, (tx) => host.handler().handle(messages, tx))
  const [first, second, third] = waiting as [string, string, string]

  await t.test(
    'deployed without it, events fail, tell what to do, and change nothing',
    async (t) => {
      await t.rejects(handle(new SagaHost(renamedSaga({ version: 3 })), [paidOf(first)]), {
        name: 'Stranded',
        message: new RegExp(`order saga ${first} is on version 2 of its machine`)
      })
      t.match(await api.get(`/sagas/${first}`), {
        state: 'Suspend.takingPayment',
        version: 2,
        machineVersion: 2
      })
    }
  )

  await t.test('deployed with it, they move, and the rest of the batch with them', async (t) => {
    const host = new SagaHost(renamedSaga({ version: 3, migrate: toCharging }))
    await handle(host, [paidOf(first), paidOf(second)])
    const orderId = '01890000-0000-7000-8000-00000000000a'
    await transaction(database, (tx) =>
      host.start(
        tx,
        [
          message(OrderCreatedEvent, {
            orderId,
            customerId: 'ada',
            items: [{ productId: 'keyboard', quantity: 1 }],
            paymentMethod: 'pm_card_visa'
          })
        ],
        new Date()
      )
    )
    t.match(await api.get(`/sagas/${orderId}`), {
      machineVersion: 3,
      history: [{ machineVersion: 3 }]
    })
    t.match(await api.get(`/sagas/${first}`), {
      state: 'Completed',
      version: 4,
      machineVersion: 3,
      history: [
        { machineVersion: 2 },
        { machineVersion: 2 },
        {
          event: 'migrate',
          from: 'Suspend.takingPayment',
          to: 'Suspend.charging',
          machineVersion: 3
        },
        { event: 'PaymentCompletedEvent', to: 'Completed', machineVersion: 3 }
      ]
    })
    t.match(await api.get(`/orders/${second}`), { status: 'Completed' })
  })

  await t.test('deployed side by side, versions mix in one batch', async (t) => {
    const host = new SagaHost(renamedSaga({ version: 3, previous: { 2: orderMachine(30) } }))
    const orderId = '01890000-0000-7000-8000-00000000000a'
    const order = {
      orderId,
      customerId: 'ada',
      items: [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod: 'pm_card_visa'
    }
    await handle(host, [
      message(StockReservedEvent, { ...order, total: 1000, currency: 'EUR' }),
      paidOf(third),
      paidOf(orderId)
    ])
    t.match(await api.get(`/sagas/${third}`), {
      state: 'Completed',
      machineVersion: 2,
      history: [{}, {}, { event: 'PaymentCompletedEvent', machineVersion: 2 }]
    })
    t.match(await api.get(`/sagas/${orderId}`), {
      state: 'Completed',
      machineVersion: 3,
      history: [{}, {}, { event: 'PaymentCompletedEvent', machineVersion: 3 }]
    })
  })

  await t.test('rolled back, an instance of the newer version waits for it', async (t) => {
    await t.rejects(handle(new SagaHost(orderSaga(30)), [paidOf(first)]), {
      name: 'Stranded',
      message: /is on version 3 of its machine, and this process has version 2: run version 3/
    })
    t.match(await api.get(`/sagas/${first}`), { accepts: [], waitingFor: null })
    t.match(await api.get(`/sagas/${first}/replay`), { consistent: true, unknownVersions: 2 })
  })
})

t.test(
  'an event of an instance that no machine here can move is kept, and moves it once the deploy is mended',
  async (t) => {
    let gate!: GatedTransport
    const { api, system } = await startSystem(t, 'memory', {
      settings: { redeliverySeconds: [] },
      wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
    })
    const { database } = system.service('order')
    await api.putProduct('keyboard', 10)
    gate.hold('order', 'PaymentCompletedEvent')
    const [stranded, healthy] = [await api.placeOrder(), await api.placeOrder()]
    for (const orderId of [stranded, healthy])
      await until(
        'payment has answered',
        async () => (await api.call('GET', `/payments/${orderId}`)).body.status === 'Completed'
      )
    // As if a copy of the next version had moved it, and been rolled back.
    await database.rows('update saga set machine_version = 3 where saga_id = $1', [stranded])
    gate.release('order', 'PaymentCompletedEvent')
    t.match(await api.settled(healthy), { state: 'Completed' })
    const letter = await until(
      'it is a dead letter',
      async () => (await api.get('/ops/order/dead-letters')).items[0]
    )
    t.match(letter, {
      exception: 'Stranded',
      reason: new RegExp(
        `order saga ${stranded} is on version 3 of its machine, and this process has version 2: run version 3`
      )
    })
    for (const request of [`/orders/${stranded}/cancel`, `/sagas/${stranded}/retry`]) {
      t.match(
        await api.call('POST', request),
        {
          status: 503,
          body: {
            detail: /is on version 3 of its machine, and this process has version 2: run version 3/
          }
        },
        request
      )
    }
    await database.rows('update saga set machine_version = 2 where saga_id = $1', [stranded])
    t.match(await api.call('POST', `/ops/order/dead-letters/${letter.id}/retry`), { status: 202 })
    t.match(await api.settled(stranded), { state: 'Completed' })
    await settled(watched(system, gate))
  }
)

t.test('GET /sagas/export: all, a state, a time, a number', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'] })
  const orderIds: string[] = []
  for (let order = 0; order < 250; order++) orderIds.push(await api.placeOrder())
  await system
    .service('order')
    .database.rows(`update saga set updated_at = '2026-01-01' where saga_id < $1`, [orderIds[240]])
  const exported = async (query: string) =>
    (await api.call('GET', `/sagas/export${query}`)).text
      .trimEnd()
      .split('\n')
      .filter(Boolean)
      .map(readRecording)
      .map(({ sagaId }) => sagaId)
  t.same(await exported(''), orderIds.toReversed(), 'over several pages, newest first')
  t.same(await exported('?limit=101'), orderIds.toReversed().slice(0, 101))
  t.equal((await exported('?state=Suspend')).length, 250)
  t.same(await exported('?state=Completed'), [])
  t.same(await exported('?since=2026-01-02T00:00:00Z'), orderIds.slice(240).toReversed())
  const { headers } = await api.call('GET', '/sagas/export?limit=1')
  t.equal(headers.get('content-type'), 'application/x-ndjson')
  for (const [query, field] of [
    ['limit=0', 'limit'],
    ['limit=many', 'limit'],
    ['state=Nowhere', 'state'],
    ['since=yesterday', 'since'],
    ['since=0000-01-01T00:00:00Z', 'since'],
    ['since=9999-12-31T23:59:59-23:00', 'since'],
    ['all=1', 'all']
  ] as const) {
    t.match(
      await api.call('GET', `/sagas/export?${query}`),
      { status: 400, body: { errors: [{ field }] } },
      query
    )
  }
  t.ok(
    (await api.get('/openapi.json')).paths['/sagas/export'].get.responses['200'].content[
      'application/x-ndjson'
    ].schema.properties.history
  )
})

t.test('GET /sagas/export reads on only as its client reads', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'] })
  await api.placeOrder()
  const { database } = system.service('order')
  // 40 MB: more than all buffers in between.
  await database.rows(`
    insert into saga (saga, saga_id, state, value, context, version, timers)
    select saga, gen_random_uuid(), state, value, context || jsonb_build_object('filling',
      repeat('x', 20000)), version, '[]' from saga, generate_series(1, 2000)`)
  const reads = countReads(system.service('order').requests.database)
  const response = await new Promise<IncomingMessage>((resolve, reject) =>
    get(`${system.url}/sagas/export`, resolve).on('error', reject)
  )
  response.pause()
  await until('the server waits for its client', async () => {
    const before = reads.count
    for (let request = 0; request < 20; request++) await api.get('/sagas?limit=1')
    return before > 0 && reads.count === before
  })
  t.ok(reads.count < 100, `${reads.count} of some 160 pages of 256 KiB were read`)
  response.destroy()
  await until('the connection is closed', async () => response.destroyed)
  t.match(await api.get('/health/live'), { status: 'live' })
})

t.test('saga:check says what it cannot read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sagabox-check-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'export.ndjson')
  const refused = async (text: string, expected: RegExp) => {
    writeFileSync(file, text)
    const { code, err } = await check(file)
    t.match({ code, err }, { code: 2, err: expected })
  }
  const good = JSON.stringify({
    saga: 'order',
    sagaId: 'x',
    state: 'Completed',
    value: 'Completed',
    context: {},
    version: 0,
    machineVersion: 1,
    timers: [],
    deferred: null,
    createdAt: '',
    updatedAt: '',
    history: []
  })
  await refused(
    `${good}\n{"saga":\n`,
    /export.ndjson, line 2: expected one JSON object a line, as GET \/sagas\/export writes it; got \{"saga":/
  )
  await refused(
    good.replace('"history":[]', '"history":[{"sequence":"1"}]'),
    /line 1: history\[0\]\.\w+ /
  )
  await refused(
    good.replace('"order"', '"parcel"'),
    /line 1: saga must be "order", the saga that is checked; it is "parcel"/
  )
  t.match(await check(join(folder, 'nothing')), {
    code: 3,
    err: /could not be read to its end: ENOENT/
  })
  t.match(await check('http://127.0.0.1:1'), {
    code: 3,
    err: /http:\/\/127.0.0.1:1 cannot be reached/
  })
  t.match(await check(file, '--app', 'test/support/latch.ts'), {
    code: 2,
    err: /latch.ts exports no saga, and no service that has one/
  })
  t.match(await check(), { code: 0, out: 'order: nothing found\n' })
})

const check = (...args: string[]) => runCommand(['saga', 'check', ...args])

/** Pages of an export that the database was asked for. */
function countReads(database: ReturnType<TestSystem['system']['service']>['database']): {
  count: number
} {
  const reads = { count: 0 }
  const query = database.rows.bind(database) as (
    text: string,
    values?: unknown[]
  ) => Promise<unknown>
  database.rows = ((text: string, values?: unknown[]) => {
    if (text.includes('jsonb_build_object')) reads.count++
    return query(text, values)
  }) as typeof database.rows
  return reads
}
