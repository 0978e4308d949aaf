// Values that .NET writes in words of its own, and an event that is of a base type, too.
import { contracts, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const sales = contracts('sales', { correlateBy: 'orderId' })

export const Status = { Pending: 0, Paid: 1, Shipped: 5 } as const

export const OrderChanged = sales.event('OrderChanged', { orderId: Id })
export const OrderPriced = sales.event(
  'OrderPriced',
  { orderId: Id, price: Type.Decimal(), status: Type.NetEnum(Status) },
  { also: [OrderChanged] }
)

export const priced = OrderPriced({
  orderId: '01a204b8-b63e-7263-8cc6-45323f1f4dcf',
  price: '19.90',
  status: Status.Paid
})
