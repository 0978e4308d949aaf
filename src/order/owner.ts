import type { FastifyRequest } from 'fastify'

/**
 * To whom the orders belong that a request may see and change.
 * @returns undefined: it may see all
 */
export function ownerAsked(request: FastifyRequest): string | undefined {
  return request.may('order:all') ? undefined : (ownerOf(request) ?? '')
}

/** To whom an order belongs that a request places; undefined where nobody is asked who they are. */
export function ownerOf({ actor: { issuer, subject } }: FastifyRequest): string | undefined {
  return issuer === undefined || subject === undefined ? undefined : `${issuer} ${subject}`
}
