import type { FastifyInstance } from 'fastify'

const PREFIX = Symbol('sagabox.publicPath')

/**
 * Tells where clients see the server's root: the path of its public URL, without a slash at its
 * end.
 */
export function setPublicPath(app: FastifyInstance, path: string): void {
  app.decorate(PREFIX, path)
}

/**
 * A path of this server as its clients have to ask for it, also behind a proxy that takes a prefix
 * away.
 */
export function linkTo(app: FastifyInstance, path: string): string {
  return `${(app as unknown as { [PREFIX]?: string })[PREFIX] ?? ''}${path}`
}
