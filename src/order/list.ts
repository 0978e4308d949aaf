import type { Database } from 'sagabox'
import { transaction } from 'sagabox/engine'
import type { OrderStatus } from './entities.ts'

/**
 * Orders that one statement looks through, newest first: it ends in time, however few of millions
 * fit.
 */
const WINDOW = 100_000

const BEFORE = `($1::uuid is null or order_id < $1)`

const ALL = `select order_id from orders where ${BEFORE} order by order_id desc limit $2`

// A partial index holds them, and only them.
const SUSPEND = `select order_id from orders where ${BEFORE} and status = 'Suspend' order by order_id desc limit $2`

const ENDED = `
  select order_id from (select order_id, status from orders where ${BEFORE} order by order_id desc
    limit ${WINDOW}) as newest
  where status = $3 order by order_id desc limit $2`

/** Of one owner, by an index of their own. */
const OWNED = `
  select order_id from orders where ${BEFORE} and owner = $3 and ($4::text is null or status = $4)
  order by order_id desc limit $2`

/** The oldest of the orders that ENDED looks through; none when those are all that there are. */
const END = `select order_id from orders where ${BEFORE} order by order_id desc offset ${WINDOW - 1} limit 1`

export interface OrderFilter {
  status?: OrderStatus
  limit: number
  /** Only orders with a smaller id. */
  before?: string
  /** Only those of this owner. */
  owner?: string
}

/**
 * Ids of orders, newest first.
 * @returns `readOn` when fewer than asked for were found and there are older ones that were not
 * looked at: the id before which to go on
 */
export async function newestOrders(
  database: Database,
  { status, limit, before, owner }: OrderFilter
): Promise<{ ids: string[]; readOn?: string }> {
  // All see one moment: what is placed in between would move the end of the window.
  return transaction(
    database,
    async (tx) => {
      const read = async (sql: string, ...more: unknown[]) => {
        const { rows } = await tx.query<{ order_id: string }>(sql, [before ?? null, ...more])
        return rows.map(({ order_id: orderId }) => orderId)
      }
      if (owner !== undefined) return { ids: await read(OWNED, limit, owner, status ?? null) }
      if (status === undefined) return { ids: await read(ALL, limit) }
      if (status === 'Suspend') return { ids: await read(SUSPEND, limit) }
      const ids = await read(ENDED, limit, status)
      return { ids, readOn: ids.length < limit ? (await read(END))[0] : undefined }
    },
    { isolation: 'repeatable read' }
  )
}
