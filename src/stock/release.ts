import { ReleaseStock, StockReleasedEvent } from '../contracts/stock.ts'
import { message, type Message } from '../messaging/message.ts'
import { Conflict, run, statement, type Tx } from '../messaging/sql.ts'
import { lockProducts, moveStock } from './products.ts'

const READ_LINES = statement(`select order_id, product_id, quantity from reservation_lines where order_id = any($1::uuid[])`)

// Only a reservation that is still held gives units back, however often it is released.
const RELEASE = statement(`
  update reservations set status = 'Released', updated_at = now()
  where order_id = any($1::uuid[]) and status = 'Reserved' returning order_id`)

// A release that overtook its OrderCreatedEvent leaves a tombstone: the reservation will be refused.
const INSERT_TOMBSTONES = statement(`
  insert into reservations (order_id, status)
  select id, 'Released' from unnest($1::uuid[]) as id
  where not exists (select from reservations where order_id = id) order by id
  on conflict do nothing`)

interface Line {
  order_id: string
  product_id: string
  quantity: number
}

/** The products that releasing these orders will lock. */
export async function reservedProducts(messages: Message<typeof ReleaseStock>[], tx: Tx): Promise<string[]> {
  const lines = await run<Line>(tx, READ_LINES, [messages.map(({ body }) => body.orderId)])
  return lines.map(({ product_id: productId }) => productId)
}

/** Gives back what is held for each order; safe to repeat. Locks in the order of reserveStock: products, then reservations. */
export async function releaseStock(messages: Message<typeof ReleaseStock>[], tx: Tx): Promise<Message[]> {
  const orderIds = [...new Set(messages.map(({ body }) => body.orderId.toLowerCase()))]
  const lines = await run<Line>(tx, READ_LINES, [orderIds])
  await lockProducts(tx, lines.map(({ product_id: productId }) => productId))
  await run(tx, INSERT_TOMBSTONES, [orderIds])
  const released = new Set((await run<{ order_id: string }>(tx, RELEASE, [orderIds])).map((row) => row.order_id))
  const held = lines.filter((line) => released.has(line.order_id))
  // A reservation that committed after the lines were read would be released without its units: look again.
  if (new Set(held.map((line) => line.order_id)).size !== released.size) throw new Conflict('A reservation was made by another transaction')
  await moveStock(tx, held.map(({ product_id: productId, quantity }) => ({ productId, quantity })), 1)
  return messages.map((command) => message(StockReleasedEvent, { orderId: command.body.orderId }, command))
}
