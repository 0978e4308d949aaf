import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Log } from '../messaging/async/log.ts'
import { writeDown, type Audit, type Deed } from '../messaging/postgres/audit.ts'
import type { Database } from '../messaging/postgres/database.ts'
import { transaction } from '../messaging/postgres/sql.ts'
import { UUID } from '../messaging/message/id.ts'
import { FewRefusals } from './few-refusals.ts'
import { detailOf } from './problem.ts'

declare module 'fastify' {
  interface FastifySchema {
    /** false: what it changes has an owner, or is nothing, and its refusals are not written down. */
    audited?: false
    /** What it changes, for the audit: `product :productId`. The path when not given. */
    target?: string
  }
}

/** What the audit says of a request besides who made it. */
export interface Audited {
  /** Why, in the words of whoever asks. */
  readonly reason?: string | undefined
  /** Of the answer when it is done; 200 when not given. */
  readonly status?: number
}

/**
 * What a route hands down to be called once in the transaction of what it changes: it writes who
 * changed what, and why.
 * @example await transaction(database, async (tx) => {
 *   await tx.query('update …')
 *   audit(tx)
 * })
 */
export function auditOf(request: FastifyRequest, { reason, status = 200 }: Audited = {}): Audit {
  return (tx, target = targetOf(request)) =>
    writeDown(tx, {
      ...deedOf(request),
      target,
      reason: reason ?? null,
      outcome: 'done',
      status
    })
}

/** How a saga's history calls whoever asks; undefined where nobody was asked who they are. */
export function nameOf(request: FastifyRequest): string | undefined {
  const { kind, name } = actorOf(request)
  return kind === 'anonymous' ? undefined : name
}

/**
 * Writes down, for all routes of a scope that change something, what is refused (4xx), by itself
 * and after the answer; when many come at once, how many.
 * @param isReady whether the table is there
 */
export function auditRefusals(
  scope: FastifyInstance,
  database: Database,
  isReady: () => boolean,
  log: Log
): void {
  const write = async (deed: Deed) => {
    if (!isReady()) return
    await transaction(database, async (tx) => writeDown(tx, deed)).catch((error: unknown) =>
      log.warn({ err: error }, 'What was refused could not be written to the audit')
    )
  }
  const few = new FewRefusals(write)
  scope.addHook('onResponse', (request, { statusCode: status }, next) => {
    next()
    if (status < 400 || status >= 500 || !changes(request)) return
    few.refused({
      ...deedOf(request),
      target: targetOf(request),
      reason: detailOf(request) ?? null,
      outcome: 'refused',
      status
    })
  })
  scope.addHook('onClose', () => few.stop())
}

function changes({ method, routeOptions: { schema } }: FastifyRequest): boolean {
  return !['GET', 'HEAD', 'OPTIONS'].includes(method) && schema?.audited !== false
}

function deedOf(
  request: FastifyRequest
): Pick<Deed, 'actor' | 'kind' | 'roles' | 'action' | 'requestId'> {
  const { name, kind, roles } = actorOf(request)
  const { permission = '' } = request.routeOptions.schema ?? {}
  return { actor: name, kind, roles, action: permission, requestId: request.id }
}

/** Whoever asks; a stranger when it was turned away before anybody asked who it is. */
function actorOf(
  request: FastifyRequest
): Pick<FastifyRequest['actor'], 'name' | 'kind' | 'roles'> {
  const { actor } = request as { actor?: FastifyRequest['actor'] }
  return actor ?? { name: 'anonymous', kind: 'anonymous', roles: [] }
}

function targetOf({ url, params, routeOptions: { schema } }: FastifyRequest): string {
  const { target = url.split('?', 1)[0]! } = schema ?? {}
  return target.replace(/:(\w+)/g, (_, name: string) => {
    const value = (params as Record<string, string> | undefined)?.[name] ?? ''
    return UUID.test(value) ? value.toLowerCase() : value
  })
}
