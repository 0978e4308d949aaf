import type { Envelope, FloorService, Reply, Sql } from './service.ts'

interface Created {
  orderId: string
  customerId: string
  items: { productId: string; quantity: number }[]
  paymentMethod: string
}

export async function startStock(service: FloorService): Promise<void> {
  await service.consume(async (messages, sql) => {
    const releases = messages.filter(({ type }) => type === 'ReleaseStock')
    const created = messages.filter(({ type }) => type === 'OrderCreatedEvent')
    return [
      ...(created.length > 0 ? await reserve(created, sql) : []),
      ...(releases.length > 0 ? await release(releases, sql) : [])
    ]
  })
}

async function reserve(messages: Envelope[], sql: Sql): Promise<Reply[]> {
  const orders = messages.map(({ body }) => body as unknown as Created)
  const rows = await sql<{
    product_id: string
    unit_price: string
    currency: string
    on_hand: string
  }>(
    'lock',
    'select product_id, unit_price, currency, on_hand from products where product_id = any($1::text[]) order by product_id for no key update',
    [[...new Set(orders.flatMap(({ items }) => items.map(({ productId }) => productId)))]]
  )
  const shelves = new Map(
    rows.map((row) => [
      row.product_id,
      { price: Number(row.unit_price), currency: row.currency, onHand: Number(row.on_hand) }
    ])
  )
  const taken = new Map<string, number>()
  const reserved: { order: Created; total: number; currency: string }[] = []
  const refused: Created[] = []
  for (const order of orders) {
    const demand = new Map<string, number>()
    for (const { productId, quantity } of order.items)
      demand.set(productId, (demand.get(productId) ?? 0) + quantity)
    if (
      ![...demand].every(
        ([productId, quantity]) => (shelves.get(productId)?.onHand ?? 0) >= quantity
      )
    ) {
      refused.push(order)
      continue
    }
    let total = 0
    for (const [productId, quantity] of demand) {
      const shelf = shelves.get(productId)!
      shelf.onHand -= quantity
      total += shelf.price * quantity
      taken.set(productId, (taken.get(productId) ?? 0) + quantity)
    }
    reserved.push({ order, total, currency: shelves.get(order.items[0]!.productId)!.currency })
  }
  const lines = reserved.flatMap(({ order }) =>
    order.items.map((item) => ({ orderId: order.orderId, ...item }))
  )
  void sql(
    'reserve',
    `with reserved as (
      insert into reservations (order_id, status, reason, total, currency) select *
        from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[])
    ), taken as (
      update products set on_hand = on_hand - quantity, reserved = reserved + quantity,
        updated_at = now()
      from unnest($6::text[], $7::bigint[]) as taken (id, quantity)
        where product_id = any($6::text[]) and product_id = id
    )
    insert into reservation_lines (order_id, product_id, quantity, unit_price)
    select order_id, product_id, sum(quantity), min(price)
      from unnest($8::uuid[], $9::text[], $10::integer[], $11::bigint[]) as lines (order_id,
      product_id, quantity, price) group by 1, 2`,
    [
      [...reserved.map(({ order }) => order.orderId), ...refused.map(({ orderId }) => orderId)],
      [...reserved.map(() => 'Reserved'), ...refused.map(() => 'Refused')],
      [...reserved.map(() => null), ...refused.map(() => 'OutOfStock')],
      [...reserved.map(({ total }) => total), ...refused.map(() => null)],
      [...reserved.map(({ currency }) => currency), ...refused.map(() => null)],
      [...taken.keys()],
      [...taken.values()],
      lines.map(({ orderId }) => orderId),
      lines.map(({ productId }) => productId),
      lines.map(({ quantity }) => quantity),
      lines.map(({ productId }) => shelves.get(productId)!.price)
    ]
  )
  return [
    ...reserved.map(({ order, total, currency }) => ({
      type: 'StockReservedEvent',
      body: { ...order, total, currency }
    })),
    ...refused.map(({ orderId }) => ({
      type: 'StockNotReservedEvent',
      body: { orderId, reason: 'OutOfStock' }
    }))
  ]
}

async function release(messages: Envelope[], sql: Sql): Promise<Reply[]> {
  const orderIds = messages.map(({ body }) => body['orderId'])
  const lines = await sql<{ product_id: string; quantity: string }>(
    'release-lock',
    `select p.product_id, l.quantity from products p join (
      select lines.product_id, sum(quantity) as quantity from reservation_lines lines
        join reservations using (order_id) where order_id = any($1::uuid[]) and status = 'Reserved'
        group by 1) l using (product_id)
      order by p.product_id for no key update of p`,
    [orderIds]
  )
  void sql(
    'release',
    `with released as (
      update reservations set status = 'Released', updated_at = now()
        where order_id = any($1::uuid[]) and status = 'Reserved'
    )
    update products set on_hand = on_hand + back.quantity, reserved = reserved - back.quantity,
      updated_at = now()
    from unnest($2::text[], $3::bigint[]) as back (id, quantity) where product_id = any($2::text[])
      and product_id = id`,
    [orderIds, lines.map((line) => line.product_id), lines.map((line) => line.quantity)]
  )
  return messages.map(({ body }) => ({
    type: 'StockReleasedEvent',
    body: { orderId: body['orderId'] }
  }))
}
