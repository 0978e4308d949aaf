import type { Message, Tx } from 'sagabox'
import { Conflict, run, statement } from 'sagabox/engine'
import type { OrderCreatedEvent } from '../contracts/order.ts'
import { StockNotReservedEvent, StockReservedEvent } from '../contracts/stock.ts'
import type { StockDecision } from './decide.ts'
import type { ReservationStatus } from './entities.ts'

const READ_RESERVATIONS = statement(
  `
    select order_id, status, reason, product_id, total, currency from reservations
      where order_id = any($1::uuid[])`
)

const INSERT_RESERVATIONS = statement(`
  with made as (
    insert into reservations (order_id, status, reason, product_id, total, currency)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[],
      $6::text[]) as made (order_id) order by order_id
    on conflict do nothing
    returning order_id
  ), lines as (
    insert into reservation_lines (order_id, product_id, quantity, unit_price)
    select * from unnest($7::uuid[], $8::text[], $9::integer[], $10::bigint[])
  )
  select count(*)::integer as made from made`)

export type Answer = {
  status: ReservationStatus
  reason?: string | null
  productId?: string | null
  total?: number | null
  currency?: string | null
}

/** An order id as Postgres writes it. */
export function orderKey({ orderId }: { orderId: string }): string {
  return orderId.toLowerCase()
}

/** What was decided about these orders in earlier transactions. */
export async function decidedBefore(
  tx: Tx,
  messages: readonly Message<typeof OrderCreatedEvent>[]
): Promise<Map<string, Answer>> {
  type Row = {
    order_id: string
    status: ReservationStatus
    reason: string | null
    product_id: string | null
    total: string | null
    currency: string | null
  }
  if (messages.length === 0) return new Map()
  const rows = await run<Row>(tx, READ_RESERVATIONS, [messages.map(({ body }) => body.orderId)])
  return new Map(
    rows.map((row) => [
      row.order_id,
      { ...row, productId: row.product_id, total: row.total === null ? null : Number(row.total) }
    ])
  )
}

/**
 * Records new decisions.
 * @throws Conflict when one of these orders has been decided since we looked
 */
export async function insertDecisions(
  tx: Tx,
  decisions: readonly ({ orderId: string } & StockDecision)[]
): Promise<void> {
  if (decisions.length === 0) return
  const lines = decisions.flatMap((decision) =>
    decision.status === 'Reserved'
      ? decision.lines.map((line) => ({ orderId: decision.orderId, ...line }))
      : []
  )
  const [row] = await run<{ made: number }>(tx, INSERT_RESERVATIONS, [
    decisions.map(({ orderId }) => orderId),
    decisions.map(({ status }) => status),
    decisions.map((decision) => (decision.status === 'Refused' ? decision.reason : null)),
    decisions.map((decision) =>
      decision.status === 'Refused' ? (decision.productId ?? null) : null
    ),
    decisions.map((decision) => (decision.status === 'Reserved' ? decision.total : null)),
    decisions.map((decision) => (decision.status === 'Reserved' ? decision.currency : null)),
    lines.map(({ orderId }) => orderId),
    lines.map(({ productId }) => productId),
    lines.map(({ quantity }) => quantity),
    lines.map(({ unitPrice }) => unitPrice)
  ])
  // Another instance decided one of these orders, or released it, since we looked: look again.
  if (row!.made !== decisions.length)
    throw new Conflict('A reservation was made by another transaction')
}

export function answerTo(created: Message<typeof OrderCreatedEvent>, answer: Answer): Message {
  const { orderId, customerId, items, paymentMethod } = created.body
  if (answer.status === 'Reserved') {
    return StockReservedEvent(
      {
        orderId,
        customerId,
        items,
        total: answer.total!,
        currency: answer.currency!,
        paymentMethod
      },
      created
    )
  }
  const reason = answer.status === 'Released' ? 'Released' : (answer.reason ?? 'Refused')
  return StockNotReservedEvent(
    { orderId, reason, ...(answer.productId && { productId: answer.productId }) },
    created
  )
}
