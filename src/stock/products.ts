import { run, statement } from 'sagabox/engine'
import type { Tx } from 'sagabox'
import type { Shelf } from './decide.ts'

// The newest version first: see the migration product-versions.
const LOCK = statement(`
  select product.* from unnest($1::text[]) as wanted (product_id), lateral (
    select product_id, unit_price, currency, on_hand, reserved, ctid::text as ctid from products
    where products.product_id = wanted.product_id order by version desc limit 1
      for update) as product`)

// Each row is found where it was locked, not by its key. The condition and the table's check say
// the same: whatever runs at once, stock never goes below zero.
const MOVE = statement(`
  update products set on_hand = on_hand + moved.quantity, reserved = reserved - moved.quantity,
    version = version + 1, updated_at = now()
  from unnest($1::tid[], $2::bigint[]) as moved (ctid, quantity)
  where products.ctid = moved.ctid and products.on_hand + moved.quantity >= 0
  returning products.product_id`)

export interface LockedShelf extends Shelf {
  /** Where the locked row is, until the transaction ends. */
  ctid: string
}

/** Locks the products in key order and reads them. Unknown ones are missing from the answer. */
export async function lockProducts(
  tx: Tx,
  productIds: readonly string[]
): Promise<Map<string, LockedShelf>> {
  type Row = {
    product_id: string
    unit_price: string
    currency: string
    on_hand: string
    reserved: string
    ctid: string
  }
  if (productIds.length === 0) return new Map()
  const rows = await run<Row>(tx, LOCK, [[...new Set(productIds)].toSorted()])
  return new Map(
    rows.map((row) => [
      row.product_id,
      {
        unitPrice: Number(row.unit_price),
        currency: row.currency,
        onHand: Number(row.on_hand),
        reserved: Number(row.reserved),
        ctid: row.ctid
      }
    ])
  )
}

/**
 * Moves units between the shelf and the reserved.
 * @param moves units by product: back to the shelf when positive, taken from it when negative
 * @param shelves what lockProducts answered
 */
export async function moveStock(
  tx: Tx,
  moves: ReadonlyMap<string, number>,
  shelves: ReadonlyMap<string, LockedShelf>
): Promise<void> {
  if (moves.size === 0) return
  const moved = await run(tx, MOVE, [
    [...moves.keys()].map((productId) => shelves.get(productId)!.ctid),
    [...moves.values()]
  ])
  if (moved.length !== moves.size)
    throw new Error(
      `Stock moved for ${moved.length} of ${moves.size} products: a decision did not match the locked rows`
    )
}
