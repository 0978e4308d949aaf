import type { FastifyPluginAsync } from 'fastify'
import type { DataSource } from 'typeorm'
import type { ServiceDefinition } from './define.ts'
import { handlersFor } from './queues.ts'
import { deadLetterRoutes } from '../http/dead-letters.ts'
import { endpointRoutes } from '../http/endpoint.ts'
import { outboxRoutes } from '../http/outbox.ts'
import { scheduledRoutes } from '../http/scheduled.ts'
import { backoff, pause } from '../messaging/async/batcher.ts'
import { reasonFor } from '../messaging/transport/awaited-endpoints.ts'
import { databaseProblem } from '../messaging/postgres/problem.ts'
import {
  connectDatabase,
  createDataSource,
  type DatabaseOptions,
  type Patience
} from '../messaging/postgres/database.ts'
import { GroupRetries } from '../messaging/dead-letters/group-retries.ts'
import { DeadLetterOffice } from '../messaging/dead-letters/office.ts'
import { Endpoint } from '../messaging/endpoint/endpoint.ts'
import { OLD_DELETED_LETTERS } from '../messaging/dead-letters/deleted.ts'
import { oldInboxRows } from '../messaging/inbox/old.ts'
import { OldRowsCleaner } from '../messaging/postgres/old-rows.ts'
import { describing, type Log } from '../messaging/async/log.ts'
import { Outage } from '../messaging/postgres/outage.ts'
import { Readiness } from '../messaging/outbox/readiness.ts'
import { mustBeReachable, Outbox } from '../messaging/outbox/outbox.ts'
import { OLD_DISCARDED_ROWS } from '../messaging/outbox/discard.ts'
import { Relay } from '../messaging/outbox/relay.ts'
import type { RequestClient } from '../messaging/request/client.ts'
import type { Transport } from '../messaging/transport/transport.ts'
import type { Worker } from '../messaging/async/worker.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { handlersOf } from '../saga/run/endpoint-handlers.ts'
import { migrationsOf, schemaOf } from './own-migrations.ts'
import { probePlans } from '../saga/machine/probe-plans.ts'
import { SagaHost } from '../saga/run/host.ts'
import { PLANS } from '../quick-ways.ts'
import { SagaInspector } from '../saga/inspect/inspect.ts'
import { sagaRoutes } from '../http/sagas.ts'
import { TimerLoop } from '../saga/run/timers.ts'
import { undoOf } from '../saga/run/undo.ts'

/** How a service treats its messages. */
export interface ServiceSettings {
  /**
   * When a message that keeps failing comes again, seconds; after the last of them it is a dead
   * letter.
   */
  redeliverySeconds: readonly number[]
  /** How long an inbox remembers what was handled. */
  inboxDays: number
}

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

export interface ServiceOptions {
  definition: ServiceDefinition
  databaseUrl: string
  transport: Transport
  /** Shared by the services of a process. */
  requests: RequestClient
  settings: ServiceSettings
  log: Log
}

/** One service: schema, outbox and relay, endpoint, workers and routes. */
export class Service {
  readonly name: string
  readonly schema: string
  readonly dataSource: DataSource
  readonly outbox: Outbox
  /** See ServiceContext. */
  readonly requests: { dataSource: DataSource; outbox: Outbox }
  readonly relay: Relay
  readonly parts: ReturnType<ServiceDefinition['build']>
  /** For people who look after it: dead letters and outbox. Those of sagas: see sagaRoutes. */
  readonly operatorRoutes: readonly FastifyPluginAsync[]
  readonly workers: readonly Worker[]
  readonly #database: DatabaseOptions
  /** One of each queue. */
  readonly #endpoints: readonly Endpoint[]
  readonly #hosts: readonly SagaHost[]
  readonly sagas: readonly SagaDefinition[]
  readonly #transport: Transport
  readonly #readiness: Readiness
  readonly #stopping = new AbortController()
  #databaseProblem: string | undefined = 'not connected yet'
  #starting: Promise<void> | undefined
  #paused: { since: string; reason: string } | undefined

  constructor({
    definition,
    databaseUrl,
    transport,
    requests,
    settings,
    log: given
  }: ServiceOptions) {
    const log = describing(given)
    const { name, sagas } = definition
    const schema = schemaOf(definition)
    this.name = name
    this.sagas = sagas
    this.schema = schema
    this.#transport = transport
    const knows = (destination: string) => transport.knows(destination)
    for (const contract of definition.sends) mustBeReachable(contract, knows)
    this.#database = {
      url: databaseUrl,
      schema,
      migrations: migrationsOf(definition),
      entities: definition.entities,
      poolSize: POOL_SIZE,
      log,
      outage: new Outage(schema, log)
    }
    this.dataSource = createDataSource(this.#database)
    this.relay = new Relay({ url: databaseUrl, schema, transport, log })
    const outboxOn = (dataSource: DataSource, outage?: Outage) =>
      new Outbox({
        dataSource,
        outage,
        address: transport.address,
        source: name,
        knows,
        committed: (rows) => this.relay.offer(rows),
        scheduled: () => this.relay.scheduled()
      })
    this.outbox = outboxOn(this.dataSource, this.#database.outage)
    this.#readiness = new Readiness(this.outbox)
    const patient = { ...this.#database, migrations: [], poolSize: REQUEST_POOL_SIZE }
    const asked = createDataSource({ ...patient, patience: REQUEST_PATIENCE })
    this.requests = { dataSource: asked, outbox: outboxOn(asked) }
    this.#hosts = sagas.map((saga) => new SagaHost(saga))
    if (sagas.length > 0) PLANS.probe(probePlans).tell(log)
    this.parts = definition.build({
      dataSource: this.dataSource,
      outbox: this.outbox,
      requests: this.requests,
      log,
      request: (message, options) => requests.request(message, options),
      saga: (wanted) => this.saga(wanted)
    })
    const endpoints = definition.queues.map((queue) => queue.name)
    const office = new DeadLetterOffice(asked, this.requests.outbox, {
      endpoints,
      undo: sagas.length > 0 ? undoOf(sagas) : undefined
    })
    // One carries group retries out, the other answers for them.
    const retries = new GroupRetries(this.dataSource, this.outbox, log, { endpoints })
    const groups = new GroupRetries(asked, this.requests.outbox, log, {
      endpoints,
      began: () => retries.wake()
    })
    const { redeliverySeconds, inboxDays } = settings
    this.operatorRoutes = [
      deadLetterRoutes({ name, dataSource: asked, office, groups, inboxDays }),
      outboxRoutes({ name, dataSource: asked, log }),
      scheduledRoutes({ name, dataSource: asked, log }),
      endpointRoutes({
        name,
        paused: () => this.#paused,
        pause: (reason) => this.pause(reason),
        resume: () => this.resume()
      })
    ]
    this.workers = [
      ...this.parts.workers,
      ...this.#hosts.map((host) => new TimerLoop(host, this.outbox, log)),
      retries,
      new OldRowsCleaner(
        this.dataSource,
        [...oldInboxRows(inboxDays), OLD_DELETED_LETTERS, OLD_DISCARDED_ROWS],
        log
      )
    ]
    const handlers = [...this.parts.handlers, ...handlersOf(this.#hosts)]
    this.#endpoints = definition.queues.map(
      (queue) =>
        new Endpoint({
          definition: {
            name: queue.name,
            handlers: handlersFor(queue, handlers),
            retry: { redeliverySeconds },
            concurrency: definition.concurrency
          },
          outbox: this.outbox,
          transport,
          log
        })
    )
  }

  /**
   * One of the service's sagas.
   * @throws Error when the service has no such saga
   */
  saga(definition: SagaDefinition): SagaHost {
    const found = this.#hosts.find((host) => host.definition === definition)
    if (!found) throw new Error(`The service ${this.name} has no saga ${definition.name}`)
    return found
  }

  /**
   * Has the endpoint take no messages, in this process: what runs is finished, the rest goes back
   * to the queue and waits there. Timers, routes and the relay go on. Resolves when nothing is in
   * hand any more.
   * @param reason why, as /health/ready shows it
   */
  async pause(reason: string): Promise<void> {
    const { log } = this.#database
    this.#paused = { since: this.#paused?.since ?? new Date().toISOString(), reason }
    log.info({ endpoint: this.name, reason }, 'The endpoint is paused: its messages wait')
    await Promise.all(this.#endpoints.map((endpoint) => endpoint.pause()))
  }

  /** Has it take messages again. */
  resume(): void {
    if (!this.#paused) return
    this.#paused = undefined
    this.#database.log.info({ endpoint: this.name }, 'The endpoint is resumed')
    for (const endpoint of this.#endpoints) endpoint.resume()
  }

  /** Since when and why the endpoint takes no messages; undefined: it does. */
  get paused(): { since: string; reason: string } | undefined {
    return this.#paused
  }

  /** Routes of each of its sagas, to be mounted where the process has them. */
  sagaRoutes(): { saga: SagaDefinition; routes: FastifyPluginAsync }[] {
    const { dataSource, outbox } = this.requests
    return this.#hosts.map((host) => ({
      saga: host.definition,
      routes: sagaRoutes(new SagaInspector(dataSource, host.definition), host, outbox)
    }))
  }

  /** Begins to start; a database that is away is tried for as long as it takes. */
  start(): void {
    this.#starting ??= this.#start()
  }

  /**
   * Resolves when the database is there, migrated, and the loops run; or when the service was
   * stopped before that.
   */
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
    const unusable = this.#transport.unusable ?? []
    return {
      ...(waiting.length > 0 && { endpoints: reasonFor(waiting) }),
      ...(unusable.length > 0 && { exchanges: unusable.join('; ') }),
      ...(this.#paused && { paused: `since ${this.#paused.since}: ${this.#paused.reason}` })
    }
  }

  async #start(): Promise<void> {
    const { schema, log } = this.#database
    for (let attempt = 1; ; attempt++) {
      try {
        if (!this.dataSource.isInitialized) await connectDatabase(this.dataSource, this.#database)
        await this.requests.dataSource.initialize()
        break
      } catch (error) {
        const reason = databaseProblem(
          error,
          `DATABASE_URL or ${this.name.toUpperCase()}_DATABASE_URL`
        )
        if (reason !== this.#databaseProblem)
          log.warn({ schema, reason }, 'Cannot use the database; trying again until it answers')
        this.#databaseProblem = reason
        await pause(backoff(attempt, 250, 5000), this.#stopping.signal)
        if (this.#stopping.signal.aborted) return
      }
    }
    this.#databaseProblem = undefined
    if (this.#stopping.signal.aborted) return
    this.relay.start()
    for (const endpoint of this.#endpoints) endpoint.start()
    for (const worker of this.workers) worker.start()
  }

  /** First of two halves: see stopServices. */
  async stopSending(): Promise<void> {
    this.#stopping.abort()
    await this.#starting
    await this.parts.intake?.stop()
    await this.relay.stop()
  }

  async stopReceiving(): Promise<void> {
    await Promise.all(this.#endpoints.map((endpoint) => endpoint.stop()))
    for (const worker of this.workers) await worker.stop()
    for (const pool of [this.requests.dataSource, this.dataSource])
      if (pool.isInitialized) await pool.destroy()
  }
}

/**
 * The one stop order: requests in hand are committed, relays finish what is in flight (in memory
 * that needs endpoints that still work) and give the lead away, endpoints finish their transactions
 * and acknowledge, then everything closes.
 */
export async function stopServices(
  services: readonly Service[],
  transport: Transport
): Promise<void> {
  await Promise.all(services.map((service) => service.stopSending()))
  await Promise.all(services.map((service) => service.stopReceiving()))
  await transport.stop()
}
