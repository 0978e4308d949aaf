// Finished orders made by SQL, as the product would have left them: the same rows, the same JSON,
// ids by time.
import { statfs } from 'node:fs/promises'
import { ON_HAND, PRODUCTS } from '../shop.ts'
import { admin } from '../servers.ts'
import { withClient } from './audit.ts'
import { progress, thousands } from './result.ts'

/** Orders made in one transaction a table; between two the clock and the disk are looked at. */
const BATCH = 250_000
/** The first batch, from which the disk that all need is known. */
const SAMPLE = 100_000
/** Longest time for inserting into one database, ms; indexes and statistics come on top. */
const FILL_MS = 1_500_000
/** A filled disk would end more than the benchmark; and the load needs some, too. */
const SPARE_BYTES = 10e9
/** While filling: one long checkpoint instead of one a gigabyte. Counted as disk, too. */
const WAL_GB = 8
/** Time between two orders, ms. */
const STEP_MS = 25
/** The newest old order is older than this, ms. */
const AGE_MS = 3_600_000

/**
 * A UUIDv7 from an order's number: time-ordered, the same in every table. The kind makes it another
 * one.
 */
function id(kind: number, afterMs: number): string {
  const high = `((ms + ${afterMs}) << 16) | x'7000'::bigint | (hashint8extended(i, ${kind}) & x'fff'::bigint)`
  const low = `(hashint8extended(i, ${kind + 100}) & x'3fffffffffffffff'::bigint) | x'8000000000000000'::bigint`
  return `('0' || to_hex(${high}) || to_hex(${low}))::uuid`
}

const at = (afterMs: number) => `to_timestamp((ms + ${afterMs}) / 1000.0)`
const unitPrice = (product: string) => `(1000 + ${product})`
const productName = (product: string) => `'p' || lpad(${product}::text, 3, '0')`

/** `offset 0` keeps the planner from computing an id again wherever it is used. */
const SOURCE = `(
  select i, order_id, created_id, reserved_id, paid_id, ms, 'c' || i % 1000 as customer, a, b, qa,
    qb, ${productName('a')} as pa, ${productName('b')} as pb,
    qa * ${unitPrice('a')} + qb * ${unitPrice('b')} as total,
    '{"items": [{"quantity": ' || qa || ', "productId": "' || ${productName('a')} || '"}, {"quantity": ' || qb || ', "productId": "' || ${productName('b')} || '"}], "orderId": "' || order_id || '", "customerId": "c' || i % 1000 || '", "paymentMethod": "pm_card_visa"' as placed
  from (
    select i, ms, ${id(1, 0)} as order_id, ${id(2, 5)} as created_id, ${id(3, 80)} as reserved_id,
      ${id(4, 160)} as paid_id,
      i % ${PRODUCTS} as a, (i % ${PRODUCTS} + 1 + i / ${PRODUCTS} % ${PRODUCTS - 1}) % ${PRODUCTS} as b, 1 + i % 3 as qa, 1 + i / 3 % 3 as qb
    from (select i, $first + i * ${STEP_MS} as ms from generate_series($from::bigint,
      $to::bigint) as i offset 0) as numbered offset 0
  ) as drawn offset 0) as o`

/** In two halves that take about as long, for two connections. */
const FILLS: readonly (readonly [table: string, insert: string])[][] = [
  [
    [
      'order_service.saga_history',
      `(saga, saga_id, sequence, event, body, message_id, from_state, to_state, sent, recorded_at)
      select 'order', order_id, step.* from ${SOURCE} cross join lateral (values
        (1, 'OrderCreatedEvent', (placed || '}')::jsonb, created_id, null, 'Suspend.reservingStock', '[]'::jsonb, ${at(0)}),
        (2, 'StockReservedEvent', (placed || ', "total": ' || total || ', "currency": "EUR"}')::jsonb, reserved_id, 'Suspend.reservingStock', 'Suspend.takingPayment', '[]', ${at(100)}),
        (3, 'PaymentCompletedEvent', ('{"amount": ' || total || ', "orderId": "' || order_id || '", "currency": "EUR"}')::jsonb, paid_id, 'Suspend.takingPayment', 'Completed',
          ('[{"type": "OrderCompletedEvent", "messageId": "' || ${id(5, 200)} || '"}]')::jsonb, ${at(200)})) as step`
    ],
    [
      'order_service.orders',
      `(order_id, customer_id, status, payment_method, total, currency, created_at, updated_at)
      select order_id, customer, 'Completed', 'pm_card_visa', total, 'EUR', ${at(0)}, ${at(200)}
        from ${SOURCE}`
    ],
    [
      'order_service.order_lines',
      `(order_id, line, product_id, quantity) select order_id, line.* from ${SOURCE} cross join lateral (values (1, pa, qa), (2, pb, qb)) as line`
    ]
  ],
  [
    [
      'order_service.saga',
      `(saga, saga_id, state, value, context, version, timers, next_timer_at, created_at, updated_at)
      select 'order', order_id, 'Completed', '"Completed"',
        ('{"total": ' || total || ', "orderId": "' || order_id || '", "currency": "EUR", "mayBePaid": false, "customerId": "' || customer || '", "failureReason": null}')::jsonb,
        3, '[]', null, ${at(0)}, ${at(200)} from ${SOURCE}`
    ],
    [
      'order_service.inbox',
      `(message_id, endpoint, handled_at)
      select answer.id, 'order', answer.at from ${SOURCE} cross
        join lateral (values (reserved_id, ${at(100)}), (paid_id, ${at(200)})) as answer (id, at)`
    ],
    [
      'stock_service.inbox',
      `(message_id, endpoint, handled_at) select created_id, 'stock', ${at(50)} from ${SOURCE}`
    ],
    [
      'stock_service.reservations',
      `(order_id, status, total, currency, created_at, updated_at) select order_id, 'Reserved', total, 'EUR', ${at(50)}, ${at(50)} from ${SOURCE}`
    ],
    [
      'stock_service.reservation_lines',
      `(order_id, product_id, quantity, unit_price)
      select order_id, line.* from ${SOURCE} cross join lateral (values (pa, qa, ${unitPrice('a')}),
        (pb, qb, ${unitPrice('b')})) as line`
    ],
    [
      'payment_service.inbox',
      `(message_id, endpoint, handled_at) select reserved_id, 'payment', ${at(100)} from ${SOURCE}`
    ],
    [
      'payment_service.payments',
      `(order_id, status, amount, currency, payment_method, cause, gateway_reference, attempts, created_at, updated_at)
      select order_id, 'Completed', total, 'EUR', 'pm_card_visa',
        ('{"headers": {}, "correlationId": "' || order_id || '", "conversationId": "' || created_id || '"}')::jsonb, 'sim_' || order_id, 1, ${at(100)}, ${at(160)} from ${SOURCE}`
    ]
  ]
]

export interface OldOrders {
  made: number
  seconds: number
  bytesPerOrder: number
  /** Why there are fewer than wanted. */
  capped?: string
}

/**
 * Fills an empty, migrated shop that nobody uses with finished orders: as many as wanted, unless
 * disk or time is short.
 */
export async function makeOldOrders(databaseUrl: string, wanted: number): Promise<OldOrders> {
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  await settings(databaseUrl, { max_wal_size: `${WAL_GB}GB`, checkpoint_timeout: '30min' })
  try {
    const empty = await databaseBytes(databaseUrl)
    const first = Date.now() - AGE_MS - wanted * STEP_MS
    let made = 0
    let most = wanted
    let bytesPerOrder = 0
    let capped: string | undefined
    let rebuild: (() => Promise<void>) | undefined
    while (made < most) {
      const to = Math.min(most, made + (made === 0 ? SAMPLE : BATCH))
      await Promise.all(FILLS.map((tables) => fill(databaseUrl, tables, first, made + 1, to)))
      made = to
      if (!rebuild) bytesPerOrder = ((await databaseBytes(databaseUrl)) - empty) / made
      progress(
        `${thousands(made)} of ${thousands(most)} old orders, ${((bytesPerOrder * made) / 1e9).toFixed(1)} GB, ${seconds().toFixed(0)} s`
      )
      const room = (await freeBytes(databaseUrl)) - SPARE_BYTES - WAL_GB * 1e9
      if ((most - made) * bytesPerOrder > room) {
        most = made + Math.max(0, Math.floor(room / bytesPerOrder))
        capped = `capped from ${thousands(wanted)}: ${((wanted * bytesPerOrder) / 1e9).toFixed(0)} GB do not fit`
      }
      if (made < most && seconds() * 1000 > FILL_MS) {
        most = made
        capped = `capped from ${thousands(wanted)} after ${seconds().toFixed(0)} s of inserting`
      }
      // The sample has its indexes, so that their size is known; the rest is quicker without.
      if (made < most) rebuild ??= await dropKeys(databaseUrl)
    }
    progress('indexes and statistics')
    await rebuild?.()
    await withClient(databaseUrl, async (client) => {
      await client.query('vacuum analyze')
      await client.query('delete from stock_service.products')
    })
    return {
      made,
      seconds: seconds(),
      bytesPerOrder: ((await databaseBytes(databaseUrl)) - empty) / made,
      ...(capped && { capped })
    }
  } finally {
    await settings(databaseUrl, { max_wal_size: undefined, checkpoint_timeout: undefined })
    // What was written must not be flushed during the measurement.
    await admin(databaseUrl, 'checkpoint')
  }
}

/** Takes what the old orders hold from full shelves. */
export async function holdOldOrders(databaseUrl: string): Promise<void> {
  await admin(
    databaseUrl,
    `
    update stock_service.products p set reserved = held.quantity,
      on_hand = ${ON_HAND} - held.quantity
    from (select product_id, sum(quantity) as quantity from stock_service.reservation_lines
      group by 1) held where held.product_id = p.product_id`
  )
}

async function fill(
  databaseUrl: string,
  tables: (typeof FILLS)[number],
  first: number,
  from: number,
  to: number
): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query('set synchronous_commit = off')
    for (const [table, insert] of tables) {
      await client.query(
        `insert into ${table} ${insert.replace('$first', `${first}`).replace('$from', `${from}`).replace('$to', `${to}`)}`
      )
      // Now, while its pages are in memory, and before a checkpoint would have them logged whole.
      await client.query(`vacuum ${table}`)
    }
  })
}

/** Drops the primary keys. Returns what makes them again. */
async function dropKeys(databaseUrl: string): Promise<() => Promise<void>> {
  const { rows } = await admin(
    databaseUrl,
    `
    select conrelid::regclass::text as "table", conname as name,
      pg_get_constraintdef(oid) as definition from pg_constraint where contype = 'p'`
  )
  const keys = new Map(
    (rows as { table: string; name: string; definition: string }[]).map((key) => [key.table, key])
  )
  const ours = FILLS.map((tables) => tables.map(([table]) => keys.get(table)!))
  await withClient(databaseUrl, async (client) => {
    for (const { table, name } of ours.flat())
      await client.query(`alter table ${table} drop constraint ${name}`)
  })
  return async () => {
    await Promise.all(
      ours.map((half) =>
        withClient(databaseUrl, async (client) => {
          await client.query(`set maintenance_work_mem = '512MB'`)
          for (const { table, name, definition } of half)
            await client.query(`alter table ${table} add constraint ${name} ${definition}`)
        })
      )
    )
  }
}

async function settings(
  databaseUrl: string,
  values: Record<string, string | undefined>
): Promise<void> {
  for (const [name, value] of Object.entries(values))
    await admin(
      databaseUrl,
      value === undefined ? `alter system reset ${name}` : `alter system set ${name} = '${value}'`
    )
  await admin(databaseUrl, 'select pg_reload_conf()')
}

async function databaseBytes(databaseUrl: string): Promise<number> {
  const { rows } = await admin(databaseUrl, 'select pg_database_size(current_database()) as bytes')
  return Number((rows[0] as { bytes: string }).bytes)
}

async function freeBytes(databaseUrl: string): Promise<number> {
  const { rows } = await admin(databaseUrl, 'show data_directory')
  const { bavail, bsize } = await statfs((rows[0] as { data_directory: string }).data_directory)
  return bavail * bsize
}
