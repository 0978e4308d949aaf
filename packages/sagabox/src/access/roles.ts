import { PUBLIC } from '../http/permission.ts'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'

/** What each role may do. */
export type RoleTable = Readonly<Record<string, readonly string[]>>

const VIEWER = ['health:read', 'docs:read', 'saga:read', 'letter:read', 'outbox:read']
const OPERATOR = [
  ...VIEWER,
  'payload:read',
  'saga:retry',
  'saga:cancel',
  'saga:answer',
  'saga:stop',
  'saga:note',
  'saga:export',
  'letter:retry',
  'letter:undo',
  'letter:restore',
  'endpoint:pause'
]
const ADMIN = [
  ...OPERATOR,
  'saga:migrate',
  'letter:edit',
  'letter:delete',
  'outbox:discard',
  'audit:read',
  'key:manage'
]

/** The library's own roles; a service's routes add permissions of theirs to roles of theirs. */
export const OWN_ROLES: RoleTable = {
  monitor: ['health:read', 'metrics:read'],
  viewer: VIEWER,
  operator: OPERATOR,
  admin: ADMIN
}

/** Whoever uses a key of this role is let in as an admin, and every request is written down. */
export const BREAK_GLASS = 'break-glass'

/** A role that nobody defined. */
export class UnknownRole extends SagaboxError {
  override readonly name = 'UnknownRole'
  override readonly code = 'UNKNOWN_ROLE'
}

/** Who may do what. An admin may do everything that any role may. */
export class Roles {
  readonly #allowed: ReadonlyMap<string, ReadonlySet<string>>

  /** @param own the application's roles; of a library's role, what it may do besides */
  constructor(own: RoleTable = {}) {
    const everything = new Set([...Object.values(OWN_ROLES), ...Object.values(own)].flat())
    const names = new Set([...Object.keys(OWN_ROLES), ...Object.keys(own)])
    this.#allowed = new Map([
      ...[...names].map(
        (name) => [name, new Set([...(OWN_ROLES[name] ?? []), ...(own[name] ?? [])])] as const
      ),
      ['admin', everything],
      [BREAK_GLASS, everything]
    ])
  }

  get names(): string[] {
    return [...this.#allowed.keys()]
  }

  /** @throws UnknownRole naming those that there are */
  mustKnow(role: string): void {
    if (!this.#allowed.has(role))
      throw new UnknownRole(
        `There is no role ${JSON.stringify(role)}; expected one of ${this.names.join(', ')}`
      )
  }

  /** Whether one of the roles may do it. A role that nobody knows may do nothing. */
  allow(roles: readonly string[], permission: string): boolean {
    return (
      permission === PUBLIC ||
      roles.some((role) => this.#allowed.get(role)?.has(permission) === true)
    )
  }

  /** The roles that may do it, for the answer to those that may not. */
  thatAllow(permission: string): string[] {
    return this.names.filter(
      (name) => name !== BREAK_GLASS && this.#allowed.get(name)!.has(permission)
    )
  }
}
