import { OrderCreatedEvent } from '../contracts/order.ts'
import { ReleaseStock, StockNotReservedEvent, StockReleasedEvent, StockReservedEvent } from '../contracts/stock.ts'
import type { ServiceContext } from '../messaging/context.ts'
import { stockHandler } from './handler.ts'
import { stockRoutes } from './routes.ts'
import { ProductEntity, ReservationEntity, ReservationLineEntity } from './tables.ts'

/** The stock service: owns products and their prices, reserves and releases. */
export const stockService = {
  name: 'stock',
  migrations: ['messaging', 'stock'],
  entities: [ProductEntity, ReservationEntity, ReservationLineEntity],
  consumes: [OrderCreatedEvent, ReleaseStock],
  sends: [StockReservedEvent, StockNotReservedEvent, StockReleasedEvent],
  build({ requests }: ServiceContext) {
    return {
      handlers: [stockHandler],
      routes: [stockRoutes(requests.dataSource)],
      workers: []
    }
  }
}
