import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createMachine, type AnyStateMachine } from 'xstate'
import { Database } from '../../packages/sagabox/src/messaging/postgres/database.ts'
import {
  command,
  event,
  message,
  type Message
} from '../../packages/sagabox/src/messaging/message/message.ts'
import { transaction, type Tx } from '../../packages/sagabox/src/messaging/postgres/sql.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { defer, ignore, sagaActions, send } from '../../packages/sagabox/src/saga/define.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'
import { SagaHost } from '../../packages/sagabox/src/saga/run/host.ts'
import { SagaInspector } from '../../packages/sagabox/src/saga/inspect/inspect.ts'
import { shopTopology } from '../../src/shop.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { postgresForTests } from '../support/postgres.ts'
import type { Api } from '../support/api.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { orderSagas, startSystem, testLog, watched, type TestSystem } from '../support/system.ts'
import { until } from '../support/until.ts'
import { migrationsOf } from '../support/migrations.ts'

const schema = Type.Object({ id: Type.String({ format: 'uuid' }) })
const Begun = event('BegunEvent', { owner: 'a', correlateBy: 'id', schema })
const Reserved = event('ReservedEvent', { owner: 'b', correlateBy: 'id', schema })
const Paid = event('PaidEvent', { owner: 'b', correlateBy: 'id', schema })
const Shipped = event('ShippedEvent', { owner: 'b', correlateBy: 'id', schema })
const Thank = command('Thank', { owner: 'b', correlateBy: 'id', schema })

/** Reserved, then paid, then shipped, in whatever order the events come. */
const parcel = defineSaga({
  name: 'parcel',
  startedBy: Begun,
  handles: [Reserved, Paid, Shipped],
  machine: createMachine({
    id: 'parcel',
    context: ({ input }: { input: { id: string } }) => ({ id: input.id }),
    initial: 'Reserving',
    states: {
      Reserving: {
        on: { ReservedEvent: 'Paying', PaidEvent: defer(), ShippedEvent: defer() },
        after: { 60_000: 'Done' }
      },
      Paying: {
        on: {
          PaidEvent: 'Shipping',
          ShippedEvent: defer(),
          ReservedEvent: ignore('reserved before')
        },
        after: { 60_000: 'Done' }
      },
      Shipping: {
        entry: send(Thank, ({ id }: { id: string }) => ({ id })),
        on: { ShippedEvent: 'Done' },
        after: { 60_000: 'Done' }
      },
      Done: { tags: 'end' }
    }
  } as never).provide({ actions: sagaActions } as never) as AnyStateMachine
})

t.test(
  'events that come too early are kept in the row, and come again in their order when the state changes',
  async (t) => {
    const { host, inspector, inTransaction, handle } = await open(t)
    const id = randomUUID()
    const [begun, shipped, paid, paidAgain, reserved] = [Begun, Shipped, Paid, Paid, Reserved].map(
      (contract) => message(contract, { id })
    )
    await inTransaction((tx) => host.start(tx, [begun!], new Date()))
    await handle([shipped!])
    await handle([paid!, paidAgain!])
    t.match(await inspector.get(id), {
      state: 'Reserving',
      deferred: [
        { event: 'ShippedEvent', messageId: shipped!.messageId },
        { event: 'PaidEvent' },
        { event: 'PaidEvent' }
      ]
    })
    t.match(await inspector.replay(id), { consistent: true })

    const sent = await handle([reserved!])
    const saga = await inspector.get(id)
    t.same(
      saga!.history.map(({ event: name, from, to, note }) => [name, from, to, note]),
      [
        ['BegunEvent', null, 'Reserving', null],
        ['ShippedEvent', 'Reserving', 'Reserving', 'deferred'],
        ['PaidEvent', 'Reserving', 'Reserving', 'deferred'],
        ['PaidEvent', 'Reserving', 'Reserving', 'deferred'],
        ['ReservedEvent', 'Reserving', 'Paying', null],
        // Shipped is deferred once more, which is no step.
        ['PaidEvent', 'Paying', 'Shipping', 'deferred earlier'],
        ['ShippedEvent', 'Shipping', 'Done', 'deferred earlier'],
        [
          'PaidEvent',
          'Done',
          'Done',
          'deferred earlier; undecided: Done says nothing about PaidEvent'
        ]
      ]
    )
    t.equal(
      saga!.history[6]!.messageId,
      shipped!.messageId,
      'under the id of the message that brought it'
    )
    t.match(saga, { state: 'Done', deferred: [], waitingFor: null })
    t.match(
      sent,
      [{ contract: Thank, conversationId: paid!.conversationId, initiatorId: id }],
      'what it causes belongs to its own conversation'
    )
    t.match(await inspector.replay(id), { consistent: true, steps: 8 })
  }
)

t.test('replay tells when events were kept that the machine of today would not keep', async (t) => {
  const { host, inspector, inTransaction, handle, database } = await open(t)
  const id = randomUUID()
  await inTransaction((tx) => host.start(tx, [message(Begun, { id })], new Date()))
  await handle([message(Paid, { id })])
  await database.rows('update saga set deferred = null')
  t.match(await inspector.replay(id), {
    consistent: false,
    firstDifference: { what: 'deferred', recorded: [], replayed: [String] }
  })
})

t.test(
  'an event that is ignored on purpose says why, and one that nobody thought of is told apart',
  async (t) => {
    const { host, inspector, inTransaction, handle } = await open(t)
    const id = randomUUID()
    await inTransaction((tx) => host.start(tx, [message(Begun, { id })], new Date()))
    await handle([message(Reserved, { id }), message(Reserved, { id })])
    t.match(
      (await inspector.get(id))!.history.map(({ note }) => note),
      [null, null, 'ignored: reserved before']
    )
  }
)

t.test(
  'a compensation that nobody answers is sent again, listed as stuck, and retried by hand',
  async (t) => {
    let gate!: GatedTransport
    const running = await startSystem(t, 'memory', {
      wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
    })
    const { api, system } = running
    const { database } = system.service('order')
    await api.putProduct('keyboard', 10)
    gate.hold('stock', 'ReleaseStock')
    const declined = { paymentMethod: 'pm_card_chargeDeclined' }
    const [first, second, healthy] = [
      await api.placeOrder(declined),
      await api.placeOrder(declined),
      await api.placeOrder(declined)
    ]
    for (const orderId of [first, second, healthy])
      await inState(api, orderId, 'Failed.releasingStock')
    t.match(
      await api.get('/sagas?stuck=true'),
      { items: [], nextCursor: null },
      'who waits within the time that is allowed is not stuck'
    )
    t.match(await api.get(`/sagas/${first}`), {
      stuckSince: null,
      waitingFor: { commands: ['ReleaseStock'], attempts: 1, lastError: null }
    })

    const pauses: number[] = []
    for (let sends = 2; sends <= 8; sends++) {
      await fire(running, first, sends)
      const { timers, history } = await api.get(`/sagas/${first}`)
      pauses.push(Math.round((Date.parse(timers[0].dueAt) - Date.parse(history.at(-1).at)) / 1000))
    }
    t.same(
      pauses,
      [60, 120, 240, 480, 900, 900, 900],
      'each pause is twice as long, up to a quarter of an hour'
    )
    await fire(running, second, 2)

    await t.test('stalest first, page by page', async (t) => {
      const stuck = await api.get('/sagas?stuck=true&limit=1')
      t.match(stuck, { items: [{ sagaId: first, state: 'Failed.releasingStock' }] })
      t.equal(stuck.items.length, 1)
      const rest = await api.get(`/sagas?stuck=true&limit=1&cursor=${stuck.nextCursor}`)
      t.match(rest, { items: [{ sagaId: second }], nextCursor: null })
      t.ok(stuck.items[0].stuckSince < rest.items[0].stuckSince)
      t.same(
        (await api.get('/sagas?stuck=true&state=Failed')).items.map(
          ({ sagaId }: { sagaId: string }) => sagaId
        ),
        [first, second]
      )
      t.same((await api.get('/sagas?stuck=true&state=Suspend')).items, [])
      t.match(await api.get('/sagas/summary'), { Failed: 3, stuck: 2 })
      t.equal((await api.call('GET', '/sagas?stuck=false')).status, 400)
      for (const cursor of ['x', '2026-99-99T00:00:00.000Z_' + first, `1_${first}0`])
        t.equal(
          (
            await api.call(
              'GET',
              `/sagas?stuck=true&cursor=${Buffer.from(cursor).toString('base64url')}`
            )
          ).status,
          400,
          cursor
        )
    })

    await t.test('the last error shows what it waits for in vain', async (t) => {
      const host = new SagaHost(orderSaga(30))
      const faults = [first, second].map((sagaId) => ({
        sagaId,
        at: '2026-01-01T00:00:00.000Z',
        message: 'relation "reservations" does not exist',
        type: 'ReleaseStock'
      }))
      await transaction(database, async (tx) =>
        host.recordFaults(tx, [
          ...faults,
          { ...faults[0]!, message: 'and again' },
          { ...faults[0]!, sagaId: randomUUID() }
        ])
      )
      const { waitingFor, history } = await api.get(`/sagas/${first}`)
      t.match(waitingFor, {
        events: [
          'StockReleasedEvent',
          'StockReservedEvent',
          'PaymentCompletedEvent',
          'PaymentFailedEvent'
        ],
        attempts: 8,
        lastError: { message: 'and again', type: 'ReleaseStock', at: '2026-01-01T00:00:00.000Z' }
      })
      t.equal(
        waitingFor.since,
        history.find(({ event: name }: { event: string }) => name === 'PaymentFailedEvent').at
      )
      t.match((await api.get(`/sagas/${second}`)).waitingFor, {
        lastError: { message: 'relation "reservations" does not exist' }
      })
      t.match((await api.get(`/sagas/${healthy}`)).waitingFor, { lastError: null })

      // An event is at work on the instance, and commits after the fault has begun to wait for it.
      const moving = await database.session()
      await moving.query('begin')
      const { rows: moved } = await moving.query<{ pid: number }>(
        'update saga set updated_at = now() where saga_id = $1 returning pg_backend_pid() as pid',
        [first]
      )
      const [{ pid }] = moved as [{ pid: number }]
      const recording = transaction(database, async (tx) =>
        host.recordFaults(tx, [{ ...faults[0]!, message: 'while it moved' }])
      )
      await until(
        'it waits',
        async () =>
          (
            await database.rows(
              'select 1 from pg_stat_activity where $1 = any(pg_blocking_pids(pid))',
              [pid]
            )
          ).length > 0
      )
      await moving.query('commit')
      moving.release()
      await recording
      t.match((await api.get(`/sagas/${first}`)).waitingFor, {
        lastError: { message: 'while it moved' }
      })
    })

    await t.test('a retry sends the command again and is on the record', async (t) => {
      const { status, body } = await api.call('POST', `/sagas/${first}/retry`)
      t.match(
        { status, body },
        {
          status: 202,
          body: { sagaId: first, state: 'Failed.releasingStock', sent: [{ type: 'ReleaseStock' }] }
        }
      )
      const { history, waitingFor } = await api.get(`/sagas/${first}`)
      t.match(history.at(-1), {
        event: 'retry',
        messageId: null,
        from: 'Failed.releasingStock',
        to: 'Failed.releasingStock',
        sent: body.sent,
        note: null
      })
      t.equal(waitingFor.attempts, 9)
      t.equal(
        new Set(
          history.flatMap(({ sent }: { sent: { messageId: string }[] }) =>
            sent.map(({ messageId }) => messageId)
          )
        ).size,
        10,
        'every message has an id of its own'
      )
      t.match(await api.get(`/sagas/${first}/replay`), { consistent: true })
      t.equal((await api.call('POST', `/sagas/${randomUUID()}/retry`)).status, 404)
    })

    await t.test('once it is answered all is well', async (t) => {
      gate.release('stock', 'ReleaseStock')
      for (const orderId of [first, second, healthy])
        t.match(await api.settled(orderId), { stuckSince: null, waitingFor: null })
      await settled(watched(running.system, gate))
      t.match(
        await api.get('/products/keyboard'),
        { onHand: 10, reserved: 0 },
        'nine releases give back once'
      )
      const { history } = await api.get(`/sagas/${first}`)
      t.same(
        history.slice(-8).map(({ note }: { note: string }) => note),
        Array.from({ length: 8 }, () => 'ignored: already released')
      )
      t.match(await api.get(`/sagas/${first}/replay`), { consistent: true })
      t.same((await api.get('/sagas?stuck=true')).items, [])
      const [row]: { last_error: unknown }[] = await database.rows(
        'select last_error from saga where saga_id = $1',
        [first]
      )
      t.equal(row!.last_error, null)
      t.match(await api.call('POST', `/sagas/${first}/retry`), {
        status: 409,
        body: { detail: /waits for the answer to no command/ }
      })
    })
  }
)

t.test(
  'an order that began to wait before commands were sent again gets its timer by the migration',
  async (t) => {
    const running = await startSystem(t, 'memory', {
      services: ['order'],
      settings: { deadlineSeconds: 0.1 }
    })
    const { api, system } = running
    const orderId = await api.placeOrder()
    await inState(api, orderId, 'Failed.releasingStock')
    const { database } = system.service('order')
    await database.rows(`update saga set timers = '[]', next_timer_at = null`)
    await database.rows(
      readFileSync(
        new URL('../../migrations/order/202611240910-resend-compensations.sql', import.meta.url),
        'utf8'
      )
    )
    t.match(await api.get(`/sagas/${orderId}`), { timers: [{ event: 'after resend' }] })
    await fire(running, orderId, 2)
    t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true, steps: 3 })
  }
)

t.test('an instance that the machine cannot load is stuck, with the reason', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'] })
  const orderId = await api.placeOrder()
  await system
    .service('order')
    .database.rows(`update saga set value = '"Nowhere"', next_timer_at = now()`)
  await until('it is listed', async () => (await api.get('/sagas?stuck=true')).items.length === 1)
  t.match((await api.get(`/sagas/${orderId}`)).waitingFor, {
    commands: [],
    attempts: 0,
    lastError: { message: /Nowhere/, type: null }
  })
})

t.test(
  'cancels that race with each other, with the deadline and with payment: the row decides',
  async (t) => {
    const { api, system } = await startSystem(t, 'memory')
    await api.putProduct('keyboard', 1000)
    const orderIds = await Promise.all(Array.from({ length: 60 }, () => api.placeOrder()))
    const answers = await Promise.all(
      orderIds.map(async (orderId, index) => {
        if (index % 3 === 0)
          await system.service('order').database.rows(
            `
                update saga set next_timer_at = now(), timers = jsonb_set(timers, '{0,dueAt}',
                  to_jsonb(now())) where saga_id = $1 and starts_with(state, 'Suspend')`,
            [orderId]
          )
        return Promise.all(
          Array.from(
            { length: 3 },
            async () => (await api.call('POST', `/orders/${orderId}/cancel`)).status
          )
        )
      })
    )
    let sold = 0
    for (const [index, orderId] of orderIds.entries()) {
      const { state, history, context } = await api.settled(orderId)
      const cancels = history.filter(
        ({ event: name }: { event: string }) => name === 'CancelOrder'
      ).length
      const cancelled = context.failureReason === 'Cancelled'
      t.equal(cancels, cancelled ? 1 : 0, 'one step, however often it was asked')
      t.same(
        new Set(answers[index]),
        new Set([cancelled ? 202 : 409]),
        `${orderId}: ${state} ${context.failureReason}`
      )
      t.match(await api.get(`/orders/${orderId}`), {
        status: state === 'Completed' ? 'Completed' : 'Failed'
      })
      t.match(await api.get(`/sagas/${orderId}/replay`), { consistent: true })
      if (state === 'Completed') sold++
    }
    await until('all that was not sold is back', async () => {
      const { onHand, reserved } = await api.get('/products/keyboard')
      return onHand === 1000 - sold && reserved === sold
    })
    t.equal((await api.call('POST', `/orders/${randomUUID()}/cancel`)).status, 404)
    t.equal((await api.call('POST', '/orders/x/cancel')).status, 400)
  }
)

/** A database with the parcel's saga in it, and no messages that leave. */
async function open(t: Test) {
  const url = await (await postgresForTests()).createDatabase()
  const migrations = ['messaging', 'saga'].map((part) => migrationsOf(part))
  const options = { url, schema: 'parcel_service', migrations, poolSize: 2, log: testLog }
  const database = new Database(options)
  await database.connect()
  t.teardown(() => database.close())
  const host = new SagaHost(parcel)
  const inTransaction = <R>(work: (tx: Tx) => Promise<R>) => transaction(database, work)
  const handle = (messages: Message[]) => inTransaction((tx) => host.handler().handle(messages, tx))
  return {
    database,
    host,
    inspector: new SagaInspector(database, parcel),
    inTransaction,
    handle
  }
}

function inState(api: Api, orderId: string, state: string) {
  return until(
    `order ${orderId} is in ${state}`,
    async () => (await api.get(`/sagas/${orderId}`)).state === state
  )
}

/** Lets the order's timer be due, and waits until its command has been sent so many times. */
async function fire({ api, system }: TestSystem, orderId: string, sends: number): Promise<void> {
  await advance(orderSagas(system), '15m', [orderId])
  await until(
    'the command is sent again',
    async () => (await api.get(`/sagas/${orderId}`)).waitingFor.attempts === sends
  )
}
