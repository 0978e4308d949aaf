// Each of the ten reasons why an instance does not move, brought about for real, and its sentence.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { handle } from '../../packages/sagabox/src/messaging/endpoint/handler.ts'
import { contracts } from '../../packages/sagabox/src/messaging/message/contracts.ts'
import type {
  PublishOutcome,
  TransportMessage
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'
import { defineService } from '../../packages/sagabox/src/service/define.ts'
import { startSagabox } from '../../packages/sagabox/src/service/start.ts'
import { Type } from '../../packages/sagabox/src/index.ts'
import { shopTopology } from '../../src/shop.ts'
import { Api, type Answer } from '../support/api.ts'
import { GatedTransport, typeOf } from '../support/gated-transport.ts'
import { postgresForTests } from '../support/postgres.ts'
import { startSystem, testLog, type TestSystemOptions } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

const Id = Type.String({ format: 'uuid' })

/** Messages of some types find no queue. */
class Unroutable extends GatedTransport {
  readonly unroutable = new Set<string>()
  override publish(message: TransportMessage): Promise<PublishOutcome> {
    if (this.unroutable.has(typeOf(message.payload.toString()))) return Promise.resolve('returned')
    return super.publish(message)
  }
}

async function shopWithGate(t: Test, options: TestSystemOptions = {}) {
  let gate!: Unroutable
  const running = await startSystem(t, 'memory', {
    ...options,
    wrap: (inner) => (gate = new Unroutable(inner, shopTopology()))
  })
  await running.api.putProduct('keyboard', 100)
  return { ...running, gate, database: running.system.service('order').database }
}

function explained(api: Api, id: string, finding: string): Promise<Answer['body']> {
  let last: Answer['body']
  return until(
    `${id} is explained as ${finding}`,
    async () => {
      last = await api.get(`/sagas/${id}/explanation`)
      return last.finding === finding && last
    },
    { limitMs: 20_000, tell: () => JSON.stringify(last) }
  )
}

t.test('1: ended', async (t) => {
  const { api } = await shopWithGate(t)
  const id = await api.placeOrder()
  await api.settled(id)
  const { sentence, severity, next, others } = await explained(api, id, 'ended')
  t.match(sentence, /^Ended \d+ s ago as Completed\.$/)
  t.match({ severity, next, others }, { severity: 'ok', next: null, others: { count: 0 } })
})

t.test('2: no machine can move it', async (t) => {
  const { api, gate, database } = await shopWithGate(t)
  gate.hold('stock', 'OrderCreatedEvent')
  const id = await api.placeOrder()
  // As a newer process leaves it that was rolled back.
  await database.rows('update saga set machine_version = 9 where saga_id = $1', [id])
  const { sentence, severity, suggestions } = await explained(api, id, 'noMachine')
  t.match(
    sentence,
    /^No machine here can move it: it is on version 9, and here are versions [\d and]+\. .*run version 9\.$/
  )
  t.equal(severity, 'problem')
  t.match(suggestions[0], { text: /Run the version/ })
})

t.test('3: a candidate is a dead letter', async (t) => {
  const { api, database } = await shopWithGate(t, { settings: { redeliverySeconds: [] } })
  await database.rows('alter table payment_service.payments rename to gone')
  const [id] = [await api.placeOrder(), await api.placeOrder()]
  await until(
    'both are letters',
    async () => (await api.get('/ops/payment/dead-letters')).items.length === 2
  )
  const { sentence, severity, suggestions, evidence, next } = await explained(api, id, 'deadLetter')
  t.match(
    sentence,
    /^payment could not handle StockReservedEvent: .*"payments" does not exist \(letter \d+, 1 other with the same cause\)\. 1 other waits in Suspend\.takingPayment, too\. If nothing comes, in \d+ s → Failed\.releasingStock, which sends OrderFailedEvent and ReleaseStock\.$/
  )
  t.equal(severity, 'problem')
  t.match(suggestions, [{ action: 'letter', target: /^\/ops\/payment\/dead-letters\/\d+$/ }])
  t.match(evidence[0], {
    text: /^StockReservedEvent is letter \d+ of payment, \d+ s ago$/,
    service: 'payment',
    letterId: Number
  })
  t.match(next, {
    to: 'Failed.releasingStock',
    sends: ['OrderFailedEvent', 'ReleaseStock'],
    at: String
  })
})

t.test('4: it has not left the sender’s outbox', async (t) => {
  const { api, gate } = await shopWithGate(t)
  gate.unroutable.add('OrderCreatedEvent')
  const id = await api.placeOrder()
  await until('it is put off', async () => (await api.get('/ops/order/outbox')).putOff.length === 1)
  const { sentence, evidence } = await explained(api, id, 'inOutbox')
  t.match(
    sentence,
    /^OrderCreatedEvent has not left order's outbox for \d+ s: returned: no queue is bound to the destination\. If nothing comes, /
  )
  t.match(evidence[0], { text: /OrderCreatedEvent is in the outbox of order/, messageId: String })
})

t.test('5: it was put off', async (t) => {
  const { api, database } = await shopWithGate(t, { settings: { redeliverySeconds: [3600] } })
  await database.rows('alter table payment_service.payments rename to gone')
  const id = await api.placeOrder()
  const { sentence, severity } = await explained(api, id, 'putOff')
  t.match(
    sentence,
    /^payment has failed once with StockReservedEvent \(.*"payments" does not exist\); tries again in 60 min, first of one, then it becomes a dead letter\. If nothing comes/
  )
  t.equal(severity, 'problem')
})

t.test('6: handled, and the answer has not left', async (t) => {
  const { api, gate } = await shopWithGate(t)
  gate.unroutable.add('StockReservedEvent')
  const id = await api.placeOrder()
  const { sentence } = await explained(api, id, 'answerInOutbox')
  t.match(
    sentence,
    /^stock handled OrderCreatedEvent \d+ s ago, and its answer StockReservedEvent has not left its outbox for \d+ s: /
  )
})

t.test('7: handled, and nothing came of it', async (t) => {
  const { api } = await shopWithGate(t)
  const id = await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })
  const { sentence, suggestions } = await explained(api, id, 'silent')
  t.match(
    sentence,
    /^payment handled StockReservedEvent \d+ s ago, and nothing has come of it that this saga takes: payment waits for somebody outside, or has a bug\./
  )
  t.match(suggestions, [{ action: 'retry' }, { text: /PaymentCompletedEvent/ }])
})

t.test('8: nowhere: with the broker or being handled', async (t) => {
  const { api, gate } = await shopWithGate(t)
  await api.settled(await api.placeOrder())
  gate.hold('stock', 'OrderCreatedEvent')
  const id = await api.placeOrder()
  const { sentence, severity } = await explained(api, id, 'nowhere')
  t.match(
    sentence,
    /^OrderCreatedEvent is with the broker or being handled: 1 message waits in the queue of stock, and it last handled anything \d+ s ago\. If nothing comes/
  )
  t.equal(severity, 'waiting')
  t.match(await api.get(`/ops/stock/messages?about=${id}`), {
    messages: [],
    endpoint: { lastHandledAt: String, queueDepth: 1, relayLeads: true, paused: null }
  })

  await api.call('POST', '/ops/payment/endpoint/pause', { reason: 'the bank is away' })
  gate.release('stock', 'OrderCreatedEvent')
  const paused = await until('payment is waited for', async () => {
    const found = await api.get(`/sagas/${id}/explanation`)
    return /queue of payment/.test(found.sentence) && found
  })
  t.match(paused, {
    finding: 'nowhere',
    severity: 'problem',
    sentence:
      /^StockReservedEvent is with .* 1 message waits in the queue of payment, and it is paused since \d+ s: the bank is away\./,
    suggestions: [{ text: /Resume payment/ }]
  })
})

const own = contracts('parcel', { correlateBy: 'id' })
const shipping = contracts('carrier', { correlateBy: 'id' })
const Begun = own.event('ParcelBegun', { id: Id })
const Packed = shipping.event('ParcelPacked', { id: Id })
const Shipped = shipping.event('ParcelShipped', { id: Id })

/** What the carrier sends comes from outside: nobody here is asked for it. */
const parcel = defineSaga(
  'parcel',
  { startedBy: Begun, handles: [Packed, Shipped] },
  ({ defer }) => ({
    initial: 'packing',
    states: {
      packing: {
        on: { ParcelPacked: 'moving', ParcelShipped: defer() },
        after: { '18m': 'late' }
      },
      moving: { on: { ParcelShipped: 'there' } },
      late: { on: { ParcelPacked: 'moving', ParcelShipped: 'there' } },
      there: { tags: 'end' }
    }
  })
)

async function parcels(t: Test) {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const app = await startSagabox({
    services: [
      defineService('parcel', { sagas: [parcel] }),
      defineService('carrier', {
        handlers: [handle(shipping.command('Move', { id: Id }), async () => {})],
        sends: [Packed, Shipped]
      })
    ],
    databaseUrl,
    signals: false,
    log: testLog
  })
  t.teardown(() => app.stop())
  const id = randomUUID()
  await app.publish(Begun({ id }))
  const api = new Api(app.url)
  await until('it has begun', async () => (await api.call('GET', `/sagas/${id}`)).status === 200)
  return { app, api, id }
}

t.test('9: an event is deferred', async (t) => {
  const { app, api, id } = await parcels(t)
  await app.publish(Shipped({ id }))
  const { sentence } = await explained(api, id, 'deferred')
  t.match(
    sentence,
    /^It keeps ParcelShipped, which came \d+ s ago, too early for packing, until that is over\. If nothing comes, in 18 min → late\.$/
  )
})

t.test('10: only a timer, or nothing', async (t) => {
  const { app, api, id } = await parcels(t)
  const waiting = await explained(api, id, 'timer')
  t.match(
    waiting.sentence,
    /^It waits for ParcelPacked, or its timer of 18m, in 18 min → late; nothing is wrong\.$/
  )
  t.equal(waiting.severity, 'ok')
  await app.publish(Packed({ id }))
  const moving = await explained(api, id, 'silent')
  t.match(
    moving.sentence,
    /^It has waited \d+ s for ParcelShipped, which nothing that it sent asks for: it comes from outside, and there is no timer\.$/
  )
  t.equal(moving.next, null)
})

t.test('what is not there, or is asked wrongly', async (t) => {
  const { api } = await parcels(t)
  t.match(await api.call('GET', `/sagas/${randomUUID()}/explanation`), { status: 404 })
  t.match(await api.call('GET', '/sagas/x/explanation'), { status: 400 })
  for (const query of ['ids=x', `ids=${randomUUID()},`, 'about=x', 'other=1'])
    t.match(
      await api.call('GET', `/ops/parcel/messages?${query}`),
      { status: 400, body: { errors: [{ field: query.split('=')[0] }] } },
      query
    )
  const many = Array.from({ length: 100 }, () => randomUUID())
  t.match(await api.get(`/ops/parcel/messages?ids=${many.join(',')}`), { messages: [] })
  t.match(await api.call('GET', `/ops/parcel/messages?ids=${[...many, randomUUID()].join(',')}`), {
    status: 400
  })
})
