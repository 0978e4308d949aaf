import { Conflict, run, statement } from 'sagabox/engine'
import type { Tx } from 'sagabox'

const READ_LINES = statement(
  `
    select order_id as "orderId", product_id as "productId", quantity from reservation_lines
      where order_id = any($1::uuid[])`
)

// Only a reservation that is still held gives units back, however often it is released.
const RELEASE = statement(`
  update reservations set status = 'Released', updated_at = now()
  where order_id = any($1::uuid[]) and status = 'Reserved' returning order_id`)

// A release that overtook its OrderCreatedEvent leaves a tombstone: the reservation will be
// refused.
const INSERT_TOMBSTONES = statement(`
  insert into reservations (order_id, status)
  select id, 'Released' from unnest($1::uuid[]) as id
  where not exists (select from reservations where order_id = id) order by id
  on conflict do nothing`)

export interface ReservedLine {
  orderId: string
  productId: string
  quantity: number
}

/** The lines of these orders, whether they are still held or not. */
export async function reservedLines(tx: Tx, orderIds: readonly string[]): Promise<ReservedLine[]> {
  return orderIds.length === 0 ? [] : run<ReservedLine>(tx, READ_LINES, [orderIds])
}

/**
 * Releases what is held for each order; safe to repeat. Its products must be locked.
 * @param lines what reservedLines has read
 * @returns the lines to put back on the shelf
 * @throws Conflict when an order has been reserved since the lines were read
 */
export async function release(
  tx: Tx,
  orderIds: readonly string[],
  lines: readonly ReservedLine[]
): Promise<ReservedLine[]> {
  if (orderIds.length === 0) return []
  const [, rows] = await Promise.all([
    run(tx, INSERT_TOMBSTONES, [orderIds]),
    run<{ order_id: string }>(tx, RELEASE, [orderIds])
  ])
  const released = new Set(rows.map((row) => row.order_id))
  const back = lines.filter(({ orderId }) => released.has(orderId))
  if (new Set(back.map(({ orderId }) => orderId)).size !== released.size)
    throw new Conflict('A reservation was made by another transaction')
  return back
}
