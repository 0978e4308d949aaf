import { type Audit, HttpProblem, notFound } from 'sagabox/fastify'
import { retryConflicts, transaction } from 'sagabox/engine'
import type { Database, Tx } from 'sagabox'
import { typeorm } from 'sagabox/typeorm'
import { ProductEntity, STOCK_ENTITIES, type Product } from './entities.ts'

/** Most units of one product that are put on the shelf; what is released goes back beyond that. */
export const MAX_UNITS = 1_000_000_000

const CLAIM_KEY = `insert into restocks (key, product_id, quantity) values ($1, $2, $3) on conflict do nothing returning key`
const READ_KEY = `select product_id, quantity from restocks where key = $1`
const ADD = `
  update products set on_hand = on_hand + $2, version = version + 1, updated_at = now()
  where product_id = $1 and on_hand + $2 <= ${MAX_UNITS} returning product_id`

export interface Restock {
  productId: string
  quantity: number
  idempotencyKey?: string
}

/**
 * Adds units to a product; under a key that was used for the same before, nothing more.
 * @returns the product as it is now
 * @throws HttpProblem 404 when there is no such product, 409 when it would have too many units, 422
 * when the key came with another restock before
 */
export function restock(
  database: Database,
  asked: Restock,
  audit: Audit
): Promise<{ product: Product; replayed: boolean }> {
  return retryConflicts(() =>
    transaction(database, async (tx) => {
      const replayed = await wasDone(tx, asked)
      const { productId, quantity } = asked
      const added = replayed ? 0 : (await tx.query(ADD, [productId, quantity])).rowCount
      const entities = await typeorm(tx, STOCK_ENTITIES)
      const product = await entities.getRepository(ProductEntity).findOneBy({ productId })
      if (!product) throw notFound(`product ${productId}`)
      if (!replayed && added === 0)
        throw new HttpProblem(409, `${productId} would have more than ${MAX_UNITS} units`, [
          {
            field: 'quantity',
            expected: `must be at most ${Math.max(0, MAX_UNITS - product.onHand)}`
          }
        ])
      audit(tx)
      return { product, replayed }
    })
  )
}

/** Claims the key. Returns whether it was used for this before. */
async function wasDone(tx: Tx, { productId, quantity, idempotencyKey }: Restock): Promise<boolean> {
  if (idempotencyKey === undefined) return false
  const claimed = await tx.query(CLAIM_KEY, [idempotencyKey, productId, quantity])
  if (claimed.rows.length > 0) return false
  const {
    rows: [first]
  } = await tx.query<{ product_id: string; quantity: number }>(READ_KEY, [idempotencyKey])
  if (first?.product_id === productId && first.quantity === quantity) return true
  throw new HttpProblem(422, 'This Idempotency-Key was used for another restock before', [
    {
      field: 'Idempotency-Key',
      expected: 'must be a new key, or come with the request it first came with'
    }
  ])
}
