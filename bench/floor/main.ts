// The bare floor: pg, amqplib and fastify by hand, for what Sagabox does and nothing more. No
// framework, no ORM, no state machine, no validation of messages, no retries, no inspection: the
// practical limit on this machine, not a product.
import Fastify, { type FastifyInstance } from 'fastify'
import { FloorService } from './service.ts'
import { startOrder } from './order.ts'
import { startPayment } from './payment.ts'
import { startStock } from './stock.ts'

const { DATABASE_URL = '', RABBITMQ_URL = '', PORT = '0' } = process.env
const named = process.argv.slice(2)
const services = named.length > 0 ? named : ['stock', 'payment', 'order']

let app: FastifyInstance = Fastify()
app.get('/health/ready', () => ({ status: 'ok' }))
for (const name of services) {
  const service = await FloorService.open(name, DATABASE_URL, RABBITMQ_URL)
  if (name === 'stock') await startStock(service)
  else if (name === 'payment') await startPayment(service)
  else app = startOrder(service)
}
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
process.once('SIGTERM', () => process.exit(0))
