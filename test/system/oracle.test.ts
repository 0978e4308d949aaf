// The oracle of the fault runs must be able to find fault: with each of its rules.
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t from 'tap'
import { judge, RULE_NAMES, type Evidence } from '../faults/oracle.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

const TABLES = [
  'orders',
  'order_lines',
  'saga',
  'saga_history',
  'outbox',
  'dead_letter',
  'unfinished'
]
  .map((name) => `order_service.${name}`)
  .concat(
    ['products', 'reservations', 'reservation_lines', 'outbox', 'dead_letter', 'unfinished'].map(
      (name) => `stock_service.${name}`
    ),
    ['payments', 'outbox', 'dead_letter', 'unfinished'].map((name) => `payment_service.${name}`)
  )

const COMPLETED = `(select order_id from order_service.orders where status = 'Completed' order by 1 limit 1)`
const FAILED = `(select order_id from order_service.orders where status = 'Failed' order by 1 limit 1)`
const SOMEBODY = `'${randomUUID()}'`

/** What spoils the data, so that a rule must tell. */
const CORRUPTIONS: [rule: string, what: string, sql: string][] = [
  [
    'every order ended',
    'an order in progress',
    `update order_service.orders set status = 'Suspend' where order_id = ${COMPLETED}`
  ],
  [
    'every order ended',
    'undoing that never ended',
    `update order_service.saga set state = 'Failed.refunding' where saga_id = ${FAILED}`
  ],
  [
    'every order ended',
    'an order without a saga',
    `delete from order_service.saga where saga_id = ${COMPLETED}`
  ],
  [
    'the next orders end',
    'a late order in progress',
    `update order_service.saga set state = 'Suspend.takingPayment'`
  ],
  [
    'saga and order agree',
    'a saga that ended otherwise',
    `update order_service.saga set state = 'Failed.settled' where saga_id = ${COMPLETED}`
  ],
  [
    'Completed: reserved, paid once, nothing given back',
    'a sale without a reservation',
    `delete from stock_service.reservations where order_id = ${COMPLETED}`
  ],
  [
    'Completed: reserved, paid once, nothing given back',
    'a sale without a payment',
    `delete from payment_service.payments where order_id = ${COMPLETED}`
  ],
  [
    'Completed: reserved, paid once, nothing given back',
    'another amount',
    `update payment_service.payments set amount = amount + 1 where order_id = ${COMPLETED}`
  ],
  [
    'Completed: reserved, paid once, nothing given back',
    'money given back',
    `update payment_service.payments set refunded_amount = amount where order_id = ${COMPLETED}`
  ],
  [
    'Failed: nothing held, no money kept',
    'units still held',
    `update stock_service.reservations set status = 'Reserved' where order_id = ${FAILED}`
  ],
  [
    'Failed: nothing held, no money kept',
    'money kept',
    `update payment_service.payments set status = 'Completed' where order_id = ${FAILED}`
  ],
  [
    'Failed: nothing held, no money kept',
    'a refund that waits for a person',
    `update payment_service.payments set status = 'RefundRefused' where order_id = ${FAILED}`
  ],
  [
    'Failed: nothing held, no money kept',
    'money given back in part',
    `
      update payment_service.payments set status = 'Refunded', refunded_amount = amount - 1
        where order_id = ${FAILED}`
  ],
  [
    'what is reserved is sold',
    'units reserved for nobody',
    `update stock_service.products set reserved = reserved + 1, on_hand = on_hand - 1`
  ],
  ['stock conserved', 'units lost', `update stock_service.products set on_hand = on_hand - 1`],
  [
    'nothing without its order',
    'a reservation of no order',
    `insert into stock_service.reservations (order_id, status) values (${SOMEBODY}, 'Refused')`
  ],
  [
    'nothing without its order',
    'a payment of no order',
    `
      insert into payment_service.payments (order_id, status, amount, currency,
        payment_method) values (${SOMEBODY}, 'Failed', 1, 'EUR', '')`
  ],
  [
    'each event moved its saga once',
    'a message twice',
    `
      insert into order_service.saga_history select saga, saga_id, sequence + 100, 'OtherEvent',
        body, message_id, from_state, to_state, sent from order_service.saga_history
        where event = 'StockReservedEvent' limit 1`
  ],
  [
    'each event moved its saga once',
    'an event twice',
    `
      insert into order_service.saga_history select saga, saga_id, sequence + 100, event, body,
        gen_random_uuid(), from_state, to_state, sent from order_service.saga_history
        where event = 'StockReservedEvent' limit 1`
  ],
  [
    'each history replays',
    'another past',
    `
      update order_service.saga_history set event = 'PaymentFailedEvent',
        body = body || '{"reason": "CardDeclined"}' where event = 'PaymentCompletedEvent'`
  ],
  [
    'one order a key',
    'an order taken twice',
    `update order_service.orders set customer_id = 'the same'`
  ],
  ...['order', 'stock', 'payment'].flatMap((service): [string, string, string][] => [
    [
      'outboxes empty',
      `${service} has something to send`,
      `
        insert into ${service}_service.outbox (message_id, destination, required, payload,
          due_at) values (gen_random_uuid(), 'order', true, '', now() + interval '1 hour')`
    ],
    [
      'dead letters: the poison, each once',
      `${service} could not handle something`,
      `
        insert into ${service}_service.dead_letter (endpoint, payload, exception, reason,
          fingerprint) values ('${service}', '', 'Error', '', '')`
    ],
    [
      'nothing counts as begun',
      `${service} has begun something`,
      `
        insert into ${service}_service.unfinished (message_id, endpoint) values (gen_random_uuid(),
          '${service}')`
    ]
  ])
]

/** What customers or the broker saw, and the database cannot tell. */
const OTHER_EVIDENCE: [rule: string, evidence: Partial<Evidence>][] = [
  ['what was answered is kept', { accepted: new Set([randomUUID()]) }],
  ['dead letters: the poison, each once', { poison: new Set([randomUUID()]) }],
  ['one order a key', { byKey: new Map([['key', new Set([randomUUID(), randomUUID()])]]) }],
  [
    'the gateway took money once, for what was sold',
    {
      ledger: () => [
        {
          kind: 'charge',
          orderId: randomUUID(),
          reference: 'pi_1',
          amount: 1,
          currency: 'EUR',
          at: ''
        }
      ]
    }
  ],
  [
    'queues empty',
    {
      queues: async () => [
        { name: 'stock', type: 'quorum', messages: 1, ready: 1, unacknowledged: 0, consumers: 1 }
      ]
    }
  ]
]

t.test('finds nothing where all is well, and each kind of damage', async (t) => {
  const { api, databaseUrl } = await startSystem(t, 'memory')
  await api.putProduct('keyboard', 100)
  const accepted = new Set<string>()
  for (const [index, paymentMethod] of [
    'pm_card_visa',
    'pm_card_chargeDeclined',
    'pm_card_visa'
  ].entries())
    accepted.add(await api.placeOrder({ customerId: `customer-${index}`, paymentMethod }))
  const late = [...accepted].slice(1)
  const sound: Evidence = {
    databaseUrl,
    api,
    products: ['keyboard'],
    putIn: 100,
    accepted,
    late,
    byKey: new Map([['key', new Set([[...accepted][0]!])]]),
    patience: 60_000
  }
  t.match(await judge(sound), { orders: 3, completed: 2, broken: [] })

  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  await client.query('create schema saved')
  for (const [index, table] of TABLES.entries())
    await client.query(`create table saved.t${index} as table ${table}`)
  const restore = async () => {
    for (const [index, table] of TABLES.entries())
      await client.query(
        `truncate ${table}; insert into ${table} overriding system value table saved.t${index}`
      )
  }
  const found = new Set<string>()
  const tells = async (rule: string, what: string, evidence: Evidence) => {
    const { broken } = await judge({ ...evidence, patience: 1 })
    t.ok(
      broken.some((line) => line.startsWith(`${rule}: not so for `)),
      `${rule}: ${what}`,
      { broken }
    )
    found.add(rule)
  }
  for (const [rule, what, sql] of CORRUPTIONS) {
    await client.query(sql)
    await tells(rule, what, sound)
    await restore()
  }
  for (const [rule, evidence] of OTHER_EVIDENCE)
    await tells(rule, JSON.stringify(Object.keys(evidence)), { ...sound, ...evidence })
  t.match(await judge(sound), { broken: [] }, 'all is well again')

  await deadlock(databaseUrl)
  await tells('no deadlocks', 'one', sound)
  t.same([...found].toSorted(), RULE_NAMES.toSorted(), 'every rule has been broken here')
})

/** Two transactions that wait for each other, until the server ends one. */
async function deadlock(databaseUrl: string): Promise<void> {
  const clients = [1, 2].map(() => new pg.Client({ connectionString: databaseUrl }))
  for (const client of clients) {
    await client.connect()
    await client.query(`set deadlock_timeout = '10ms'`)
    await client.query('begin')
  }
  const [first, second] = clients as [pg.Client, pg.Client]
  await first.query('select pg_advisory_xact_lock(1)')
  await second.query('select pg_advisory_xact_lock(2)')
  await Promise.allSettled([
    first.query('select pg_advisory_xact_lock(2)'),
    second.query('select pg_advisory_xact_lock(1)')
  ])
  // The statistics of a session arrive at the latest with its end.
  for (const client of clients) await client.end()
  const observer = new pg.Client({ connectionString: databaseUrl })
  await observer.connect()
  await until(
    'the deadlock is counted',
    async () =>
      (
        await observer.query(
          'select from pg_stat_database where datname = current_database() and deadlocks > 0'
        )
      ).rowCount === 1
  )
  await observer.end()
}
