import type {
  FastifyInstance,
  FastifyRequest,
  FastifySchema,
  onRequestAsyncHookHandler,
  onRequestHookHandler,
  RouteOptions
} from 'fastify'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'
import { PUBLIC } from '../http/permission.ts'
import { HttpProblem } from '../http/problem.ts'
import type { Access } from './access.ts'
import { ANYBODY } from './actor.ts'
import { isCrossSite } from './cross-site.ts'
import { Hosts } from './hosts.ts'
import { Unauthorized } from './unauthorized.ts'

/** A route that does not say who may come in. */
export class UnguardedRoute extends SagaboxError {
  override readonly name = 'UnguardedRoute'
  override readonly code = 'UNGUARDED_ROUTE'
}

/** How browsers see the server. */
export interface Seen {
  readonly publicUrl?: string | undefined
  /** Origins of pages elsewhere that may ask. */
  readonly corsOrigins?: readonly string[] | undefined
}

/**
 * Puts a guard before every route that is registered after it: the host must be this server, a
 * browser's request must come from a page of its own, and whoever asks must be allowed what the
 * route's schema names as `permission`.
 * @throws UnguardedRoute when the server becomes ready and a route names no permission
 */
export function guard(
  app: FastifyInstance,
  access: Access,
  { publicUrl, corsOrigins = [] }: Seen = {}
): void {
  const hosts = new Hosts(publicUrl)
  const own = [...corsOrigins, ...(publicUrl === undefined ? [] : [new URL(publicUrl).origin])]
  const routes: RouteOptions[] = []
  app.decorateRequest('actor', null as never)
  app.decorateRequest('may', function (this: FastifyRequest, permission: string) {
    return access.allows(this.actor, permission)
  })
  app.addHook('onRoute', (route) => {
    routes.push(route)
    route.schema = documented(route.schema)
  })
  // Scopes that name a permission for all their routes have done so by then.
  app.addHook('onReady', async () => mustNamePermissions(routes))
  app.addHook('onRequest', (request, _reply, next) => next(notForUs(request, hosts, own)))
  // Without a promise: it would be the half of what the guard costs a request.
  const letAnybodyIn: onRequestHookHandler = (request, _reply, next) => {
    request.actor = ANYBODY
    next()
  }
  const admit: onRequestAsyncHookHandler = async (request, reply) => {
    request.actor = await access.actorOf(request)
    const { permission = PUBLIC } = request.routeOptions.schema ?? {}
    if (access.allows(request.actor, permission)) return
    if (request.actor.kind === 'anonymous') {
      void reply.header('www-authenticate', 'Bearer realm="sagabox"')
      throw new Unauthorized('Expected the header Authorization: Bearer, and a key')
    }
    const { name, roles } = request.actor
    throw new HttpProblem(
      403,
      `${name} is ${roles.join(', ')}, and ${permission} is for ${access.roles.thatAllow(permission).join(', ')}`
    )
  }
  app.addHook('onRequest', access.isOpen ? letAnybodyIn : admit)
}

/** Says in the documentation of a route who may come in. */
function documented(schema: FastifySchema | undefined): FastifySchema | undefined {
  const { permission, audited } = schema ?? {}
  if (permission === undefined) return schema
  const security = permission === PUBLIC ? [] : [{ key: [] }]
  return {
    ...schema,
    security,
    'x-permission': permission,
    ...(audited === false && { 'x-audited': false })
  } as FastifySchema
}

/** @throws UnguardedRoute */
function mustNamePermissions(routes: readonly RouteOptions[]): void {
  const unguarded = routes
    .filter(({ schema }) => schema?.permission === undefined)
    .map(({ method, url }) => `${String(method)} ${url}`)
  if (unguarded.length === 0) return
  throw new UnguardedRoute(
    `${unguarded.join(', ')}: expected a permission in the route's schema, such as { permission: 'saga:read' }, or 'public' for everybody`
  )
}

/** What is said of a request that is for another server, or made by another's page. */
function notForUs(
  { method, headers, raw }: FastifyRequest,
  hosts: Hosts,
  own: string[]
): HttpProblem | undefined {
  if (countOf(raw.rawHeaders, 'host') > 1)
    return new HttpProblem(400, 'Two Host headers; expected one')
  const { host } = headers
  if (host !== undefined && !hosts.isExpected(host))
    return new HttpProblem(
      421,
      `This server is not ${host.slice(0, 100)}; expected ${hosts.expected}`
    )
  if (isCrossSite(method, headers, own))
    return new HttpProblem(
      403,
      `A page of another site asked for this${headers.origin === undefined ? '' : ` (${headers.origin.slice(0, 100)})`}; expected one of this server's own`
    )
  return undefined
}

function countOf(rawHeaders: readonly string[], name: string): number {
  let found = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const header = rawHeaders[index]!
    if (header.length === name.length && header.toLowerCase() === name) found++
  }
  return found
}
