// bench/invariants.ts for a shop full of old orders: judges only what was ordered since the audit
// began.
import pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import { ON_HAND } from '../shop.ts'

/** How long compensation may take to settle, ms. */
const SETTLE_MS = 30_000

/**
 * Each finds what is wrong among orders from id $1 on. Both sides of a join say so: the other side
 * is huge.
 */
const CHECKS: Record<string, string> = {
  'every order ended': `select order_id from order_service.orders where order_id >= $1 and status = 'Suspend'`,
  'Completed: reserved and paid once, nothing refunded': `
    select order_id from order_service.orders o
    left join (select * from stock_service.reservations where order_id >= $1) r using (order_id)
    left join (select * from payment_service.payments where order_id >= $1) p using (order_id)
    where order_id >= $1 and o.status = 'Completed' and (r.status is distinct from 'Reserved'
      or p.status is distinct from 'Completed' or p.amount <> o.total)`,
  'Failed: stock back and no money kept': `
    select order_id from order_service.orders o
    left join (select * from stock_service.reservations where order_id >= $1) r using (order_id)
    left join (select * from payment_service.payments where order_id >= $1) p using (order_id)
    where order_id >= $1 and o.status = 'Failed' and (coalesce(r.status, 'Refused') = 'Reserved'
      or p.status in ('Completed', 'Pending', 'Refunding'))`,
  'every saga at rest, as its order says, with its whole history': `
    select order_id from (select * from order_service.orders where order_id >= $1) o
    left join (select * from order_service.saga where saga = 'order'
      and saga_id >= $1) s on s.saga_id = o.order_id
    left join (select saga_id, count(*) as steps from order_service.saga_history
      where saga = 'order' and saga_id >= $1 group by 1) h on h.saga_id = o.order_id
    where s.state not in ('Completed', 'Failed.settled') or split_part(s.state, '.', 1) is distinct
      from o.status or h.steps is distinct from s.version`,
  'no dead letters': `
    select id from order_service.dead_letter union all select id from stock_service.dead_letter
      union all select id from payment_service.dead_letter`,
  'outbox empty': `
    select id from order_service.outbox union all select id from stock_service.outbox
      union all select id from payment_service.outbox`
}

const HELD = `
  select product_id, p.on_hand + p.reserved as units, p.reserved, coalesce(sum(l.quantity),
    0) as held from stock_service.products p
  left join (
    select l.product_id, l.quantity from stock_service.reservation_lines l
      join stock_service.reservations r using (order_id)
    where l.order_id >= $1 and r.order_id >= $1 and r.status = 'Reserved') l using (product_id)
  group by 1, 2, 3`

/**
 * Orders that failed although their card was good: allowed, and not what a load should run into.
 */
const FAILED_OTHERWISE = `select failure_reason, count(*) as orders from order_service.orders where order_id >= $1 and failure_reason <> 'CardDeclined' group by 1`

export interface Verdict {
  /** Names of the checks that found something, with how much. */
  broken: string[]
  /** Failures of orders with a good card, by reason; undefined when there are none. */
  failed: string | undefined
}

export class Audit {
  readonly #databaseUrl: string
  /** Older orders have smaller ids. */
  readonly #since: string
  /** Units held by older orders, by product. */
  readonly #reserved: ReadonlyMap<string, number>

  private constructor(databaseUrl: string, since: string, reserved: ReadonlyMap<string, number>) {
    this.#databaseUrl = databaseUrl
    this.#since = since
    this.#reserved = reserved
  }

  static async begin(databaseUrl: string): Promise<Audit> {
    const milliseconds = Date.now().toString(16).padStart(12, '0')
    const rows = await withClient(
      databaseUrl,
      async (client) =>
        (
          await client.query<{ product_id: string; reserved: string }>(
            'select product_id, reserved from stock_service.products'
          )
        ).rows
    )
    return new Audit(
      databaseUrl,
      `${milliseconds.slice(0, 8)}-${milliseconds.slice(8)}-7000-8000-000000000000`,
      new Map(rows.map((row) => [row.product_id, Number(row.reserved)]))
    )
  }

  /**
   * Waits until compensation has settled, then judges.
   * @param orders how many were placed since the audit began
   */
  check(orders: number): Promise<Verdict> {
    return withClient(this.#databaseUrl, async (client) => {
      const deadline = Date.now() + SETTLE_MS
      for (;;) {
        const broken = await this.#look(client, orders)
        if (broken.length === 0 || Date.now() > deadline)
          return { broken, failed: await this.#failed(client) }
        await sleep(500)
      }
    })
  }

  async #look(client: pg.Client, orders: number): Promise<string[]> {
    const broken: string[] = []
    for (const [name, sql] of Object.entries(CHECKS)) {
      const { rowCount } = await client.query(sql, sql.includes('$1') ? [this.#since] : [])
      if (rowCount) broken.push(`${name}: ${rowCount} found otherwise`)
    }
    const counted = await client.query<{ orders: string }>(
      'select count(*) as orders from order_service.orders where order_id >= $1',
      [this.#since]
    )
    if (Number(counted.rows[0]!.orders) !== orders)
      broken.push(`every order recorded: ${counted.rows[0]!.orders} of ${orders}`)
    const shelves = await client.query<{
      product_id: string
      units: string
      reserved: string
      held: string
    }>(HELD, [this.#since])
    const wrong = shelves.rows.filter(
      ({ product_id: id, units, reserved, held }) =>
        Number(units) !== ON_HAND ||
        Number(reserved) - (this.#reserved.get(id) ?? 0) !== Number(held)
    )
    if (wrong.length > 0) broken.push(`stock conserved: ${wrong.length} products found otherwise`)
    return broken
  }

  async #failed(client: pg.Client): Promise<string | undefined> {
    const { rows } = await client.query<{ failure_reason: string; orders: string }>(
      FAILED_OTHERWISE,
      [this.#since]
    )
    return rows.length > 0
      ? `orders failed with a good card: ${rows.map((row) => `${row.orders} ${row.failure_reason}`).join(', ')}`
      : undefined
  }
}

export async function withClient<R>(
  databaseUrl: string,
  work: (client: pg.Client) => Promise<R>
): Promise<R> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
