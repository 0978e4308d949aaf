import Type from 'typebox'
import { command, event } from 'sagabox'
import { Currency, Id, Items, Money, Name, PaymentMethod, Reason } from './types.ts'

/** Every item was there and is now held for the order; payment takes it from here. */
export const StockReservedEvent = event('StockReservedEvent', {
  owner: 'stock',
  correlateBy: 'orderId',
  schema: Type.Object({
    orderId: Id,
    customerId: Name,
    items: Items,
    total: Money,
    currency: Currency,
    paymentMethod: PaymentMethod
  })
})

/** Nothing was taken. */
export const StockNotReservedEvent = event('StockNotReservedEvent', {
  owner: 'stock',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id, reason: Reason, productId: Type.Optional(Name) })
})

/** Gives back what is held for an order; when nothing is yet, nothing ever will be. */
export const ReleaseStock = command('ReleaseStock', {
  owner: 'stock',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id })
})

/** Nothing is held for the order any more. */
export const StockReleasedEvent = event('StockReleasedEvent', {
  owner: 'stock',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: Id })
})
