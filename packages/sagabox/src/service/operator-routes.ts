import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import { ANYBODY } from '../access/actor.ts'
import { consolePageOf } from '../console/page.ts'
import { consoleApi, type ConsoleOptions } from '../console/routes.ts'
import { auditRefusals } from '../http/audit.ts'
import type { Colleague } from '../http/colleagues.ts'
import { Peer } from '../http/peer.ts'
import { healthRoutes, operationRoutes, type Operated } from '../http/operations.ts'
import { useOwnRules } from '../http/own-rules.ts'
import { PUBLIC } from '../http/permission.ts'
import { HttpProblem } from '../http/problem.ts'
import { definitionRoutes } from '../http/sagas.ts'
import { outboxStatus } from '../messaging/outbox/status.ts'
import type { Service } from './service.ts'

/** Who may look after the services. */
export interface OperatorRoutesOptions {
  /**
   * Whether who asks may: called for each request, before its body is read. Everybody is refused
   * (403) unless it answers true; it may throw an error with a statusCode of its own. Who it is may
   * be set as `request.actor`, which histories and the audit name; `anonymous` unless it is.
   */
  authorize?(request: FastifyRequest): boolean | Promise<boolean>
  /** What the console at `console/` shows besides these services. */
  console?: ConsoleOptions
  /**
   * Services of other processes, by name, and where their operators' routes are. They are asked
   * about messages when an instance is explained, with the Authorization header of whoever asks.
   */
  readonly peers?: Readonly<Record<string, string>>
}

/** What startSagabox or System.start answered. */
export type Running = { readonly services: readonly Service[] } | { readonly system: Running }

/**
 * The routes for those who look after services, as a plugin for a fastify app of your own:
 * `/sagas/…`, `/ops/<service>/…`, `/health/…`, and the console at `/console/`. They bring validation and problem documents of their
 * own, and touch nothing of the rest of the app.
 * @example
 * app.register(operatorRoutes(sagabox, { authorize: isOperator }), { prefix: '/internal' })
 */
export function operatorRoutes(
  running: Running,
  { authorize, peers, console = {} }: OperatorRoutesOptions = {}
): FastifyPluginAsync {
  const services = servicesOf(running)
  return async (scope) => {
    useOwnRules(scope)
    if (!scope.hasRequestDecorator('may')) scope.decorateRequest('may', () => true)
    if (!scope.hasRequestDecorator('actor')) scope.decorateRequest('actor', null as never)
    scope.addHook('onRequest', async (request) => {
      request.actor ??= ANYBODY
      if ((await authorize?.(request)) !== true) throw refusal(authorize !== undefined)
    })
    registerOperatorRoutes(scope, services, peers)
    const send = consolePageOf(scope)
    scope.get('/console/*', { schema: { permission: PUBLIC, hide: true } }, send)
    scope.get('/console', { schema: { permission: PUBLIC, hide: true } }, (request, reply) =>
      // With ignoreTrailingSlash both come here. Links of the page go from where it is.
      request.url.split('?', 1)[0]!.endsWith('/')
        ? send(request, reply)
        : reply.redirect('console/')
    )
    scope.register(
      consoleApi(services, { ...console, services: { ...peers, ...console.services } })
    )
  }
}

function servicesOf(running: Running): readonly Service[] {
  return 'system' in running ? servicesOf(running.system) : running.services
}

function refusal(asked: boolean): HttpProblem {
  return new HttpProblem(
    403,
    asked
      ? 'You may not look after these services'
      : 'operatorRoutes was given no authorize, which decides who may'
  )
}

/** Routes of sagas, dead letters, outboxes and health. */
export function registerOperatorRoutes(
  app: FastifyInstance,
  services: readonly Service[],
  peers: Readonly<Record<string, string>> = {}
): void {
  const sagas = services.flatMap((service) => service.sagas)
  const colleagues = colleaguesOf(services, peers)
  if (sagas.length > 0) app.register(definitionRoutes(sagas))
  for (const service of services) mount(app, service, sagas.length === 1, colleagues, services)
  app.register(operationRoutes(services.map(operatedOf)))
}

/** Whether the process lives and works, alone. */
export function registerHealthRoutes(app: FastifyInstance, services: readonly Service[]): void {
  app.register(healthRoutes(services.map(operatedOf)))
}

function operatedOf(service: Service): Operated {
  return {
    name: service.name,
    check: () => service.check(),
    notes: () => service.notes(),
    outboxStatus: () => outboxStatus(service.requests.database, service.schema)
  }
}

/** Services of this process are asked directly, whatever the peers say of them. */
function colleaguesOf(
  services: readonly Service[],
  peers: Readonly<Record<string, string>>
): Colleague[] {
  const here = services.map((service): Colleague => ({
    name: service.name,
    report: (question) => service.report(question)
  }))
  const elsewhere = Object.entries(peers)
    .filter(([name]) => here.every((one) => one.name !== name))
    .map(([name, url]) => new Peer(name, url))
  return [...here, ...elsewhere]
}

/** @param isOnly whether the process has one saga, which then is at `/sagas`, too */
function mount(
  app: FastifyInstance,
  service: Service,
  isOnly: boolean,
  colleagues: readonly Colleague[],
  services: readonly Service[]
): void {
  app.register(async (scope) => {
    beOf(scope, service)
    for (const routes of service.operatorRoutes) scope.register(routes)
    for (const { saga, routes } of service.sagaRoutes(colleagues, services)) {
      if (isOnly) scope.register(routes, { prefix: '/sagas' })
      scope.register(async (own) => {
        if (isOnly)
          own.addHook('onRoute', (route) => void (route.schema = { ...route.schema, hide: true }))
        await own.register(routes, { prefix: `/sagas/${saga.name}` })
      })
    }
  })
}

/** Has what is refused in a scope's routes written to the service's audit, once it has a database. */
export function beOf(scope: FastifyInstance, service: Service): void {
  const isReady = () => service.databaseProblem === undefined
  auditRefusals(scope, service.requests.database, isReady, service.log)
  needDatabase(scope, service)
}

/** Answers 503 as long as the service cannot use its database. */
function needDatabase(scope: FastifyInstance, service: Service): void {
  scope.addHook('onRequest', (request, _reply, next) => {
    if (service.databaseProblem === undefined) return next()
    const found = `The ${service.name} service cannot use its database yet`
    // It names hosts and users, which strangers need not know.
    const why = request.may('health:read') ? `: ${service.databaseProblem}` : '; try again'
    next(new HttpProblem(503, found + why))
  })
}
