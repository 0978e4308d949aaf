// What must be true of the shop after every run, whoever ran it.
import pg from 'pg'
import { ON_HAND } from './shop.ts'

/** Each finds what is wrong; an empty answer is the right one. */
const CHECKS: Record<string, string> = {
  'every order ended': `select order_id from order_service.orders where status = 'Suspend'`,
  'Completed: reserved and paid once, nothing refunded': `
    select order_id from order_service.orders o left
      join stock_service.reservations r using (order_id) left
      join payment_service.payments p using (order_id)
    where o.status = 'Completed' and (r.status is distinct from 'Reserved' or p.status is distinct
      from 'Completed' or p.amount <> o.total)`,
  'Failed: stock back and no money kept': `
    select order_id from order_service.orders o left
      join stock_service.reservations r using (order_id) left
      join payment_service.payments p using (order_id)
    where o.status = 'Failed' and (coalesce(r.status, 'Refused') = 'Reserved'
      or p.status in ('Completed', 'Pending', 'Refunding'))`,
  'stock conserved': `
    select p.product_id from stock_service.products p left join (
      select l.product_id, sum(l.quantity) as held from stock_service.reservation_lines l
        join stock_service.reservations r using (order_id) where r.status = 'Reserved'
        group by 1) held using (product_id)
    where p.on_hand + p.reserved <> ${ON_HAND} or p.reserved <> coalesce(held.held, 0)`
}

// Sent rows are deleted, or marked: by who marks them.
const OUTBOXES = `select coalesce(sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I.outbox o where to_jsonb(o) ->> ''published_at'' is null', table_schema), false, true, '')))[1]::text::integer), 0)::integer as waiting
  from information_schema.tables where table_name = 'outbox'`

export interface Verdict {
  orders: number
  completed: number
  /** Names of the checks that found something, with how much. */
  broken: string[]
}

/** Waits (30 s at most) until compensation has settled and outboxes are empty, then checks. */
export async function checkInvariants(databaseUrl: string): Promise<Verdict> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const deadline = Date.now() + 30_000
    for (;;) {
      const broken: string[] = []
      for (const [name, sql] of Object.entries(CHECKS)) {
        const { rowCount } = await client.query(sql)
        if (rowCount) broken.push(`${name}: ${rowCount} are not`)
      }
      const waiting = (await client.query<{ waiting: number }>(OUTBOXES)).rows[0]?.waiting ?? 0
      if (waiting > 0) broken.push(`outbox empty: ${waiting} rows wait`)
      if (broken.length === 0 || Date.now() > deadline) {
        const { rows } = await client.query<{ orders: number; completed: number }>(
          `
            select count(*)::integer as orders,
              (count(*) filter (where status = 'Completed'))::integer as completed
              from order_service.orders`
        )
        return { ...rows[0]!, broken }
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  } finally {
    await client.end()
  }
}
