// `npm run interop:record`: what MassTransit puts on the wire, as JSON files of body, headers and
// properties, for tests where there is no .NET: packages/sagabox/test/fixtures/masstransit.
import { connect, type ConsumeMessage } from 'amqplib'
import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { startRabbitMQ } from '../support/rabbitmq.ts'
import { ROOT } from '../support/program.ts'
import { until } from '../support/until.ts'
import { buildDotnet, DotnetProgram } from './dotnet.ts'

const FOLDER = join(ROOT, 'packages/sagabox/test/fixtures/masstransit')
const EXCHANGES = [
  'Contracts:OrderCreatedEvent',
  'Contracts:OrderCompletedEvent',
  'Contracts:OrderFailedEvent',
  'Contracts:StockReservedEvent',
  'Contracts:StockNotReservedEvent',
  'Contracts:StockReleasedEvent',
  'Contracts:PaymentCompletedEvent',
  'Contracts:PaymentFailedEvent',
  'Contracts:PaymentRefundedEvent',
  'MassTransit:Fault--Contracts:OrderCreatedEvent--',
  'Acme.Parcels:ParcelRequested',
  'Acme.Parcels:GetFee',
  'courier-booked',
  'stock',
  'payment'
]

buildDotnet()
const rabbitmq = await startRabbitMQ()
mkdirSync(FOLDER, { recursive: true })
await record('default')
await record('raw')
await rabbitmq.stop()
process.exit()

/** Lets MassTransit send one message of every kind by a serializer, and keeps what arrives. */
async function record(serializer: string): Promise<void> {
  const url = await rabbitmq.createVhost()
  const connection = await connect(url)
  const channel = await connection.createChannel()
  const seen: [string, ConsumeMessage][] = []
  const hear = async (name: string, queue: string) => {
    await channel.consume(queue, (received) => received && seen.push([name, received]), {
      noAck: true
    })
  }
  for (const exchange of [...EXCHANGES, 'answers']) {
    const { queue } = await channel.assertQueue('', { exclusive: true })
    await channel.assertExchange(exchange, 'fanout', { durable: true })
    await channel.bindQueue(queue, exchange, '')
    await hear(nameOf(exchange), queue)
  }
  const scope = { teardown: () => {} }
  const program = await DotnetProgram.start(scope, 'recorder', {
    RABBITMQ_URL: url,
    SERIALIZER: serializer
  })
  await fetch(`${program.url}/send`, { method: 'POST' })
  channel.publish('recorder', '', Buffer.from(JSON.stringify(question())), {
    contentType: 'application/vnd.masstransit+json'
  })
  channel.publish('recorder', '', Buffer.from(JSON.stringify(unknown())), {
    contentType: 'application/vnd.masstransit+json'
  })
  for (const queue of ['scheduler', 'recorder_error', 'recorder_skipped'])
    await until(`${queue} is there`, async () =>
      (await rabbitmq.queues(url)).some(({ name }) => name === queue)
    ).then(() => hear(queue, queue))
  await until(
    'all have come',
    async () => new Set(seen.map(([name]) => name)).size >= EXCHANGES.length + 3,
    {
      progress: () => seen.length,
      tell: () => seen.map(([name]) => name).join(', ')
    }
  )
  const names = new Map<string, number>()
  for (const [name, received] of seen) {
    const count = (names.get(name) ?? 0) + 1
    names.set(name, count)
    write(`${serializer}-${name}${count > 1 ? `-${count}` : ''}`, received)
  }
  await program.kill()
  await connection.close()
}

/** `Fault-OrderCreatedEvent` of `MassTransit:Fault--Contracts:OrderCreatedEvent--`. */
function nameOf(exchange: string): string {
  return exchange
    .replace('MassTransit:Fault--', 'Fault-')
    .replaceAll(/(Contracts|Acme\.Parcels):|--/g, '')
}

function write(name: string, { fields, properties, content }: ConsumeMessage): void {
  const set = Object.entries(properties as object).filter(([, value]) => value !== undefined)
  const recorded = {
    exchange: fields.exchange,
    properties: Object.fromEntries(set),
    body: JSON.parse(content.toString()) as unknown
  }
  // Where it was recorded is nobody's business.
  const text = JSON.stringify(recorded, undefined, 1)
    .replaceAll(ROOT, '/')
    .replaceAll(hostname(), 'dotnet')
  writeFileSync(join(FOLDER, `${name}.json`), `${text}\n`)
}

/** Asked by somebody whose queue can be heard. */
function question() {
  return {
    messageId: randomUUID(),
    requestId: randomUUID(),
    responseAddress: 'rabbitmq://localhost/answers',
    messageType: ['urn:message:Acme.Parcels:GetFee'],
    message: { plan: 'student' }
  }
}

function unknown() {
  return {
    messageId: randomUUID(),
    messageType: ['urn:message:Contracts:NeverHeardOf'],
    message: { orderId: randomUUID() }
  }
}
