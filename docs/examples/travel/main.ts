// One service in a process of its own: node --import=tsx docs/examples/travel/main.ts flight
import { startSagabox } from 'sagabox'
import { system } from './system.ts'

const { DATABASE_URL, RABBITMQ_URL, PORT } = process.env
const [name] = process.argv.slice(2)
const app = await startSagabox({
  services: system.filter((service) => service.name === name),
  system,
  databaseUrl: DATABASE_URL,
  rabbitmqUrl: RABBITMQ_URL,
  port: Number(PORT ?? 0)
})
console.log(`${name} listens at ${app.url}`)
