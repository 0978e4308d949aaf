// What each transaction of the order workflow does to the shop's tables. Every statement may be run
// again.
import type pg from 'pg'

export interface Item {
  productId: string
  quantity: number
}

export interface Order {
  orderId: string
  customerId: string
  items: Item[]
  paymentMethod: string
}

export type Reservation =
  | { reserved: true; total: number; currency: string }
  | { reserved: false; reason: string }

export async function insertOrder(
  client: pg.ClientBase,
  { orderId, customerId, items, paymentMethod }: Order
): Promise<void> {
  await run(
    client,
    'insert-order',
    `
    with made as (insert into order_service.orders (order_id, customer_id,
      payment_method) values ($1, $2, $3))
    insert into order_service.order_lines (order_id, line, product_id, quantity)
    select $1, line, product_id, quantity from unnest($4::text[],
      $5::integer[]) with ordinality as items (product_id, quantity, line)`,
    [
      orderId,
      customerId,
      paymentMethod,
      items.map(({ productId }) => productId),
      items.map(({ quantity }) => quantity)
    ]
  )
}

/**
 * Takes all of an order from the shelves and opens its payment; or refuses it, and the order has
 * failed.
 */
export async function reserveStock(
  client: pg.ClientBase,
  { orderId, items, paymentMethod }: Order
): Promise<Reservation> {
  const demand = new Map<string, number>()
  for (const { productId, quantity } of items)
    demand.set(productId, (demand.get(productId) ?? 0) + quantity)
  type Shelf = { product_id: string; unit_price: string; currency: string; on_hand: string }
  const shelves = await run<Shelf>(
    client,
    'lock-products',
    `
    select product_id, unit_price, currency, on_hand from stock_service.products
    where product_id = any($1::text[]) order by product_id for no key update`,
    [[...demand.keys()]]
  )
  if (shelves.length < demand.size) return refuse(client, orderId, 'UnknownProduct')
  if (shelves.some((shelf) => Number(shelf.on_hand) < demand.get(shelf.product_id)!))
    return refuse(client, orderId, 'OutOfStock')
  const currency = shelves[0]!.currency
  if (shelves.some((shelf) => shelf.currency !== currency))
    return refuse(client, orderId, 'MixedCurrencies')

  const total = shelves.reduce(
    (sum, shelf) => sum + Number(shelf.unit_price) * demand.get(shelf.product_id)!,
    0
  )
  const taken = await run(
    client,
    'reserve',
    `
    with lines as (
      select * from unnest($4::text[], $5::integer[], $6::bigint[]) as lines (product_id, quantity,
        unit_price)
    ), reserved as (
      insert into stock_service.reservations (order_id, status, total, currency) values ($1,
        'Reserved', $2, $3)
    ), reserved_lines as (
      insert into stock_service.reservation_lines (order_id, product_id, quantity,
        unit_price) select $1, * from lines
    ), payment as (
      insert into payment_service.payments (order_id, status, amount, currency,
        payment_method) values ($1, 'Pending', $2, $3, $7)
    )
    update stock_service.products as shelf set on_hand = on_hand - quantity,
      reserved = reserved + quantity, updated_at = now()
    from lines where shelf.product_id = lines.product_id and on_hand >= quantity
      returning shelf.product_id`,
    [
      orderId,
      total,
      currency,
      shelves.map((shelf) => shelf.product_id),
      shelves.map((shelf) => demand.get(shelf.product_id)),
      shelves.map((shelf) => shelf.unit_price),
      paymentMethod
    ]
  )
  if (taken.length < demand.size) throw new Error('A decision did not match the locked rows')
  return { reserved: true, total, currency }
}

async function refuse(
  client: pg.ClientBase,
  orderId: string,
  reason: string
): Promise<Reservation> {
  await run(
    client,
    'refuse',
    `
    with refused as (insert into stock_service.reservations (order_id, status, reason) values ($1,
      'Refused', $2))
    update order_service.orders set status = 'Failed', failure_reason = $2, updated_at = now()
      where order_id = $1`,
    [orderId, reason]
  )
  return { reserved: false, reason }
}

export async function completeOrder(
  client: pg.ClientBase,
  orderId: string,
  total: number,
  currency: string,
  reference: string
): Promise<void> {
  await run(
    client,
    'complete',
    `
    with paid as (
      update payment_service.payments set status = 'Completed', gateway_reference = $4,
        updated_at = now() where order_id = $1 and status = 'Pending'
    )
    update order_service.orders set status = 'Completed', total = $2, currency = $3,
      updated_at = now() where order_id = $1 and status = 'Suspend'`,
    [orderId, total, currency, reference]
  )
}

/** The compensation: gives the stock back, and the payment and the order have failed. */
export async function failOrder(
  client: pg.ClientBase,
  orderId: string,
  reason: string
): Promise<void> {
  await run(
    client,
    'lock-reserved',
    `
    select from stock_service.products where product_id in (select product_id
      from stock_service.reservation_lines where order_id = $1)
    order by product_id for no key update`,
    [orderId]
  )
  await run(
    client,
    'fail',
    `
    with declined as (
      update payment_service.payments set status = 'Failed', failure_reason = $2, updated_at = now()
        where order_id = $1 and status = 'Pending'
    ), released as (
      update stock_service.reservations set status = 'Released', updated_at = now()
        where order_id = $1 and status = 'Reserved' returning order_id
    ), given_back as (
      update stock_service.products as shelf set on_hand = on_hand + quantity,
        reserved = reserved - quantity, updated_at = now()
      from stock_service.reservation_lines as lines join released using (order_id)
        where shelf.product_id = lines.product_id
    )
    update order_service.orders set status = 'Failed', failure_reason = $2, updated_at = now()
      where order_id = $1 and status = 'Suspend'`,
    [orderId, reason]
  )
}

async function run<Row extends pg.QueryResultRow>(
  client: pg.ClientBase,
  name: string,
  text: string,
  values: unknown[]
): Promise<Row[]> {
  return (await client.query<Row>({ name, text, values })).rows
}
