import { PaymentCompletedEvent, PaymentFailedEvent } from '../contracts/payment.ts'
import type { StockReservedEvent } from '../contracts/stock.ts'
import { message, type Message } from '../messaging/message.ts'
import { run, statement, type Tx } from '../messaging/sql.ts'
import type { PaymentStatus } from './tables.ts'

const INSERT = statement(`
  insert into payments (order_id, status, amount, currency, payment_method, cause, next_attempt_at)
  select *, now() from (
    select order_id, 'Pending', amount, currency, payment_method, cause
    from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::jsonb[]) as taken (order_id, amount, currency, payment_method, cause)
    order by order_id) as sorted
  on conflict do nothing returning order_id`)

const READ = statement(`select order_id, status, amount, currency, failure_reason from payments where order_id = any($1::uuid[])`)

/**
 * Records that each order is to be paid. The gateway is asked later, outside any transaction. An order that has its
 * payment already gets the same answer again; one whose refund came first is never charged.
 */
export async function takePayments(messages: Message<typeof StockReservedEvent>[], tx: Tx): Promise<Message[]> {
  const made = await run<{ order_id: string }>(tx, INSERT, [
    messages.map(({ body }) => body.orderId),
    messages.map(({ body }) => body.total),
    messages.map(({ body }) => body.currency),
    messages.map(({ body }) => body.paymentMethod),
    messages.map(({ conversationId, correlationId, headers }) => JSON.stringify({ conversationId, correlationId, headers }))
  ])
  const fresh = new Set(made.map((row) => row.order_id))
  const known = messages.filter(({ body }) => !fresh.delete(body.orderId.toLowerCase()))
  return known.length === 0 ? [] : answerAgain(tx, known)
}

async function answerAgain(tx: Tx, messages: Message<typeof StockReservedEvent>[]): Promise<Message[]> {
  type Row = { order_id: string; status: PaymentStatus; amount: string; currency: string; failure_reason: string | null }
  const rows = await run<Row>(tx, READ, [messages.map(({ body }) => body.orderId)])
  const byOrder = new Map(rows.map((row) => [row.order_id, row]))
  return messages.flatMap((reserved): Message[] => {
    const { orderId } = reserved.body
    const { status, amount, currency, failure_reason: reason } = byOrder.get(orderId.toLowerCase())!
    if (status === 'Completed') return [message(PaymentCompletedEvent, { orderId, amount: Number(amount), currency }, reserved)]
    if (status === 'Failed' || status === 'Cancelled') return [message(PaymentFailedEvent, { orderId, reason: reason ?? 'Cancelled' }, reserved)]
    // Pending, Refunding and Refunded are answered when the gateway has answered, or have been.
    return []
  })
}
