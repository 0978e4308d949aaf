import Type from 'typebox'
import { contracts } from 'sagabox'
import { Currency, Id, Items, Money, ForeignName, PaymentMethod, Reason } from './types.ts'

const stock = contracts('stock', { correlateBy: 'orderId' })

/** Every item was there and is now held for the order; payment takes it from here. */
export const StockReservedEvent = stock.event('StockReservedEvent', {
  orderId: Id,
  customerId: ForeignName,
  items: Items,
  total: Money,
  currency: Currency,
  paymentMethod: PaymentMethod
})

/** Nothing was taken. */
export const StockNotReservedEvent = stock.event('StockNotReservedEvent', {
  orderId: Id,
  reason: Reason,
  productId: Type.Optional(ForeignName)
})

/** Gives back what is held for an order; when nothing is yet, nothing ever will be. */
export const ReleaseStock = stock.command('ReleaseStock', { orderId: Id })

/** Nothing is held for the order any more. */
export const StockReleasedEvent = stock.event('StockReleasedEvent', { orderId: Id })
