import type { Database } from 'sagabox'
import { transaction } from 'sagabox/engine'
import type { PaymentStatus } from './entities.ts'

/**
 * Payments that one statement looks through, newest first: it ends in time, however few of millions
 * fit.
 */
const WINDOW = 100_000

const BEFORE = `($1::uuid is null or order_id < $1)`
const NEWEST = `order by order_id desc limit $2`

const ALL = `select order_id from payments where ${BEFORE} ${NEWEST}`

// Partial indexes hold them, and only them.
const REFUSED = `select order_id from payments where ${BEFORE} and status = 'RefundRefused' ${NEWEST}`
const WAITING = `select order_id from payments where ${BEFORE} and next_attempt_at is not null and status = $3 ${NEWEST}`

const ENDED = `
  select order_id from (select order_id, status from payments where ${BEFORE} order by order_id desc
    limit ${WINDOW}) as newest
  where status = $3 ${NEWEST}`

/** The oldest of the payments that ENDED looks through; none when those are all that there are. */
const END = `select order_id from payments where ${BEFORE} order by order_id desc offset ${WINDOW - 1} limit 1`

export interface PaymentFilter {
  status?: PaymentStatus
  limit: number
  /** Only payments of orders with a smaller id. */
  before?: string
}

/**
 * The orders whose payments fit, newest first.
 * @returns `readOn` when fewer than asked for were found and there are older ones that were not
 * looked at: the id before which to go on
 */
export async function newestPayments(
  database: Database,
  { status, limit, before }: PaymentFilter
): Promise<{ ids: string[]; readOn?: string }> {
  // All see one moment: what is taken in between would move the end of the window.
  return transaction(
    database,
    async (tx) => {
      const read = async (sql: string, ...more: unknown[]) => {
        const { rows } = await tx.query<{ order_id: string }>(sql, [before ?? null, ...more])
        return rows.map(({ order_id: orderId }) => orderId)
      }
      if (status === undefined) return { ids: await read(ALL, limit) }
      if (status === 'RefundRefused') return { ids: await read(REFUSED, limit) }
      if (status === 'Pending' || status === 'Refunding')
        return { ids: await read(WAITING, limit, status) }
      const ids = await read(ENDED, limit, status)
      return { ids, readOn: ids.length < limit ? (await read(END))[0] : undefined }
    },
    { isolation: 'repeatable read' }
  )
}
