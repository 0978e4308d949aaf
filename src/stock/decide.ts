import type { BodyOf } from 'sagabox'
import type { OrderCreatedEvent } from '../contracts/order.ts'

/** A product as locked for a batch; `onHand` goes down as the batch takes from it. */
export interface Shelf {
  unitPrice: number
  currency: string
  onHand: number
  /** Goes down as units come back. */
  reserved: number
}

export type StockDecision =
  | {
      status: 'Reserved'
      lines: { productId: string; quantity: number; unitPrice: number }[]
      total: number
      currency: string
    }
  | {
      status: 'Refused'
      reason: 'UnknownProduct' | 'OutOfStock' | 'MixedCurrencies' | 'PriceChanged' | 'TotalTooLarge'
      productId?: string
    }

/**
 * Takes all of an order from the shelves, or nothing. The same product on several lines is one
 * demand.
 */
export function decide(
  { items, expectedTotal }: BodyOf<typeof OrderCreatedEvent>,
  shelves: Map<string, Shelf>
): StockDecision {
  const demand = new Map<string, number>()
  for (const { productId, quantity } of items)
    demand.set(productId, (demand.get(productId) ?? 0) + quantity)

  const lines: { productId: string; quantity: number; unitPrice: number }[] = []
  let total = 0
  let currency: string | undefined
  for (const [productId, quantity] of demand) {
    const shelf = shelves.get(productId)
    if (!shelf) return { status: 'Refused', reason: 'UnknownProduct', productId }
    if (shelf.onHand < quantity) return { status: 'Refused', reason: 'OutOfStock', productId }
    if (currency !== undefined && shelf.currency !== currency)
      return { status: 'Refused', reason: 'MixedCurrencies', productId }
    currency = shelf.currency
    total += shelf.unitPrice * quantity
    lines.push({ productId, quantity, unitPrice: shelf.unitPrice })
  }
  if (!Number.isSafeInteger(total)) return { status: 'Refused', reason: 'TotalTooLarge' }
  if (expectedTotal !== undefined && expectedTotal !== total)
    return { status: 'Refused', reason: 'PriceChanged' }

  for (const { productId, quantity } of lines) shelves.get(productId)!.onHand -= quantity
  return { status: 'Reserved', lines, total, currency: currency! }
}
