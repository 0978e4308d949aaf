// What the job queue peers share: the SQL of the three steps, for one order or many, safe to be
// repeated.
export interface Statement {
  name: string
  text: string
}
export type Row = Record<string, unknown>
export type Query = (statement: Statement, values: unknown[]) => Promise<{ rows: Row[] }>

export interface Item {
  productId: string
  quantity: number
}
export interface StockJob {
  orderId: string
  items: Item[]
  paymentMethod: string
}
export interface PaymentJob {
  orderId: string
  total: number
  currency: string
  paymentMethod: string
}
export type FinishJob =
  | { orderId: string; outcome: 'Completed'; total: number; currency: string }
  | { orderId: string; outcome: 'Refused' | 'Declined'; reason: string }

/** Order and lines. A peer that enqueues by SQL adds its own end. */
export const PLACE = `
  with made as (
    insert into order_service.orders (order_id, customer_id, payment_method) values ($1, $2, $3)
      returning order_id
  ), lines as (
    insert into order_service.order_lines (order_id, line, product_id, quantity)
    select $1, line.line, line.product_id, line.quantity
      from unnest($4::text[], $5::integer[]) with ordinality as line (product_id, quantity, line)
  )`

/**
 * Only what is new is written: the rows of `made` are the orders that this statement has decided.
 */
export const RESERVE = `
  with made as (
    insert into stock_service.reservations (order_id, status, reason, product_id, total, currency)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
    on conflict do nothing
    returning order_id
  ), taken as (
    select line.* from unnest($7::uuid[], $8::text[], $9::integer[],
      $10::bigint[]) as line (order_id, product_id, quantity, unit_price)
    join made using (order_id)
  ), lines as (
    insert into stock_service.reservation_lines (order_id, product_id, quantity,
      unit_price) select * from taken
  ), moved as (
    update stock_service.products set on_hand = on_hand - sold.quantity,
      reserved = reserved + sold.quantity, updated_at = now()
    from (select product_id, sum(quantity) as quantity from taken group by product_id) as sold
    where products.product_id = sold.product_id
  )`

/** The rows of `settled` are the payments that this statement has ended. */
export const SETTLE = `
  with settled as (
    update payment_service.payments set status = result.status,
      gateway_reference = result.reference, failure_reason = result.reason, updated_at = now()
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as result (order_id, status,
      reference, reason)
    where payments.order_id = result.order_id and payments.status = 'Pending'
    returning payments.order_id
  )`

const LOCK: Statement = {
  name: 'lock',
  text: `select product_id, unit_price, currency, on_hand from stock_service.products
    where product_id = any($1::text[]) order by product_id for no key update`
}

const OPEN: Statement = {
  name: 'open',
  text: `insert into payment_service.payments (order_id, status, amount, currency, payment_method, attempts)
    select order_id, 'Pending', amount, currency, method, 1
    from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) as job (order_id, amount,
      currency, method)
    on conflict (order_id) do update set attempts = payments.attempts + 1, updated_at = now()
    returning order_id, status`
}

const FINISH: Statement = {
  name: 'finish',
  text: `update order_service.orders
    set status = result.status, failure_reason = result.reason, total = result.total,
      currency = result.currency, updated_at = now()
    from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[]) as result (order_id,
      status, reason, total, currency)
    where orders.order_id = result.order_id and orders.status = 'Suspend'`
}

const LOCK_RESERVED: Statement = {
  name: 'lock_reserved',
  text: `select product_id from stock_service.products
    where product_id in (select product_id from stock_service.reservation_lines
      where order_id = any($1::uuid[]))
    order by product_id for no key update`
}

const RELEASE: Statement = {
  name: 'release',
  text: `with released as (
      update stock_service.reservations set status = 'Released', updated_at = now()
      where order_id = any($1::uuid[]) and status = 'Reserved' returning order_id
    ), back as (
      select product_id, sum(quantity) as quantity from stock_service.reservation_lines
        join released using (order_id) group by product_id
    )
    update stock_service.products set on_hand = on_hand + back.quantity,
      reserved = reserved - back.quantity, updated_at = now()
    from back where products.product_id = back.product_id`
}

interface Line {
  productId: string
  quantity: number
  unitPrice: number
}
export type Decision = { orderId: string; paymentMethod: string; lines: Line[] } & (
  | { status: 'Reserved'; total: number; currency: string }
  | { status: 'Refused'; reason: string; productId: string }
)

/** Locks the products of all orders in key order and decides each order as a whole. */
export async function decide(query: Query, jobs: StockJob[]): Promise<Decision[]> {
  const { rows } = await query(LOCK, [
    [...new Set(jobs.flatMap(({ items }) => items.map(({ productId }) => productId)))]
  ])
  const shelves = new Map(
    rows.map((row) => [
      row['product_id'],
      {
        price: Number(row['unit_price']),
        currency: row['currency'] as string,
        onHand: Number(row['on_hand'])
      }
    ])
  )
  return jobs.map(({ orderId, items, paymentMethod }): Decision => {
    const refused = (reason: string, productId: string): Decision => ({
      orderId,
      paymentMethod,
      lines: [],
      status: 'Refused',
      reason,
      productId
    })
    const demand = new Map<string, number>()
    for (const { productId, quantity } of items)
      demand.set(productId, (demand.get(productId) ?? 0) + quantity)
    const lines: Line[] = []
    let currency = ''
    for (const [productId, quantity] of demand) {
      const shelf = shelves.get(productId)
      if (!shelf) return refused('UnknownProduct', productId)
      if (shelf.onHand < quantity) return refused('OutOfStock', productId)
      if (currency && currency !== shelf.currency) return refused('MixedCurrencies', productId)
      currency = shelf.currency
      lines.push({ productId, quantity, unitPrice: shelf.price })
    }
    for (const { productId, quantity } of lines) shelves.get(productId)!.onHand -= quantity
    return {
      orderId,
      paymentMethod,
      lines,
      status: 'Reserved',
      total: lines.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
      currency
    }
  })
}

/** The values of RESERVE. */
export function reservation(decisions: Decision[]): unknown[] {
  const lines = decisions.flatMap((decision) =>
    decision.lines.map((line) => ({ orderId: decision.orderId, ...line }))
  )
  return [
    decisions.map(({ orderId }) => orderId),
    decisions.map(({ status }) => status),
    decisions.map((decision) => (decision.status === 'Refused' ? decision.reason : null)),
    decisions.map((decision) => (decision.status === 'Refused' ? decision.productId : null)),
    decisions.map((decision) => (decision.status === 'Reserved' ? decision.total : null)),
    decisions.map((decision) => (decision.status === 'Reserved' ? decision.currency : null)),
    lines.map(({ orderId }) => orderId),
    lines.map(({ productId }) => productId),
    lines.map(({ quantity }) => quantity),
    lines.map(({ unitPrice }) => unitPrice)
  ]
}

/**
 * Records the payments as Pending and asks the gateway, which knows each charge by its order id;
 * yields the values of SETTLE.
 */
export async function charge(
  query: Query,
  jobs: PaymentJob[]
): Promise<{ charged: (PaymentJob & { reason: string | null })[]; values: unknown[] }> {
  const { rows } = await query(OPEN, [
    jobs.map(({ orderId }) => orderId),
    jobs.map(({ total }) => total),
    jobs.map(({ currency }) => currency),
    jobs.map(({ paymentMethod }) => paymentMethod)
  ])
  const pending = new Set(
    rows.filter(({ status }) => status === 'Pending').map((row) => row['order_id'])
  )
  const charged = await Promise.all(
    jobs
      .filter(({ orderId }) => pending.has(orderId))
      .map(async (job) => ({ ...job, ...(await gateway(job)) }))
  )
  const values = [
    charged.map(({ orderId }) => orderId),
    charged.map(({ reason }) => (reason ? 'Failed' : 'Completed')),
    charged.map(({ reference }) => reference),
    charged.map(({ reason }) => reason)
  ]
  return { charged, values }
}

async function gateway({
  orderId,
  paymentMethod
}: PaymentJob): Promise<{ reference: string | null; reason: string | null }> {
  return paymentMethod === 'pm_card_chargeDeclined'
    ? { reference: null, reason: 'CardDeclined' }
    : { reference: `sim_${orderId}`, reason: null }
}

export function finishJob({
  orderId,
  total,
  currency,
  reason
}: PaymentJob & { reason: string | null }): FinishJob {
  return reason
    ? { orderId, outcome: 'Declined', reason }
    : { orderId, outcome: 'Completed', total, currency }
}

/**
 * Ends the orders; the stock of declined ones goes back, and then this wants a transaction around
 * it.
 */
export async function finish(query: Query, jobs: FinishJob[]): Promise<void> {
  const declined = jobs
    .filter(({ outcome }) => outcome === 'Declined')
    .map(({ orderId }) => orderId)
  if (declined.length > 0) {
    await query(LOCK_RESERVED, [declined])
    await query(RELEASE, [declined])
  }
  await query(FINISH, [
    jobs.map(({ orderId }) => orderId),
    jobs.map(({ outcome }) => (outcome === 'Completed' ? outcome : 'Failed')),
    jobs.map((job) => (job.outcome === 'Completed' ? null : job.reason)),
    jobs.map((job) => (job.outcome === 'Completed' ? job.total : null)),
    jobs.map((job) => (job.outcome === 'Completed' ? job.currency : null))
  ])
}
