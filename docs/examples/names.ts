// Names that are given: by a .NET system of one queue a consumer, and by endpoints outside.
import { contracts, defineService, handle, Type } from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const sales = contracts('sales', { correlateBy: 'orderId', namespace: 'Acme.Sales.Contracts' })
const depot = contracts('depot', { correlateBy: 'orderId', namespace: 'Acme.Depot.Contracts' })

export const OrderCreated = sales.event(
  'OrderCreated',
  { orderId: Id, product: Type.String() },
  { takenBy: ['invoices'] }
)
export const ReleaseStock = depot.command(
  'ReleaseStock',
  { orderId: Id },
  { queue: 'release-stock' }
)
export const StockReleased = depot.event(
  'StockReleased',
  { orderId: Id },
  { urn: 'urn:message:stock-released', exchange: 'stock-released' }
)

const reserve = handle(OrderCreated, async ({ orderId, product }, { tx }) => {
  await tx.query('insert into reserved values ($1, $2)', [orderId, product])
})
const release = handle(ReleaseStock, async ({ orderId }, { tx }) => {
  await tx.query('delete from reserved where order_id = $1', [orderId])
  return StockReleased({ orderId })
})
const note = handle(StockReleased, async ({ orderId }, { tx }) => {
  await tx.query('insert into noted values ($1)', [orderId])
})

export const services = [
  defineService('sales', {
    handlers: [note],
    sends: [OrderCreated, ReleaseStock],
    migrations: ['create table noted (order_id uuid primary key)']
  }),
  defineService('depot', {
    handlers: [reserve, release],
    queues: { 'order-created': [OrderCreated] },
    migrations: ['create table reserved (order_id uuid primary key, product text)']
  })
]
