// Examples of the reference: services and what they stand on. Imports are left out there.
// DATABASE_URL names an empty database.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { pino } from 'pino'
import {
  becameReady,
  consoleServices,
  contracts,
  defineService,
  handle,
  MemoryTransport,
  RabbitTransport,
  startConsole,
  startSagabox,
  startWatchdog,
  System,
  systemTopology,
  Type,
  type Answers,
  type AppOptions,
  type Connection,
  type ConsoleOptions,
  type Database,
  type Delivery,
  type LastError,
  type SagaDetail,
  type SagaStep,
  type WaitingFor,
  type EndpointElsewhere,
  type EndpointTopology,
  type ForeignBinding,
  type ForeignExchange,
  type Log,
  type MigrateMode,
  type Outbox,
  type OwnConsole,
  type OwnConsoleOptions,
  type PublishOutcome,
  type Queries,
  type RabbitTransportOptions,
  type RemoteException,
  type RequestOptions,
  type Sagabox,
  type SagaboxOptions,
  type Service,
  type ServiceConnections,
  type ServiceContext,
  type ServiceDefinition,
  type ServiceOptions,
  type ServiceParts,
  type ServiceSettings,
  type Subscription,
  type SystemOptions,
  type Topology,
  type TransactionOptions,
  type Transport,
  type TransportMessage,
  type Tx,
  type Worker
} from 'sagabox'
import { parcel, ParcelRequested, services } from '../parcel.ts'

const databaseUrl = process.env['DATABASE_URL']!
const parcelId = randomUUID()
const address = '12 St James Square'

// Example: defineService, ServiceDefinition, ServiceOptions, ServiceParts, ServiceContext, ServiceConnections, Worker
const shop = contracts('desk', { correlateBy: 'name' })
const Greet = shop.command('Greet', { name: Type.String() })
const Greeted = shop.event('Greeted', { name: Type.String() }, { optional: true })
const HowMany = shop.response('HowMany', { guests: Type.Integer() })
const CountGuests = shop.request('CountGuests', {}, HowMany)

/** A loop of one's own beside the endpoint. */
function clock({ log }: ServiceContext): Worker {
  let timer: NodeJS.Timeout | undefined
  return {
    start: () => (timer = setInterval(() => log.debug({}, 'tick'), 1000)),
    stop: async () => clearInterval(timer)
  }
}
const count = async ({ database }: ServiceConnections) => {
  const { rows } = await database.query<{ count: number }>('select count(*)::integer from guests')
  return rows[0]!.count
}
const options: ServiceOptions = {
  handlers: [
    handle(Greet, async ({ name }, { tx }) => {
      await tx.query('insert into guests values ($1)', [name])
      return Greeted({ name })
    })
  ],
  handles: [CountGuests],
  migrations: ['create table guests (name text)'],
  sends: [Greet, Greeted],
  build: (context): ServiceParts => ({
    handlers: [handle(CountGuests, async () => HowMany({ guests: await count(context) }))],
    workers: [clock(context)]
  })
}
const desk: ServiceDefinition = defineService('desk', options)
assert.deepEqual(
  desk.consumes.map(({ name }) => name),
  ['Greet', 'CountGuests']
)

// Example: startSagabox, Sagabox, SagaboxOptions, SagaDetail, SagaStep, Log, MigrateMode
const lines: string[] = []
const note = (_: object, text: string) => void lines.push(text)
const log: Log = { debug: () => {}, info: () => {}, warn: note, error: note }
const migrate: MigrateMode = 'auto'
const where: SagaboxOptions = { services: [...services, desk], databaseUrl, log, migrate }
const app: Sagabox = await startSagabox({ ...where, signals: false })

await app.publish(ParcelRequested({ parcelId, address }))
const ended: SagaDetail = await app.ended(parcel, parcelId)
const last: SagaStep | undefined = ended.history.at(-1)
assert.deepEqual([ended.state, last?.event], ['booked', 'CourierBooked'])

// Example: startConsole, consoleServices, ConsoleOptions, OwnConsole, OwnConsoleOptions
// The operators' page, for services that run elsewhere.
const shown: ConsoleOptions = { label: 'staging', color: '#7a1fa2', readOnly: true }
const others = consoleServices('desk=http://desk:3000,parcel=http://parcel:3000')
const alone: OwnConsoleOptions = { ...shown, services: others, log }
const page: OwnConsole = await startConsole(alone)
assert.match(page.url, /^http:\/\/127\.0\.0\.1:\d+\/console\/$/)
await page.stop()

// Example: WaitingFor, LastError
/** Why an instance does not get on. */
function problem({ waitingFor }: SagaDetail): string | undefined {
  const waiting: WaitingFor | null = waitingFor
  const failed: LastError | null | undefined = waiting?.lastError
  return failed?.message
}
assert.equal(problem(ended), undefined)

// Example: Service, Database, Queries, Tx, TransactionOptions
// What is written and what is sent commit together.
const service: Service = app.service('desk')
async function greet(tx: Tx, name: string): Promise<void> {
  await tx.query('insert into guests values ($1)', [name])
  tx.send(Greeted({ name }))
}
const patient: TransactionOptions = { lockTimeoutMs: 2000 }
await service.transaction((tx) => greet(tx, 'Ada'), patient)

/** On a transaction or a service's database alike. */
const guests = async (on: Queries) => (await on.query('select name from guests')).rowCount
const database: Database = service.database
assert.equal(await guests(database), 1)

// Example: Outbox, Connection
// By a pool of your own: the message leaves when your transaction commits.
const outbox: Outbox = service.outbox
const pool = new pg.Pool({ connectionString: databaseUrl })
const client = await pool.connect()
const connection: Connection = client
await client.query('begin')
await outbox.add(connection, [Greeted({ name: 'Grace' })])
await client.query('commit')
client.release()
await pool.end()

// Example: RequestOptions, RemoteException
const patience: RequestOptions = { timeout: '5s' }
assert.deepEqual(await app.request(CountGuests({}), patience), { guests: 1 })

/** Of RequestFailed: what failed where the request was handled. */
const failures = (exceptions: readonly RemoteException[]) =>
  exceptions.map(({ exceptionType, message }) => `${exceptionType}: ${message ?? ''}`)
assert.deepEqual(failures([{ exceptionType: 'RangeError' }]), ['RangeError: '])

// Example: becameReady
// What /health/ready says.
assert.equal(await becameReady(app.system.services, AbortSignal.timeout(10_000)), true)
await app.stop()

// Example: System, SystemOptions, ServiceSettings, AppOptions
// startSagabox with nothing taken for granted.
const settings: ServiceSettings = { redeliverySeconds: [5, 30, 300], inboxDays: 7 }
const server: AppOptions = { maxConnections: 500, publicUrl: 'https://example.com/desk' }
const all: SystemOptions = {
  services: [desk],
  databaseUrls: { desk: databaseUrl },
  transport: new MemoryTransport(systemTopology([desk])),
  settings,
  host: '127.0.0.1',
  port: 0,
  app: server,
  log: pino({ level: 'silent' })
}
const system = await System.start(all)
await system.started()
assert.equal((await fetch(`${system.url}/health/live`)).status, 200)
await system.stop()

// Example: startWatchdog
// A handler that never comes back ends the process after 30 s, and the message comes again.
startWatchdog(30)

// Example: systemTopology, Topology, EndpointTopology, EndpointElsewhere, ForeignExchange, ForeignBinding
const [shipping, courier] = services
const topology: Topology = systemTopology([courier!], [courier!, shipping!])
const [queue]: readonly EndpointTopology[] = courier!.queues
const [elsewhere]: readonly EndpointElsewhere[] = topology.elsewhere
const foreign: readonly ForeignExchange[] = topology.foreign
const bound: readonly ForeignBinding[] = foreign.flatMap(({ bindings }) => bindings)
assert.equal(queue?.name, 'courier')
assert.deepEqual([elsewhere?.endpoint, bound.length], ['shipping', 0])

// Example: RabbitTransport, RabbitTransportOptions
// It begins to connect when it is started.
const broker: RabbitTransportOptions = {
  url: 'amqp://localhost',
  topology,
  clientName: 'courier',
  log
}
assert.equal(new RabbitTransport(broker).canPublish, false)

// Example: MemoryTransport, Transport, TransportMessage, PublishOutcome, Subscription, Delivery, Answers
const transport: Transport = new MemoryTransport(systemTopology(services))
transport.start(() => {})
const received: Delivery[] = []
const subscription: Subscription = transport.subscribe('courier', (delivery) => {
  received.push(delivery)
  delivery.ack()
})
const carried: TransportMessage = {
  messageId: randomUUID(),
  destination: 'courier',
  required: true,
  payload: '{}'
}
const outcome: PublishOutcome = await transport.publish(carried)
assert.deepEqual([outcome, received.length], ['accepted', 1])
const answers: Answers | undefined = transport.takeAnswers?.((delivery) => delivery.ack())
assert.equal(answers?.isOpen, true)
await answers?.cancel()
await subscription.cancel()
await transport.stop()

// End of examples
