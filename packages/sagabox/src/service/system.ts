import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import { buildApp, type AppOptions } from '../http/app.ts'
import { operationRoutes } from '../http/operations.ts'
import { HttpProblem } from '../http/problem.ts'
import { definitionRoutes } from '../http/sagas.ts'
import { outboxStatus } from '../messaging/outbox/status.ts'
import type { MigrateMode } from '../messaging/postgres/migrate.ts'
import type { Transport } from '../messaging/transport/transport.ts'
import type { ServiceDefinition } from './define.ts'
import { Service, stopServices, type ServiceSettings } from './service.ts'

export interface SystemOptions {
  services: readonly ServiceDefinition[]
  /** By the services' names. */
  databaseUrls: Readonly<Record<string, string>>
  /** In memory only when all services are in this process. */
  transport: Transport
  settings: ServiceSettings
  /** What the services do about migrations when they start; `auto` when not given. */
  migrate?: MigrateMode
  host: string
  port: number
  /** See AppOptions. */
  app?: AppOptions
  log: FastifyBaseLogger
}

/** How long requests under way may take once the process stops, ms. */
const HTTP_GRACE_MS = 3000

/** Some or all services in one process behind one port. */
export class System {
  readonly services: readonly Service[]
  readonly transport: Transport
  readonly app: FastifyInstance
  /** `http://address:port` */
  readonly url: string

  private constructor(services: readonly Service[], transport: Transport, app: FastifyInstance) {
    this.services = services
    this.transport = transport
    this.app = app
    const { address, family, port } = app.server.address() as AddressInfo
    const host =
      address === '0.0.0.0' || address === '::'
        ? 'localhost'
        : family === 'IPv6'
          ? `[${address}]`
          : address
    this.url = `http://${host}:${port}`
  }

  /** What it really listens on: `address port`. */
  get addresses(): string[] {
    return this.app
      .addresses()
      .map((one) => (typeof one === 'string' ? one : `${one.address} ${one.port}`))
  }

  /**
   * Listens at once, so that /health/ready can tell what is missing, and begins to start the
   * services.
   */
  static async start({
    services: definitions,
    databaseUrls,
    transport,
    settings,
    migrate,
    host,
    port,
    app: options,
    log
  }: SystemOptions): Promise<System> {
    const services = definitions.map((definition) => {
      const databaseUrl = databaseUrls[definition.name]
      if (databaseUrl === undefined)
        throw new Error(
          `The service ${definition.name} was given no database: expected it among databaseUrls (${Object.keys(databaseUrls).join(', ') || 'empty'})`
        )
      return new Service({ definition, databaseUrl, transport, settings, migrate, log })
    })
    const app = await buildApp(
      log,
      (root) => {
        const sagas = definitions.flatMap((definition) => definition.sagas)
        if (sagas.length > 0) root.register(definitionRoutes(sagas))
        for (const service of services) mount(root, service, sagas.length === 1)
        root.register(
          operationRoutes(
            services.map((service) => ({
              name: service.name,
              check: () => service.check(),
              notes: () => service.notes(),
              outboxStatus: () => outboxStatus(service.requests.database, service.schema)
            }))
          )
        )
      },
      options
    )
    await app.listen({ host, port })
    transport.start(() => {
      for (const service of services) service.relay.wake()
    })
    for (const service of services) service.start()
    return new System(services, transport, app)
  }

  /**
   * Resolves when every service works.
   * @throws MigrationEdited, MigrationsPending of the first service that therefore does not start
   */
  async started(): Promise<void> {
    await Promise.all(this.services.map((service) => service.started()))
  }

  service(name: string): Service {
    const found = this.services.find((service) => service.name === name)
    if (!found) throw new Error(`The ${name} service does not run in this process`)
    return found
  }

  /**
   * Answers what has been asked. A connection kept alive, or a request never finished, does not
   * hold the stop up.
   */
  async #closeHttp(): Promise<void> {
    const { server } = this.app
    const idle = setInterval(() => server.closeIdleConnections(), 20)
    const late = setTimeout(() => server.closeAllConnections(), HTTP_GRACE_MS)
    await this.app.close()
    clearInterval(idle)
    clearTimeout(late)
  }

  async stop(): Promise<void> {
    await this.#closeHttp()
    await stopServices(this.services, this.transport)
  }
}

/** @param isOnly whether the process has one saga, which then is at `/sagas`, too */
function mount(app: FastifyInstance, service: Service, isOnly: boolean): void {
  app.register(async (scope) => {
    scope.addHook('onRequest', (_request, _reply, next) => {
      if (service.databaseProblem === undefined) return next()
      next(
        new HttpProblem(
          503,
          `The ${service.name} service cannot use its database yet: ${service.databaseProblem}`
        )
      )
    })
    for (const routes of service.routes) scope.register(routes)
    for (const { saga, routes } of service.sagaRoutes()) {
      if (isOnly) scope.register(routes, { prefix: '/sagas' })
      scope.register(async (own) => {
        if (isOnly)
          own.addHook('onRoute', (route) => void (route.schema = { ...route.schema, hide: true }))
        await own.register(routes, { prefix: `/sagas/${saga.name}` })
      })
    }
  })
}
