import type { FastifyInstance } from 'fastify'

declare module 'fastify' {
  interface FastifySchema {
    /** What whoever asks must be allowed to do, such as `saga:read`; `public` lets everybody in. */
    permission?: string
  }
  interface FastifyRequest {
    /** Whether whoever asks may do something. */
    may(permission: string): boolean
  }
}

/** A route with this permission is open to everybody. */
export const PUBLIC = 'public'

/** Names a permission for all routes of a scope that name none, such as those of a plugin. */
export function needPermission(scope: FastifyInstance, permission: string): void {
  scope.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, permission: route.schema?.permission ?? permission }
  })
}
