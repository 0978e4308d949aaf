import type { Message, Tx } from 'sagabox'
import { run, statement } from 'sagabox/engine'
import { PaymentRefundedEvent, type RefundPayment } from '../contracts/payment.ts'
import { reasonOf } from './reason.ts'
import type { PaymentStatus } from './entities.ts'

// A refund that overtook its charge leaves a tombstone: the order will never be charged.
const INSERT_TOMBSTONES = statement(`
  insert into payments (order_id, status, amount, currency, payment_method)
  select id, 'Cancelled', 0, '', '' from unnest($1::uuid[]) as id
  where not exists (select from payments where order_id = id) order by id
  on conflict do nothing`)

const LOCK = statement(
  `
    select order_id, status, refunded_amount, settled_why from payments
      where order_id = any($1::uuid[]) order by order_id for update`
)

// While the gateway is being asked, next_attempt_at is when that attempt counts as lost: it must
// not move, or a charge still under way could land after the refund found nothing to give back.
const REQUEST = statement(`
  update payments set refund_requested = true, updated_at = now(),
    status = case status when 'Completed' then 'Refunding' else status end,
    attempts = case status when 'Completed' then 0 else attempts end,
    last_error = case status when 'Completed' then null else last_error end,
    next_attempt_at = case status when 'Completed' then now() else next_attempt_at end
  where order_id = any($1::uuid[])`)

/** Nothing more will move. What waits for the gateway, or for a person, is answered by them. */
const SETTLED: readonly PaymentStatus[] = ['Failed', 'Cancelled', 'Refunded', 'Kept']

/**
 * Begins to give back what each order paid; safe to repeat. Orders with nothing to give back are
 * answered at once.
 */
export async function refundPayments(
  messages: Message<typeof RefundPayment>[],
  tx: Tx
): Promise<Message[]> {
  const orderIds = [...new Set(messages.map(({ body }) => body.orderId.toLowerCase()))]
  await run(tx, INSERT_TOMBSTONES, [orderIds])
  const rows = await run<{
    order_id: string
    status: PaymentStatus
    refunded_amount: string
    settled_why: string | null
  }>(tx, LOCK, [orderIds])
  const byOrder = new Map(rows.map((row) => [row.order_id, row]))
  const waiting = rows
    .filter(({ status }) => status === 'Pending' || status === 'Completed')
    .map((row) => row.order_id)
  if (waiting.length > 0) await run(tx, REQUEST, [waiting])
  return messages.flatMap((command) => {
    const {
      status,
      refunded_amount: refunded,
      settled_why: why
    } = byOrder.get(command.body.orderId.toLowerCase())!
    if (!SETTLED.includes(status)) return []
    const { orderId } = command.body
    return [
      PaymentRefundedEvent(
        { orderId, amount: Number(refunded), ...(why !== null && { reason: reasonOf(why) }) },
        command
      )
    ]
  })
}
