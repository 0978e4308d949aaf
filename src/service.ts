import type { FastifyPluginAsync } from 'fastify'
import { fileURLToPath } from 'node:url'
import type { DataSource, EntitySchema } from 'typeorm'
import { deadLetterRoutes } from './http/dead-letters.ts'
import { outboxRoutes } from './http/outbox.ts'
import { backoff, pause } from './messaging/batcher.ts'
import type { PaymentGatewayName } from './contracts/types.ts'
import { reasonFor } from './messaging/awaited-endpoints.ts'
import type { ServiceContext, Worker } from './messaging/context.ts'
import { databaseProblem } from './messaging/database-problem.ts'
import { connectDatabase, createDataSource, type DatabaseOptions, type Patience } from './messaging/database.ts'
import { DeadLetterOffice } from './messaging/dead-letter-retry.ts'
import type { Undo } from './messaging/dead-letter-undo.ts'
import { Endpoint } from './messaging/endpoint.ts'
import type { Handler } from './messaging/handler.ts'
import { InboxCleaner } from './messaging/inbox-cleaner.ts'
import { describing, type Log } from './messaging/log.ts'
import type { Contract } from './messaging/message.ts'
import { Outage } from './messaging/outage.ts'
import { Readiness } from './messaging/readiness.ts'
import { mustBeReachable, Outbox } from './messaging/outbox.ts'
import { DiscardedCleaner } from './messaging/outbox-discard.ts'
import { Relay } from './messaging/relay.ts'
import { topologyOf, type Topology } from './messaging/topology.ts'
import type { Transport } from './messaging/transport.ts'
import { orderService } from './order/service.ts'
import { paymentService } from './payment/service.ts'
import type { StripeSettings } from './payment/stripe-gateway.ts'
import { stockService } from './stock/service.ts'

export const SERVICE_NAMES = ['order', 'stock', 'payment'] as const
export type ServiceName = (typeof SERVICE_NAMES)[number]

/** What the services are told about how to work. */
export interface Settings {
  /** How long an order may stay `Suspend`. */
  deadlineSeconds: number
  /** When a message that keeps failing comes again; after the last of them it is a dead letter. */
  redeliverySeconds: readonly number[]
  /** How long an inbox remembers what was handled. */
  inboxDays: number
  /** Who moves the money, and so which payment methods an order may name. */
  paymentGateway: PaymentGatewayName
  /** Where the payment service finds Stripe, when that is the gateway. */
  stripe?: StripeSettings
}

interface ServiceParts {
  handlers: readonly Handler[]
  routes: readonly FastifyPluginAsync[]
  workers: readonly Worker[]
  /** Answers dead letters of business transactions that the service has forgotten. */
  undo?: Undo
  /** Where requests wait for their transaction. */
  intake?: { stop(): Promise<void> }
}

interface ServiceDefinition {
  name: string
  migrations: readonly string[]
  entities: readonly EntitySchema[]
  consumes: readonly Contract[]
  sends: readonly Contract[]
  build(context: ServiceContext, settings: Settings): ServiceParts
}

const DEFINITIONS: Record<ServiceName, ServiceDefinition> = { order: orderService, stock: stockService, payment: paymentService }

/**
 * Connections a service keeps for new orders, handlers and workers; the relay has one of its own.
 */
const POOL_SIZE = 10
/**
 * Connections for everything else that is asked by HTTP. Few, and soon given up: twenty searches at
 * once must not take what orders are placed and handled by. Whoever gets none is told so (503).
 */
const REQUEST_POOL_SIZE = 4
const REQUEST_PATIENCE: Patience = { statementMs: 3000, lockMs: 1000, connectionMs: 2000 }

/**
 * What these services exchange with each other and with the rest of the system.
 * @param scope `own`: the other services' endpoints are theirs to declare, with arguments of their own (they may be .NET's);
 * `all`: everything of the whole system is declared ahead
 */
export function sagaboxTopology(names: readonly ServiceName[] = SERVICE_NAMES, scope: TopologyScope = 'own'): Topology {
  const definitions = Object.values(DEFINITIONS)
  const own = scope === 'all' ? definitions : names.map((name) => DEFINITIONS[name])
  const others = definitions.filter((definition) => !own.includes(definition))
  return topologyOf(own, own.flatMap(({ sends }) => sends), others)
}

export type TopologyScope = 'own' | 'all'

export interface ServiceOptions {
  name: ServiceName
  databaseUrl: string
  transport: Transport
  settings: Settings
  log: Log
}

/** One service: schema, outbox and relay, endpoint, workers and routes. */
export class Service {
  readonly name: ServiceName
  readonly schema: string
  readonly dataSource: DataSource
  readonly outbox: Outbox
  /** See ServiceContext. */
  readonly requests: { dataSource: DataSource; outbox: Outbox }
  readonly relay: Relay
  readonly parts: ServiceParts
  readonly routes: readonly FastifyPluginAsync[]
  readonly #workers: readonly Worker[]
  readonly #database: DatabaseOptions
  readonly #endpoint: Endpoint
  readonly #transport: Transport
  readonly #readiness: Readiness
  readonly #stopping = new AbortController()
  #databaseProblem: string | undefined = 'not connected yet'
  #starting: Promise<void> | undefined

  constructor({ name, databaseUrl, transport, settings, log: given }: ServiceOptions) {
    const log = describing(given)
    const definition = DEFINITIONS[name]
    const schema = `${name}_service`
    this.name = name
    this.schema = schema
    this.#transport = transport
    const knows = (destination: string) => transport.knows(destination)
    for (const contract of definition.sends) mustBeReachable(contract, knows)
    this.#database = { url: databaseUrl, schema, migrations: definition.migrations.map(migrationFolder), entities: definition.entities, poolSize: POOL_SIZE, log }
    this.dataSource = createDataSource(this.#database)
    this.relay = new Relay({ url: databaseUrl, schema, transport, log })
    const outboxOn = (dataSource: DataSource, outage?: Outage) =>
      new Outbox({
        dataSource,
        outage,
        address: transport.address,
        source: name,
        knows,
        committed: (rows) => this.relay.offer(rows)
      })
    this.outbox = outboxOn(this.dataSource, new Outage(schema, log))
    this.#readiness = new Readiness(this.outbox)
    const patient = { ...this.#database, migrations: [], poolSize: REQUEST_POOL_SIZE }
    const asked = createDataSource({ ...patient, patience: REQUEST_PATIENCE })
    this.requests = { dataSource: asked, outbox: outboxOn(asked) }
    const context = { dataSource: this.dataSource, outbox: this.outbox, requests: this.requests, log }
    this.parts = definition.build(context, settings)
    const answered = { endpoints: [name], undo: this.parts.undo }
    const office = new DeadLetterOffice(this.dataSource, this.outbox, log, answered)
    const counter = new DeadLetterOffice(asked, this.requests.outbox, log, { ...answered, began: () => office.wake() })
    const { inboxDays } = settings
    this.routes = [...this.parts.routes, deadLetterRoutes({ name, dataSource: asked, office: counter, inboxDays }), outboxRoutes({ name, dataSource: asked, log })]
    this.#workers = [...this.parts.workers, office, new InboxCleaner(this.dataSource, settings.inboxDays, log), new DiscardedCleaner(this.dataSource, log)]
    this.#endpoint = new Endpoint({
      definition: { name, handlers: this.parts.handlers, retry: { redeliverySeconds: settings.redeliverySeconds } },
      outbox: this.outbox,
      transport,
      log
    })
  }

  /** Begins to start; a database that is away is tried for as long as it takes. */
  start(): void {
    this.#starting ??= this.#start()
  }

  /** Resolves when the database is there, migrated, and the loops run; or when the service was stopped before that. */
  async started(): Promise<void> {
    await this.#starting
  }

  /** Why the service cannot take requests yet. */
  get databaseProblem(): string | undefined {
    return this.#databaseProblem
  }

  /** Asks every part whether it works. All undefined: the service is ready. */
  async check(): Promise<Record<string, string | undefined>> {
    const database = this.#databaseProblem ?? (await this.#readiness.problem())
    return { database, broker: this.#transport.problem(), relay: this.relay.problem() }
  }

  /** What an operator should know of a service that works. */
  notes(): Record<string, string> {
    const waiting = this.#transport.awaited?.missing.map(({ endpoint }) => endpoint) ?? []
    return waiting.length > 0 ? { endpoints: reasonFor(waiting) } : {}
  }

  async #start(): Promise<void> {
    const { schema, log } = this.#database
    for (let attempt = 1; ; attempt++) {
      try {
        if (!this.dataSource.isInitialized) await connectDatabase(this.dataSource, this.#database)
        await this.requests.dataSource.initialize()
        break
      } catch (error) {
        const reason = databaseProblem(error, `DATABASE_URL or ${this.name.toUpperCase()}_DATABASE_URL`)
        if (reason !== this.#databaseProblem) log.warn({ schema, reason }, 'Cannot use the database; trying again until it answers')
        this.#databaseProblem = reason
        await pause(backoff(attempt, 250, 5000), this.#stopping.signal)
        if (this.#stopping.signal.aborted) return
      }
    }
    this.#databaseProblem = undefined
    if (this.#stopping.signal.aborted) return
    this.relay.start()
    this.#endpoint.start()
    for (const worker of this.#workers) worker.start()
  }

  /** First of two halves: see stopServices. */
  async stopSending(): Promise<void> {
    this.#stopping.abort()
    await this.#starting
    await this.parts.intake?.stop()
    await this.relay.stop()
  }

  async stopReceiving(): Promise<void> {
    await this.#endpoint.stop()
    for (const worker of this.#workers) await worker.stop()
    for (const pool of [this.requests.dataSource, this.dataSource]) if (pool.isInitialized) await pool.destroy()
  }
}

/**
 * The one stop order: requests in hand are committed, relays finish what is in flight (in memory that needs endpoints
 * that still work) and give the lead away, endpoints finish their transactions and acknowledge, then everything closes.
 */
export async function stopServices(services: readonly Service[], transport: Transport): Promise<void> {
  await Promise.all(services.map((service) => service.stopSending()))
  await Promise.all(services.map((service) => service.stopReceiving()))
  await transport.stop()
}

function migrationFolder(name: string): string {
  return fileURLToPath(new URL(`../migrations/${name}`, import.meta.url))
}
