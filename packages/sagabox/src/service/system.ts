import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import { Access } from '../access/access.ts'
import { consoleRoutes } from '../access/console-routes.ts'
import { guard, type Seen } from '../access/guard.ts'
import { consolePageOf } from '../console/page.ts'
import { consoleApi, type ConsoleOptions, type Shown } from '../console/routes.ts'
import { buildApp, type AppOptions } from '../http/app.ts'
import { describing } from '../messaging/async/log.ts'
import type { BodyOf, Message, RequestContract } from '../messaging/message/message.ts'
import type { MigrateMode } from '../messaging/postgres/migrate.ts'
import { RequestClient, type RequestOptions } from '../messaging/request/client.ts'
import type { Transport } from '../messaging/transport/transport.ts'
import type { ServiceDefinition } from './define.ts'
import { beOf, registerHealthRoutes, registerOperatorRoutes } from './operator-routes.ts'
import { Service, stopServices, type ServiceSettings } from './service.ts'

/** What a process is made of, all of it said. */
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
  /** false: there is no server; operatorRoutes go into an app of your own. */
  port: number | false
  /** Who may come in; everybody when not given, which is refused where others can reach `host`. */
  access?: Access
  /** A listener of their own for those who look after the services. */
  operators?: {
    readonly host: string
    readonly port: number
    /** How operators see it. */
    readonly publicUrl?: string | undefined
  }
  /** What the operators' console shows besides these services. */
  console?: ConsoleOptions | undefined
  /** See OperatorRoutesOptions. */
  peers?: Readonly<Record<string, string>>
  /** See AppOptions. */
  app?: Omit<AppOptions, 'guard'>
  log: FastifyBaseLogger
}

/** How long requests under way may take once the process stops, ms. */
const HTTP_GRACE_MS = 3000

/** Some or all services in one process behind one port. */
export class System {
  readonly services: readonly Service[]
  readonly transport: Transport
  readonly #requests: RequestClient
  readonly app: FastifyInstance
  /** Where operators are served, when they have a listener of their own. */
  readonly operators: FastifyInstance | undefined
  /** `http://address:port`, with TLS `https://…`; empty when it does not listen. */
  readonly url: string

  private constructor(
    services: readonly Service[],
    transport: Transport,
    requests: RequestClient,
    app: FastifyInstance,
    operators?: FastifyInstance
  ) {
    this.services = services
    this.transport = transport
    this.#requests = requests
    this.app = app
    this.operators = operators
    const listening = app.server.address() as AddressInfo | null
    this.url = listening === null ? '' : urlOf(listening, app.server instanceof TlsServer)
  }

  /** What it really listens on: `address port`. */
  get addresses(): string[] {
    return this.app
      .addresses()
      .map((one) => (typeof one === 'string' ? one : `${one.address} ${one.port}`))
  }

  /** Where operators find their routes and the console. */
  get operatorsUrl(): string {
    const { server } = this.operators ?? this.app
    const listening = server.address() as AddressInfo | null
    return listening === null ? '' : urlOf(listening, server instanceof TlsServer)
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
    access: given,
    operators,
    peers,
    console,
    app: options = {},
    log
  }: SystemOptions): Promise<System> {
    const requests = new RequestClient({ transport, log: describing(log) })
    const services = definitions.map((definition) => {
      const databaseUrl = databaseUrls[definition.name]
      if (databaseUrl === undefined)
        throw new Error(
          `The service ${definition.name} was given no database: expected it among databaseUrls (${Object.keys(databaseUrls).join(', ') || 'empty'})`
        )
      return new Service({ definition, databaseUrl, transport, requests, settings, migrate, log })
    })
    const addresses = [host, ...(operators ? [operators.host] : [])]
    const access = given ?? (await Access.open({ publicUrl: options.publicUrl }, addresses, log))
    const shown = { ...console, services: { ...peers, ...console?.services } }
    const app = await buildServers(
      services,
      access,
      { apart: operators, peers, console: shown },
      options,
      log
    )
    app.business.addHook('onClose', async () => access.close())
    if (port !== false) await app.business.listen({ host, port })
    else await app.business.ready()
    await app.operators?.listen(operators)
    transport.start(() => {
      for (const service of services) service.relay.wake()
    })
    for (const service of services) service.start()
    return new System(services, transport, requests, app.business, app.operators)
  }

  /**
   * Resolves when every service works.
   * @throws MigrationEdited, MigrationsPending of the first service that therefore does not start
   */
  async started(): Promise<void> {
    await Promise.all(this.services.map((service) => service.started()))
  }

  /** Asks, and waits for the answer: see RequestClient. */
  request<C extends RequestContract>(
    message: Message<C>,
    options?: RequestOptions
  ): Promise<BodyOf<C['response']>> {
    return this.#requests.request(message, options)
  }

  service(name: string): Service {
    const found = this.services.find((service) => service.name === name)
    if (!found) throw new Error(`The ${name} service does not run in this process`)
    return found
  }

  async #closeHttp(): Promise<void> {
    await Promise.all([close(this.app), this.operators && close(this.operators)])
  }

  async stop(): Promise<void> {
    await this.#closeHttp()
    await this.#requests.stop()
    await stopServices(this.services, this.transport)
  }
}

function urlOf({ address, family, port }: AddressInfo, isTls: boolean): string {
  const isAny = address === '0.0.0.0' || address === '::'
  const host = isAny ? 'localhost' : family === 'IPv6' ? `[${address}]` : address
  return `${isTls ? 'https' : 'http'}://${host}:${port}`
}

/**
 * Answers what has been asked. A connection kept alive, or a request never finished, does not hold
 * the stop up.
 */
async function close(app: FastifyInstance): Promise<void> {
  const idle = setInterval(() => app.server.closeIdleConnections(), 20)
  const late = setTimeout(() => app.server.closeAllConnections(), HTTP_GRACE_MS)
  await app.close()
  clearInterval(idle)
  clearTimeout(late)
}

/** What is served besides the services' own routes. */
interface Served {
  /** The operators' own server. */
  readonly apart: SystemOptions['operators']
  readonly peers: SystemOptions['peers']
  readonly console: ConsoleOptions
}

async function buildServers(
  services: readonly Service[],
  access: Access,
  { apart, peers, console }: Served,
  options: Omit<AppOptions, 'guard'>,
  log: FastifyBaseLogger
): Promise<{ business: FastifyInstance; operators?: FastifyInstance }> {
  const guarded = (seen: Seen) => ({
    ...options,
    ...seen,
    guard: (root: FastifyInstance) => guard(root, access, seen)
  })
  const { publicUrl, corsOrigins } = options
  // Pages of the shop, and those that it lets ask, have no business with operators.
  const theirs: Seen = apart
    ? { publicUrl: apart.publicUrl, corsOrigins: [] }
    : { publicUrl, corsOrigins }
  const forOperators = (root: FastifyInstance) => {
    registerConsole(root, services, access, console, theirs.publicUrl)
    registerOperatorRoutes(root, services, peers)
  }
  const forAll = (root: FastifyInstance) => {
    for (const service of services)
      root.register(async (scope) => {
        beOf(scope, service)
        for (const routes of service.parts.routes) scope.register(routes)
      })
    if (apart) registerHealthRoutes(root, services)
    else forOperators(root)
  }
  const business = await buildApp(log, forAll, {
    ...guarded({ publicUrl, corsOrigins }),
    hasDocs: !apart
  })
  return apart
    ? { business, operators: await buildApp(log, forOperators, guarded(theirs)) }
    : { business }
}

/** The console's page, its API, and the ways to sign in. */
export function registerConsole(
  root: FastifyInstance,
  services: readonly Shown[],
  access: Access,
  options: ConsoleOptions,
  publicUrl: string | undefined
): void {
  root.register(consoleRoutes(access, publicUrl, consolePageOf(root)))
  root.register(consoleApi(services, options, (cookies) => access.sessions.alone(cookies)))
}
