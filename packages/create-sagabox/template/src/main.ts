// How it runs in production: PostgreSQL and RabbitMQ are where these variables say. Without them
// it runs on a PostgreSQL of its own, and messages travel in memory.
import { startSagabox } from 'sagabox'
import { services } from './services.ts'

const { DATABASE_URL, RABBITMQ_URL, HOST, PORT } = process.env
const app = await startSagabox({
  services,
  ...(DATABASE_URL && { databaseUrl: DATABASE_URL }),
  ...(RABBITMQ_URL && { rabbitmqUrl: RABBITMQ_URL }),
  host: HOST || '127.0.0.1',
  port: Number(PORT || 3000)
})
console.log(`Listening at ${app.url}; what can be asked: ${app.url}/docs`)
