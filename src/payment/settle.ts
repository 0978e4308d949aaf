import { type Audit, HttpProblem, notFound } from 'sagabox/fastify'
import { retryConflicts } from 'sagabox/engine'
import type { Message, Outbox, Tx } from 'sagabox'
import { PaymentRefundedEvent } from '../contracts/payment.ts'
import { reasonOf } from './reason.ts'
import type { PaymentStatus } from './entities.ts'

const LOCK = `
  select status, amount::float8 as amount, refunded_amount::float8 as refunded,
    gateway_reference as reference, cause,
    settled_why as why, refund_requested and last_error is not null as unanswered
  from payments where order_id = $1 for update`

const SETTLE = `
  update payments set status = $2, refunded_amount = $3, next_attempt_at = null,
    settled_by = $4, settled_at = now(), settled_why = $5, updated_at = now()
  where order_id = $1`

const ASK_AGAIN = `
  update payments set status = 'Refunding', attempts = 0, next_attempt_at = now(),
    updated_at = now() where order_id = $1`

interface Locked {
  status: PaymentStatus
  amount: number
  refunded: number
  reference: string | null
  cause: Pick<Message, 'conversationId' | 'correlationId' | 'headers'> | null
  why: string | null
  /** Its refund is wanted, and what the gateway was last asked it did not answer. */
  unanswered: boolean
}

/** What a person has found out, or done, where the gateway gives nothing back. */
export interface Settlement {
  /**
   * `refunded`: the customer got `amount` back in another way; `kept`: `amount` stays, and the rest
   * went back.
   */
  outcome: 'refunded' | 'kept'
  /** Minor units. */
  amount: number
  reason: string
  by: string
}

/**
 * Ends a payment that the gateway will not end, and tells the order by PaymentRefundedEvent; the
 * same once more changes nothing.
 * @throws HttpProblem 404 when there is no such payment, 409 when it waits for no person, or more
 * would have gone back than was taken
 */
export function settlePayment(
  outbox: Outbox,
  orderId: string,
  settlement: Settlement,
  audit: Audit
): Promise<void> {
  return retryConflicts(() =>
    outbox.transaction(async (tx) => {
      const payment = await lock(tx, orderId)
      const { status, back } = endOf(payment, settlement)
      const { reason, by } = settlement
      if (payment.why !== null) {
        if (payment.status === status && payment.refunded === back && payment.why === reason)
          return audit(tx)
        throw new HttpProblem(
          409,
          `The payment for order ${orderId} was settled before: ${payment.status}, ${payment.refunded} given back, ${payment.why}`
        )
      }
      const waits =
        payment.status === 'RefundRefused' || (isAsked(payment.status) && payment.unanswered)
      if (!waits)
        throw new HttpProblem(
          409,
          `The payment for order ${orderId} is ${payment.status} and waits for no person: ${hintFor(payment.status)}`
        )
      await tx.query(SETTLE, [orderId, status, back, by, reason])
      audit(tx)
      tx.send(
        PaymentRefundedEvent(
          { orderId, amount: back, reason: reasonOf(reason) },
          payment.cause ?? undefined
        )
      )
    })
  )
}

/**
 * Has the gateway asked once more for a refund that it refused: a dispute was withdrawn, a key is
 * mended.
 * @throws HttpProblem 404 when there is no such payment, 409 when its refund was not refused
 */
export function retryRefund(outbox: Outbox, orderId: string, audit: Audit): Promise<void> {
  return retryConflicts(() =>
    outbox.transaction(async (tx) => {
      const { status } = await lock(tx, orderId)
      if (status !== 'RefundRefused')
        throw new HttpProblem(
          409,
          `The payment for order ${orderId} is ${status}; only one that is RefundRefused is asked for again`
        )
      await tx.query(ASK_AGAIN, [orderId])
      audit(tx)
    })
  )
}

async function lock(tx: Tx, orderId: string): Promise<Locked> {
  const {
    rows: [payment]
  } = await tx.query<Locked>(LOCK, [orderId])
  if (!payment) throw notFound(`payment for order ${orderId}`)
  return payment
}

function endOf(
  { amount: taken, reference }: Locked,
  { outcome, amount }: Settlement
): { status: PaymentStatus; back: number } {
  const refuse = (expected: string) =>
    new HttpProblem(409, `amount ${expected}`, [{ field: 'amount', expected }])
  if (amount > taken) throw refuse(`must be at most ${taken}, which is what was to be paid`)
  if (outcome === 'kept') return { status: 'Kept', back: taken - amount }
  if (amount > 0) return { status: 'Refunded', back: amount }
  if (reference !== null)
    throw refuse(
      `must be at least 1: ${taken} were taken, and when none of it went back the outcome is kept`
    )
  return { status: 'Cancelled', back: 0 }
}

function isAsked(status: PaymentStatus): boolean {
  return status === 'Pending' || status === 'Refunding'
}

function hintFor(status: PaymentStatus): string {
  return isAsked(status)
    ? 'the gateway is being asked; a person may end it when the order has failed and lastError says that it does not answer'
    : 'nothing is open'
}
