/** Who asks. */
export interface Actor {
  /** As people read it in histories and the audit: the name of a key, or what a provider calls it. */
  readonly name: string
  readonly kind: 'anonymous' | 'key' | 'oidc'
  readonly roles: readonly string[]
  /** With `subject`: to whom belongs what it makes. Absent where nobody was asked who they are. */
  readonly issuer?: string
  readonly subject?: string
}

/** Anybody, where nobody is asked who they are. */
export const ANYBODY: Actor = { name: 'anonymous', kind: 'anonymous', roles: [] }

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before any handler runs. */
    actor: Actor
  }
}
