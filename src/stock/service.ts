import { fileURLToPath } from 'node:url'
import { defineService } from 'sagabox'
import { stockHandler } from './handler.ts'
import { stockRoutes } from './routes.ts'

/** The stock service: owns products and their prices, reserves and releases. */
export const stockService = defineService('stock', {
  handlers: [stockHandler],
  migrations: [fileURLToPath(new URL('../../migrations/stock', import.meta.url))],
  avoidScans: true,
  build: ({ requests }) => ({ routes: [stockRoutes(requests.database)] })
})
