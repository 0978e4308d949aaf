import type { FastifyPluginAsync } from 'fastify'
import type { ServiceConnections } from './context.ts'
import type { ServiceDefinition } from './define.ts'
import { schemaOf } from './migrations.ts'
import { endpointsOf, theirLetters } from './their-letters.ts'
import { handlersFor } from './queues.ts'
import { auditRoutes } from '../http/audit-routes.ts'
import { deadLetterRoutes } from '../http/dead-letters.ts'
import { endpointRoutes } from '../http/endpoint.ts'
import type { Colleague } from '../http/colleagues.ts'
import { messageRoutes } from '../http/messages.ts'
import { explanationRoutes } from '../http/saga-explanation.ts'
import { agesRoutes } from '../http/saga-ages.ts'
import { pictureRoutes, type Correspondent } from '../http/saga-definition.ts'
import { jobRoutes } from '../http/saga-jobs.ts'
import { pathRoutes } from '../http/saga-path.ts'
import { outboxRoutes } from '../http/outbox.ts'
import { scheduledRoutes } from '../http/scheduled.ts'
import { backoff, pause } from '../messaging/async/batcher.ts'
import { reasonFor } from '../messaging/transport/awaited-endpoints.ts'
import { databaseProblem } from '../messaging/postgres/problem.ts'
import { Database, type DatabaseOptions, type Patience } from '../messaging/postgres/database.ts'
import {
  MigrationEdited,
  MigrationsPending,
  type MigrateMode
} from '../messaging/postgres/migrate.ts'
import { GroupRetries } from '../messaging/dead-letters/group-retries.ts'
import { DeadLetterOffice } from '../messaging/dead-letters/office.ts'
import { Endpoint } from '../messaging/endpoint/endpoint.ts'
import { OLD_DELETED_LETTERS } from '../messaging/dead-letters/deleted.ts'
import { oldInboxRows } from '../messaging/inbox/old.ts'
import { Mask } from '../messaging/message/sensitive.ts'
import { OLD_AUDIT_ROWS } from '../messaging/postgres/audit.ts'
import { OldRowsCleaner } from '../messaging/postgres/old-rows.ts'
import { changing, describing, type Log } from '../messaging/async/log.ts'
import { Outage } from '../messaging/postgres/outage.ts'
import type { Contract } from '../messaging/message/message.ts'
import { Readiness } from '../messaging/outbox/readiness.ts'
import { mustBeReachable, Outbox } from '../messaging/outbox/outbox.ts'
import { OLD_DISCARDED_ROWS } from '../messaging/outbox/discard.ts'
import { Relay } from '../messaging/outbox/relay.ts'
import type { RequestClient } from '../messaging/request/client.ts'
import type { Transport } from '../messaging/transport/transport.ts'
import { signsOfLife, type ServiceReport } from '../messaging/trace/report.ts'
import { traceMessages, type TraceQuestion } from '../messaging/trace/trace.ts'
import type { Worker } from '../messaging/async/worker.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { handlersOf } from '../saga/run/endpoint-handlers.ts'
import { probePlans } from '../saga/machine/probe-plans.ts'
import { SagaHost } from '../saga/run/host.ts'
import { PLANS } from '../quick-ways.ts'
import { SagaExplainer } from '../saga/explain/explainer.ts'
import { SagaInspector } from '../saga/inspect/inspect.ts'
import { sagaRoutes } from '../http/sagas.ts'
import { SagaJobs } from '../saga/run/jobs.ts'
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
  /** What it does about migrations when it starts; `auto` when not given. */
  migrate?: MigrateMode
  log: Log
}

/** One service: schema, outbox and relay, endpoint, workers and routes. */
export class Service implements ServiceConnections {
  readonly name: string
  /** In the database: `<name>_service`. */
  readonly schema: string
  readonly database: Database
  readonly outbox: Outbox
  readonly transaction: Outbox['transaction']
  /** See ServiceContext. */
  readonly requests: ServiceConnections
  /** @internal */
  readonly relay: Relay
  /** @internal */
  readonly parts: ReturnType<ServiceDefinition['build']>
  /**
   * For people who look after it: dead letters and outbox. Those of sagas: see sagaRoutes.
   * @internal
   */
  readonly operatorRoutes: readonly FastifyPluginAsync[]
  /** @internal */
  readonly workers: readonly Worker[]
  readonly log: Log
  readonly #mask: Mask
  readonly #database: DatabaseOptions
  /** One of each queue. */
  readonly #endpoints: readonly Endpoint[]
  readonly #hosts: readonly SagaHost[]
  readonly #jobs: ReadonlyMap<SagaHost, SagaJobs>
  /** Those that it runs. */
  readonly sagas: readonly SagaDefinition[]
  readonly #queues: readonly string[]
  /** Names of the contracts that it takes, and that it says to send. @internal */
  readonly takes: string[]
  /** @internal */
  readonly sends: string[]
  readonly #redeliverySeconds: readonly number[]
  readonly #inboxDays: number
  readonly #transport: Transport
  readonly #readiness: Readiness
  readonly #stopping = new AbortController()
  #databaseProblem: string | undefined = 'not connected yet'
  #starting: Promise<void> | undefined
  #paused: { since: string; reason: string } | undefined

  /** @internal */
  constructor(options: ServiceOptions) {
    const { definition, databaseUrl, transport, requests, settings, migrate, log: given } = options
    const { name, sagas } = definition
    this.#mask = new Mask(carriedBy(definition))
    const shown = this.#mask.isNeeded ? changing(given, (said) => this.#mask.of(said)) : given
    const log = describing(shown)
    const { schema, migrations } = schemaOf(definition)
    this.name = name
    this.sagas = sagas
    this.log = log
    this.schema = schema
    this.#transport = transport
    const knows = (destination: string) => transport.knows(destination)
    for (const contract of definition.sends) mustBeReachable(contract, knows)
    this.#database = {
      url: databaseUrl,
      schema,
      migrations,
      migrate,
      avoidScans: definition.avoidScans,
      poolSize: POOL_SIZE,
      log,
      outage: new Outage(schema, log)
    }
    this.database = new Database(this.#database)
    this.relay = new Relay({ url: databaseUrl, schema, transport, log })
    const connectionsOf = (database: Database, outage?: Outage): ServiceConnections => {
      const outbox = new Outbox({
        database,
        outage,
        address: transport.address,
        source: name,
        knows,
        committed: (rows) => this.relay.offer(rows),
        scheduled: () => this.relay.scheduled()
      })
      return { database, outbox, transaction: outbox.transaction.bind(outbox) }
    }
    const own = connectionsOf(this.database, this.#database.outage)
    this.outbox = own.outbox
    this.transaction = own.transaction
    this.#readiness = new Readiness(this.outbox)
    // What the other has migrated.
    const few = { ...this.#database, migrate: 'off', poolSize: REQUEST_POOL_SIZE } as const
    const asked = new Database({ ...few, patience: REQUEST_PATIENCE })
    this.requests = connectionsOf(asked)
    this.#hosts = sagas.map((saga) => new SagaHost(saga))
    if (sagas.length > 0) PLANS.probe(probePlans).tell(log)
    this.parts = definition.build({
      ...own,
      requests: this.requests,
      log,
      request: (message, how) => requests.request(message, how),
      saga: (wanted) => this.saga(wanted)
    })
    const endpoints = definition.queues.map((queue) => queue.name)
    const theirs = endpointsOf(definition.lettersOf)
    this.#queues = endpoints
    this.takes = definition.consumes.map((contract) => contract.name)
    this.sends = definition.sends.map((contract) => contract.name)
    this.#redeliverySeconds = settings.redeliverySeconds
    this.#inboxDays = settings.inboxDays
    const office = new DeadLetterOffice(asked, this.requests.outbox, {
      endpoints,
      theirs,
      contracts: definition.consumes,
      undo: sagas.length > 0 ? undoOf(sagas) : undefined
    })
    // One carries group retries out, the other answers for them.
    const retries = new GroupRetries(this.database, this.outbox, log, { endpoints, theirs })
    const groups = new GroupRetries(asked, this.requests.outbox, log, {
      endpoints,
      theirs,
      began: () => retries.wake()
    })
    const { redeliverySeconds, inboxDays } = settings
    const mask = this.#mask
    this.operatorRoutes = [
      deadLetterRoutes({ name, database: asked, office, groups, inboxDays, mask }),
      outboxRoutes({ name, database: asked, log, mask }),
      scheduledRoutes({ name, database: asked, log, mask }),
      endpointRoutes({
        name,
        paused: () => this.#paused,
        pause: (reason) => this.pause(reason),
        resume: () => this.resume(),
        writeDown: (audit) => this.requests.transaction(async (tx) => audit(tx))
      }),
      messageRoutes({ name, report: (question) => this.report(question) }),
      auditRoutes(name, asked)
    ]
    this.#jobs = new Map(
      this.#hosts.map((host) => [host, new SagaJobs(host, this.database, this.outbox, log)])
    )
    this.workers = [
      ...this.parts.workers,
      ...this.#jobs.values(),
      ...this.#hosts.map((host) => new TimerLoop(host, this.outbox, log)),
      retries,
      ...theirLetters(definition.lettersOf, carriedBy(definition), {
        outbox: this.outbox,
        transport,
        log
      }),
      new OldRowsCleaner(
        this.database,
        [...oldInboxRows(inboxDays), OLD_DELETED_LETTERS, OLD_DISCARDED_ROWS, ...OLD_AUDIT_ROWS],
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

  /**
   * Routes of each of its sagas, to be mounted where the process has them.
   * @param colleagues all services that can be asked, this one included
   * @param correspondents services of the process
   * @internal
   */
  sagaRoutes(
    colleagues: readonly Colleague[],
    correspondents: readonly Correspondent[]
  ): { saga: SagaDefinition; routes: FastifyPluginAsync }[] {
    const { database, outbox } = this.requests
    return this.#hosts.map((host) => {
      const { definition } = host
      const inspector = new SagaInspector(database, definition)
      const explainer = new SagaExplainer(database, definition, this.name)
      const more = [
        explanationRoutes(explainer, colleagues),
        pathRoutes(inspector, explainer.usual, this.#mask),
        agesRoutes(database, explainer, colleagues),
        pictureRoutes(definition, this.name, correspondents),
        jobRoutes(host, this.#jobsOf(host), outbox)
      ]
      return { saga: definition, routes: sagaRoutes(inspector, host, outbox, this.#mask, more) }
    })
  }

  /** What asks for jobs; the worker of the same host carries them out. */
  #jobsOf(host: SagaHost): SagaJobs {
    const { database, outbox } = this.requests
    const began = () => this.#jobs.get(host)!.wake()
    return new SagaJobs(host, database, outbox, this.log, began)
  }

  /**
   * Begins to start; a database that is away is tried for as long as it takes.
   * @internal
   */
  start(): void {
    this.#starting ??= this.#start()
    this.#starting.catch(() => {})
  }

  /**
   * Resolves when the database is there, migrated, and the loops run; or when the service was
   * stopped before that.
   * @throws MigrationEdited, MigrationsPending: it does not start, and goes on saying so where
   * requests come in
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

  /**
   * What it knows of messages, and how it is doing.
   * @internal
   */
  async report(question: TraceQuestion): Promise<ServiceReport> {
    const { database } = this.requests
    const queues = this.#queues
    const relayKnows = (rowId: string) => this.relay.knows(rowId)
    const [messages, life, depths] = await Promise.all([
      traceMessages(database, question, { queues, relayKnows }),
      signsOfLife(database, this.schema),
      Promise.all(queues.map(async (queue) => this.#transport.depthOf?.(queue)))
    ])
    const known = depths.filter((depth) => depth !== undefined)
    return {
      messages,
      endpoint: {
        ...life,
        queueDepth: known.length > 0 ? known.reduce((sum, depth) => sum + depth, 0) : null,
        problem: this.#transport.problem() ?? this.relay.problem() ?? null,
        paused: this.#paused ?? null,
        redeliverySeconds: [...this.#redeliverySeconds],
        inboxDays: this.#inboxDays,
        takes: this.takes
      }
    }
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
        if (!this.database.isConnected) await this.database.connect()
        await this.requests.database.connect()
        break
      } catch (error) {
        if (error instanceof MigrationEdited || error instanceof MigrationsPending) {
          this.#databaseProblem = error.message
          throw error
        }
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

  /** @internal */
  async stopTaking(): Promise<void> {
    this.#stopping.abort()
    await this.#starting?.catch(() => {})
    await this.parts.intake?.stop()
  }

  /** @internal */
  async stopReceiving(): Promise<void> {
    await Promise.all(this.#endpoints.map((endpoint) => endpoint.stop()))
    for (const worker of this.workers) await worker.stop()
  }

  /** @internal */
  async close(): Promise<void> {
    for (const { database } of [this.requests, this]) await database.close()
  }
}

/** Contracts of all that may be in a service's tables. */
function carriedBy({ consumes, sends, sagas }: ServiceDefinition): Contract[] {
  const all = [...consumes, ...sends, ...sagas.flatMap((saga) => [saga.startedBy, ...saga.handles])]
  return all.flatMap((contract) => [contract, ...(contract.response ? [contract.response] : [])])
}

/**
 * The one stop order: requests in hand are committed, endpoints finish their transactions and
 * acknowledge, relays send what was committed and give the lead away, then everything closes. A
 * transport that keeps nothing needs endpoints that still work for what is in flight: there the
 * relays stop first, and what is committed last is sent after the next start.
 */
export async function stopServices(
  services: readonly Service[],
  transport: Transport
): Promise<void> {
  const all = (stop: (service: Service) => Promise<void>) => Promise.all(services.map(stop))
  await all((service) => service.stopTaking())
  if (!transport.keeps) await all(({ relay }) => relay.stop())
  await all((service) => service.stopReceiving())
  await all(({ relay }) => relay.stop())
  await all((service) => service.close())
  await transport.stop()
}
