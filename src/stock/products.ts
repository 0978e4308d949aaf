import { run, statement, type Tx } from '../messaging/sql.ts'
import type { Shelf } from './decide.ts'

const LOCK = statement(`
  select product_id, unit_price, currency, on_hand from products
  where product_id = any($1::text[]) order by product_id for no key update`)

// The condition and the table's check say the same: whatever runs at once, stock never goes below zero.
const MOVE = statement(`
  update products set on_hand = on_hand + moved.quantity, reserved = reserved - moved.quantity, updated_at = now()
  from unnest($1::text[], $2::bigint[]) as moved (product_id, quantity)
  where products.product_id = any($1::text[]) and products.product_id = moved.product_id and products.on_hand + moved.quantity >= 0
  returning products.product_id`)

/** Locks the products in key order and reads them. Unknown ones are missing from the answer. */
export async function lockProducts(tx: Tx, productIds: readonly string[]): Promise<Map<string, Shelf>> {
  type Row = { product_id: string; unit_price: string; currency: string; on_hand: string }
  if (productIds.length === 0) return new Map()
  const rows = await run<Row>(tx, LOCK, [[...new Set(productIds)]])
  return new Map(rows.map((row) => [row.product_id, { unitPrice: Number(row.unit_price), currency: row.currency, onHand: Number(row.on_hand) }]))
}

/**
 * Moves units between the shelf and the reserved, for products that lockProducts has locked.
 * @param direction 1 gives back, -1 takes
 */
export async function moveStock(tx: Tx, lines: readonly { productId: string; quantity: number }[], direction: 1 | -1): Promise<void> {
  const moves = new Map<string, number>()
  for (const { productId, quantity } of lines) moves.set(productId, (moves.get(productId) ?? 0) + direction * quantity)
  if (moves.size === 0) return
  const moved = await run(tx, MOVE, [[...moves.keys()], [...moves.values()]])
  if (moved.length !== moves.size) throw new Error(`Stock moved for ${moved.length} of ${moves.size} products: a decision did not match the locked rows`)
}
