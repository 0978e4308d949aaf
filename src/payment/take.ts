import { handleBatch, type Handler, type Message, NotRetryable, type Tx } from 'sagabox'
import { joinJson, jsonTexts, run, statement } from 'sagabox/engine'
import { PaymentCompletedEvent, PaymentFailedEvent } from '../contracts/payment.ts'
import { StockReservedEvent } from '../contracts/stock.ts'
import type { Cashier } from './cashier.ts'
import { CLAIM_SECONDS, type Claimed } from './claim.ts'
import type { PaymentStatus } from './entities.ts'

// Claimed as it is inserted, which saves a transaction and an update a payment. By the clock and
// not by now(), which is when the transaction began: the claim must not run out before the
// gateway's time does.
const INSERT = statement(`
  insert into payments (order_id, status, amount, currency, payment_method, cause, attempts,
    next_attempt_at)
  select order_id, 'Pending', amount, currency, payment_method, cause,
    case when $6 then 1 else 0 end,
    case when $6 then clock_timestamp() + interval '${CLAIM_SECONDS} seconds' else now() end
  from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[],
    ${jsonTexts(5)}::jsonb[]) as taken (order_id, amount, currency, payment_method, cause)
  order by order_id
  on conflict do nothing returning order_id`)

const READ = statement(
  `
    select order_id, status, amount, currency, failure_reason from payments
      where order_id = any($1::uuid[])`
)

/**
 * An order that is known is to be paid otherwise now. The first price counts; the message becomes a
 * dead letter, since one of the two is not stock's. The order's saga hears both and fails the
 * order.
 */
class OtherPrice extends NotRetryable {
  override readonly name = 'OtherPrice'
  override readonly code = 'OTHER_PRICE'
}

/** Takes payments, and has the cashier ask for them as soon as they are committed. */
export function takingPayments(cashier: Cashier): Handler {
  /** By the batch that they came in. */
  const taken = new WeakMap<readonly Message[], { claimed: Claimed[]; began: number }>()
  return handleBatch(
    StockReservedEvent,
    async (messages, tx) => {
      const began = performance.now()
      const { claimed, answers } = await takePayments(messages, tx, cashier.hasRoom)
      taken.set(messages, { claimed, began })
      return answers
    },
    {
      committed(messages) {
        const { claimed, began } = taken.get(messages)!
        if (claimed.length > 0) cashier.ask(claimed, began)
        else cashier.wake()
      }
    }
  )
}

/**
 * Records that each order is to be paid. The gateway is asked later, outside any transaction. An
 * order that has its payment already gets the same answer again; one whose refund came first is
 * never charged. Only what the first reservation says is charged.
 * @param claim the caller asks the gateway right after the commit; otherwise the payments wait for
 * whoever claims them
 * @throws OtherPrice when an order's payment is of another amount or currency
 */
export async function takePayments(
  messages: Message<typeof StockReservedEvent>[],
  tx: Tx,
  claim: boolean
): Promise<{ claimed: Claimed[]; answers: Message[] }> {
  const payments = messages.map(
    ({
      body: { orderId, total, currency, paymentMethod },
      conversationId,
      correlationId,
      headers
    }): Claimed => ({
      orderId: orderId.toLowerCase(),
      status: 'Pending',
      amount: total,
      currency,
      paymentMethod,
      cause: { conversationId, correlationId, headers },
      attempts: 1,
      refundRequested: false,
      reference: null,
      ageMs: 0
    })
  )
  const made = await run<{ order_id: string }>(tx, INSERT, [
    payments.map(({ orderId }) => orderId),
    payments.map(({ amount }) => amount),
    payments.map(({ currency }) => currency),
    payments.map(({ paymentMethod }) => paymentMethod),
    joinJson(payments.map(({ cause }) => JSON.stringify(cause))),
    claim
  ])
  const fresh = new Set(made.map((row) => row.order_id))
  const isFresh = payments.map(({ orderId }) => fresh.delete(orderId))
  const known = messages.filter((_, index) => !isFresh[index])
  return {
    claimed: claim ? payments.filter((_, index) => isFresh[index]) : [],
    answers: known.length > 0 ? await answerAgain(tx, known) : []
  }
}

async function answerAgain(
  tx: Tx,
  messages: Message<typeof StockReservedEvent>[]
): Promise<Message[]> {
  type Row = {
    order_id: string
    status: PaymentStatus
    amount: string
    currency: string
    failure_reason: string | null
  }
  const rows = await run<Row>(tx, READ, [messages.map(({ body }) => body.orderId)])
  const byOrder = new Map(rows.map((row) => [row.order_id, row]))
  return messages.flatMap((reserved): Message[] => {
    const { orderId, total: askedTotal, currency: askedCurrency } = reserved.body
    const { status, amount, currency, failure_reason: reason } = byOrder.get(orderId.toLowerCase())!
    // A tombstone has no currency, and no price either.
    if (currency !== '' && (Number(amount) !== askedTotal || currency !== askedCurrency)) {
      throw new OtherPrice(
        `order ${orderId} is to be paid ${amount} ${currency}, as its first reservation said; ` +
          `expected the same, and this one says ${askedTotal} ${askedCurrency}`
      )
    }
    if (status === 'Completed')
      return [PaymentCompletedEvent({ orderId, amount: Number(amount), currency }, reserved)]
    if (status === 'Failed' || status === 'Cancelled')
      return [PaymentFailedEvent({ orderId, reason: reason ?? 'Cancelled' }, reserved)]
    // Pending, Refunding and Refunded are answered when the gateway has answered, or have been.
    return []
  })
}
