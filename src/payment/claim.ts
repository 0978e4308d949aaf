import type { Message, Tx } from 'sagabox'
import { run, statement } from 'sagabox/engine'
import type { PaymentStatus } from './entities.ts'

/**
 * How long the gateway may take, ms. The claim lasts longer, so that an attempt has ended before it
 * counts as lost.
 */
export const GATEWAY_TIMEOUT_MS = 10_000
export const CLAIM_SECONDS = 15

/** A payment that this process alone asks the gateway for, until the claim runs out. */
export interface Claimed {
  orderId: string
  status: PaymentStatus
  amount: number
  currency: string
  paymentMethod: string
  cause: Pick<Message, 'conversationId' | 'correlationId' | 'headers'> | null
  /** How often the gateway has been asked, this time included. */
  attempts: number
  refundRequested: boolean
  /** The gateway's name for the charge, once it has answered. */
  reference: string | null
  /** How long ago the payment was recorded, ms. */
  ageMs: number
}

// The attempt is committed before the gateway is asked: whoever finds the claim expired asks again
// under the same key.
const CLAIM = statement(`
  update payments set attempts = attempts + 1,
    next_attempt_at = now() + interval '${CLAIM_SECONDS} seconds'
  where order_id = any(array(
    select order_id from payments where next_attempt_at <= now() order by next_attempt_at limit $1
      for update skip locked))
  returning order_id as "orderId", status, amount, currency, payment_method as "paymentMethod",
    cause, attempts, refund_requested as "refundRequested",
    gateway_reference as reference, (extract(epoch from now() - created_at) * 1000)::float8 as "ageMs"`)

/**
 * Claims payments that wait for the gateway: whose time has come, or whose last attempt counts as
 * lost.
 */
export async function claimDue(tx: Tx, limit: number): Promise<Claimed[]> {
  const rows = await run<Claimed & { amount: string }>(tx, CLAIM, [limit])
  return rows.map((row) => ({ ...row, amount: Number(row.amount) }))
}
