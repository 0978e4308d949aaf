import { typeorm } from 'sagabox/typeorm'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { RefundPayment } from '../../src/contracts/payment.ts'
import { StockReservedEvent } from '../../src/contracts/stock.ts'
import { Database } from '../../packages/sagabox/src/messaging/postgres/database.ts'
import { message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { Outbox } from '../../packages/sagabox/src/messaging/outbox/outbox.ts'
import { Cashier } from '../../src/payment/cashier.ts'
import type { ChargeResult, PaymentGateway } from '../../src/payment/gateway.ts'
import { refundPayments } from '../../src/payment/refund.ts'
import { UNAUDITED } from '../../packages/sagabox/src/messaging/postgres/audit.ts'
import { settlePayment } from '../../src/payment/settle.ts'
import { PAYMENT_ENTITIES, PaymentEntity } from '../../src/payment/entities.ts'
import { takePayments } from '../../src/payment/take.ts'
import { postgresForTests } from '../support/postgres.ts'
import { testLog } from '../support/system.ts'
import { until } from '../support/until.ts'
import { migrationsOf } from '../support/migrations.ts'

const ORDER_ID = '01890000-0000-7000-8000-000000000001'

/** A gateway with a ledger; a charge can be held on its way. */
class LedgerGateway implements PaymentGateway {
  money = 0
  charges = 0
  refunds = 0
  arrive: (() => void) | undefined
  holds = false
  answerAgain: (() => void) | undefined
  answersAgainAtRefund = false

  async charge(
    { amount }: { amount: number },
    _signal: AbortSignal,
    again: (answer: ChargeResult) => void
  ): Promise<ChargeResult> {
    this.answerAgain = () => again({ outcome: 'charged', reference: 'ref' })
    if (this.holds) await new Promise<void>((resolve) => (this.arrive = resolve))
    this.charges++
    this.money += amount
    return { outcome: 'charged', reference: 'ref' }
  }

  async refund(): Promise<{ amount: number }> {
    if (this.answersAgainAtRefund) this.answerAgain!()
    this.refunds++
    const amount = this.money
    this.money = 0
    return { amount }
  }
}

async function openPayment(t: Test) {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const options = {
    url,
    schema: 'payment_service',
    migrations: ['messaging', 'payment'].map((name) => migrationsOf(name)),
    poolSize: 4,
    log: testLog
  }
  const database = new Database(options)
  await database.connect()
  t.teardown(() => database.close())
  const outbox = new Outbox({
    database,
    address: 'loopback://localhost/',
    source: 'payment',
    committed() {}
  })
  const payment = async () =>
    (await typeorm(database, PAYMENT_ENTITIES))
      .getRepository(PaymentEntity)
      .findOneByOrFail({ orderId: ORDER_ID })
  return {
    outbox,
    payment,
    statusIs: (status: string) =>
      until(`the payment is ${status}`, async () => (await payment()).status === status),
    expireClaim: () => database.rows('update payments set next_attempt_at = now()'),
    sent: async () =>
      (await database.rows<{ payload: string }>('select payload from outbox order by id')).map(
        ({ payload }) =>
          (JSON.parse(payload) as { messageType: string[] }).messageType[0]!.split(':').at(-1)
      ),
    take: () =>
      outbox.transaction(async (tx) =>
        outbox.add(
          tx,
          (
            await takePayments(
              [
                message(StockReservedEvent, {
                  orderId: ORDER_ID,
                  customerId: 'ada',
                  items: [{ productId: 'keyboard', quantity: 1 }],
                  total: 500,
                  currency: 'EUR',
                  paymentMethod: 'pm_card_visa'
                })
              ],
              tx,
              false
            )
          ).answers
        )
      ),
    refund: () =>
      outbox.transaction(async (tx) =>
        outbox.add(tx, await refundPayments([message(RefundPayment, { orderId: ORDER_ID })], tx))
      )
  }
}

/** A payment that has been taken. */
async function openPaid(t: Test) {
  const opened = await openPayment(t)
  const gateway = new LedgerGateway()
  const cashier = new Cashier(opened.outbox, gateway, testLog)
  await opened.take()
  await cashier.runOnce()
  await opened.statusIs('Completed')
  return { ...opened, gateway, cashier }
}

t.test(
  'a charge that lands after its claim was lost and the refund found nothing is given back',
  async (t) => {
    const { outbox, payment, statusIs, expireClaim, take, refund, sent } = await openPayment(t)
    const gateway = new LedgerGateway()
    const [slow, quick] = [
      new Cashier(outbox, gateway, testLog),
      new Cashier(outbox, gateway, testLog)
    ]
    gateway.holds = true
    await take()
    t.equal(await slow.runOnce(), 1)
    await refund()
    await expireClaim()
    t.equal(await quick.runOnce(), 1)
    await statusIs('Cancelled')
    gateway.arrive!()
    await statusIs('Refunding')
    t.equal(await quick.runOnce(), 1)
    await statusIs('Refunded')
    t.match(await payment(), { refundedAmount: 500 })
    t.equal(gateway.money, 0, 'the gateway keeps nothing')
    t.same(await sent(), ['PaymentRefundedEvent', 'PaymentCompletedEvent', 'PaymentRefundedEvent'])
  }
)

t.test('a refund that comes while the gateway is asked follows the charge', async (t) => {
  const { outbox, statusIs, take, refund, sent } = await openPayment(t)
  const gateway = new LedgerGateway()
  const cashier = new Cashier(outbox, gateway, testLog)
  gateway.holds = true
  await take()
  await cashier.runOnce()
  await refund()
  gateway.arrive!()
  await statusIs('Refunding')
  await cashier.runOnce()
  await statusIs('Refunded')
  t.equal(gateway.charges, 1)
  t.equal(gateway.money, 0)
  t.same(await sent(), ['PaymentCompletedEvent', 'PaymentRefundedEvent'])
})

t.test('a payment whose refund comes before the gateway was asked is never charged', async (t) => {
  const { outbox, statusIs, take, refund, sent } = await openPayment(t)
  const gateway = new LedgerGateway()
  await take()
  await refund()
  await new Cashier(outbox, gateway, testLog).runOnce()
  await statusIs('Cancelled')
  t.same([gateway.charges, gateway.refunds], [0, 0], 'it is not asked at all')
  t.same(await sent(), ['PaymentRefundedEvent'])
})

t.test('a claim that was lost is asked again under the same key, and counts once', async (t) => {
  const { outbox, payment, statusIs, expireClaim, take, sent } = await openPayment(t)
  const gateway = new LedgerGateway()
  const [dead, living] = [
    new Cashier(outbox, gateway, testLog),
    new Cashier(outbox, gateway, testLog)
  ]
  gateway.holds = true
  await take()
  await dead.runOnce()
  const lost = gateway.arrive!
  gateway.holds = false
  await expireClaim()
  await living.runOnce()
  await statusIs('Completed')
  lost()
  await dead.stop()
  t.match(await payment(), { status: 'Completed', attempts: 2 })
  t.same(await sent(), ['PaymentCompletedEvent'], 'one answer, though the gateway gave two')
})

t.test('an answer that comes twice counts once', async (t) => {
  for (const first of [true, false]) {
    const { outbox, payment, statusIs, take, sent } = await openPayment(t)
    const gateway = new LedgerGateway()
    const cashier = new Cashier(outbox, gateway, testLog)
    gateway.holds = first
    await take()
    await cashier.runOnce()
    // Before the answer that was waited for, and after it.
    if (first) gateway.answerAgain!()
    await statusIs('Completed')
    if (first) gateway.arrive!()
    else gateway.answerAgain!()
    await cashier.stop()
    t.match(await payment(), { status: 'Completed', attempts: 1 })
    t.same(await sent(), ['PaymentCompletedEvent'])
  }
})

t.test('an answer that comes again after the refund moves nothing', async (t) => {
  const { cashier, gateway, payment, statusIs, refund, sent } = await openPaid(t)
  await refund()
  await cashier.runOnce()
  await statusIs('Refunded')
  gateway.answerAgain!()
  await cashier.stop()
  t.match(await payment(), { status: 'Refunded', refundedAmount: 500 })
  t.same(await sent(), ['PaymentCompletedEvent', 'PaymentRefundedEvent'])
})

t.test(
  'an answer that comes again together with that of the refund does not stand in its way',
  async (t) => {
    const { cashier, gateway, payment, refund, sent } = await openPaid(t)
    gateway.answersAgainAtRefund = true
    await refund()
    t.equal(await cashier.runOnce(), 1)
    await cashier.stop()
    t.match(await payment(), { status: 'Refunded', refundedAmount: 500 })
    t.same(await sent(), ['PaymentCompletedEvent', 'PaymentRefundedEvent'])
  }
)

t.test('what went wrong before a payment ended can still be read', async (t) => {
  const { outbox, payment, statusIs, expireClaim, take } = await openPayment(t)
  const gateway = new LedgerGateway()
  const cashier = new Cashier(outbox, gateway, testLog)
  const { charge } = gateway
  gateway.charge = () => Promise.reject(new Error('The bank is closed'))
  await take()
  await cashier.runOnce()
  await until('it failed', async () => (await payment()).lastError !== null)
  gateway.charge = charge
  await expireClaim()
  await cashier.runOnce()
  await statusIs('Completed')
  t.match(await payment(), { lastError: 'The bank is closed', attempts: 2 })
})

t.test('an answer for a payment whose row is gone is said, and holds up no other', async (t) => {
  const { outbox, payment, statusIs, take, sent } = await openPayment(t)
  const said: object[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void said.push(JSON.parse(line)) })
  const gateway = new LedgerGateway()
  const cashier = new Cashier(outbox, gateway, log)
  gateway.holds = true
  await take()
  await cashier.runOnce()
  await outbox.transaction((tx) => tx.query('delete from payments'))
  gateway.arrive!()
  await until('it is said', async () => said.length > 0)
  t.match(said, [
    {
      level: 50,
      orderId: ORDER_ID,
      amount: 500,
      answer: { outcome: 'charged' },
      msg: /whose row is gone: nobody asks again/
    }
  ])
  gateway.holds = false
  await take()
  await cashier.runOnce()
  await statusIs('Completed')
  await cashier.stop()
  t.equal(said.length, 1)
  t.match(await payment(), { attempts: 1 })
  t.same(await sent(), ['PaymentCompletedEvent'])
})

t.test(
  'an answer under way when a person settles the payment moves nothing, unless money was taken after all',
  async (t) => {
    const { outbox, payment, statusIs, expireClaim, take, refund } = await openPayment(t)
    const gateway = new LedgerGateway()
    const cashier = new Cashier(outbox, gateway, testLog)
    gateway.holds = true
    await take()
    await cashier.runOnce()
    await refund()
    const slow = gateway.arrive!
    const gone = new Cashier(
      outbox,
      {
        charge: () => Promise.reject(new Error('gone')),
        refund: () => Promise.reject(new Error('gone'))
      },
      testLog
    )
    await expireClaim()
    await gone.runOnce()
    await until('the gateway does not answer', async () => (await payment()).lastError === 'gone')
    const settlement = { amount: 0, reason: 'Nothing was charged', by: 'ada' }
    await settlePayment(outbox, ORDER_ID, { outcome: 'refunded', ...settlement }, UNAUDITED)
    t.match(await payment(), { status: 'Cancelled', nextAttemptAt: null })
    slow()
    await statusIs('Refunding')
    await cashier.runOnce()
    await statusIs('Refunded')
    t.equal(gateway.money, 0, 'the gateway keeps nothing')
  }
)
