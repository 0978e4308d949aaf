import { randomUUID } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { CannotStart } from '../cannot-start.ts'
import type { Log } from '../messaging/async/log.ts'
import { ANYBODY, type Actor } from './actor.ts'
import { isLoopback } from './hosts.ts'
import { InvalidKeyFile, isKey } from './key-file.ts'
import { Keys } from './keys.ts'
import { Oidc, type OidcOptions } from './oidc.ts'
import { BREAK_GLASS, Roles, UnknownRole, type RoleTable } from './roles.ts'
import { Sessions } from './session.ts'
import { Unauthorized } from './unauthorized.ts'

/** How it is told who may come in. */
export interface AccessOptions {
  /** File of keys: see sagabox keys create. */
  readonly keysFile?: string
  /** A provider of OpenID Connect, for people and programs. */
  readonly oidc?: OidcOptions
  /** Lets everybody do everything, wherever it listens: something in front decides who comes in. */
  readonly none?: boolean
  /**
   * With what sessions of browsers are sealed; made at each start when not given. All processes
   * behind one address need the same.
   */
  readonly sessionSecret?: string
  /** How clients see the server. */
  readonly publicUrl?: string
  /** Whether it serves HTTPS itself; a `publicUrl` of https says the same. */
  readonly isHttps?: boolean
  /** The application's own roles, and what each may do. */
  readonly roles?: RoleTable
}

/** Decides who asks, and what they may do. */
export class Access {
  /** @internal */
  readonly roles: Roles
  /** @internal */
  readonly oidc: Oidc | undefined
  readonly #keys: Keys | undefined
  /** @internal */
  readonly sessions: Sessions
  readonly #log: Log

  private constructor(roles: Roles, sessions: Sessions, log: Log, oidc?: Oidc, keys?: Keys) {
    this.roles = roles
    this.sessions = sessions
    this.#log = log
    this.oidc = oidc
    this.#keys = keys
  }

  /**
   * Reads the keys.
   * @param hosts addresses that it will listen on
   * @throws CannotStart when anybody could come in from elsewhere without being asked, and nobody
   * said so in as many words; or when the keys cannot be read
   */
  static async open(
    { keysFile, oidc, none = false, roles: own, sessionSecret, publicUrl, isHttps }: AccessOptions,
    hosts: readonly string[],
    log: Log
  ): Promise<Access> {
    const roles = new Roles(own)
    const isAsked = keysFile !== undefined || oidc !== undefined
    if (none && isAsked)
      throw new CannotStart(
        'AUTH is none, and AUTH_KEYS_FILE or AUTH_OIDC_ISSUER is set: expected one or the other'
      )
    const reachable = hosts.find((host) => !isLoopback(host))
    if (!isAsked && !none && reachable !== undefined)
      throw new CannotStart(
        `HOST is ${reachable}, which others can reach, and nobody is asked who they are.\n` +
          'Give AUTH_KEYS_FILE a file of keys (sagabox keys create), or AUTH_OIDC_ISSUER a provider.\n' +
          'If something in front decides who comes in, say so: AUTH=none. For this machine alone: HOST=127.0.0.1'
      )
    const { protocol, pathname } = new URL(publicUrl ?? 'http://localhost/')
    const sessions = new Sessions(
      sessionSecret ?? randomUUID(),
      isHttps === true || protocol === 'https:',
      `${pathname.replace(/\/$/, '')}/`
    )
    return new Access(
      roles,
      sessions,
      log,
      oidc && new Oidc(oidc),
      keysFile === undefined ? undefined : await openKeys(keysFile, roles, log)
    )
  }

  /** Whether nobody is asked who they are. */
  get isOpen(): boolean {
    return this.#keys === undefined && this.oidc === undefined
  }

  /** Whether people can sign in by a key. @internal */
  get takesKeys(): boolean {
    return this.#keys !== undefined
  }

  /**
   * Who asks, by the header Authorization or a browser's session.
   * @internal
   * @throws Unauthorized when what they show is not valid
   */
  async actorOf({ headers, method, url }: FastifyRequest): Promise<Actor> {
    if (this.isOpen) return ANYBODY
    const { authorization, cookie } = headers
    const actor =
      authorization === undefined
        ? ((await this.#signedIn(cookie)) ?? ANYBODY)
        : await this.#actorBy(authorization)
    if (actor.roles.includes(BREAK_GLASS))
      this.#log.warn({ actor: actor.name, method, url }, 'A break-glass key is in use')
    return actor
  }

  /** @throws Unauthorized */
  async #actorBy(authorization: string): Promise<Actor> {
    const [, token] = /^bearer +(\S+)$/i.exec(authorization) ?? []
    if (token === undefined)
      throw new Unauthorized('Expected the header Authorization: Bearer, and a key')
    if (this.oidc && !isKey(token)) return this.known(await this.oidc.actorOf(token))
    return this.actorByKey(token)
  }

  /**
   * Somebody with those of a provider's roles that are known here; breaking the glass is for keys.
   * @internal
   */
  known(actor: Actor): Actor {
    const names = this.roles.names.filter((name) => name !== BREAK_GLASS)
    return { ...actor, roles: actor.roles.filter((role) => names.includes(role)) }
  }

  /**
   * @throws Unauthorized
   * @internal
   */
  actorByKey(key: string): Actor {
    const found = this.#keys?.find(key) ?? { problem: 'unknown' }
    if ('actor' in found) return found.actor
    throw new Unauthorized(
      found.problem === 'expired' ? 'This key has expired' : 'This key is not known'
    )
  }

  async #signedIn(cookie: string | undefined): Promise<Actor | undefined> {
    const session = await this.sessions.of(cookie)
    if (!session) return undefined
    if (session.keyDigest === undefined)
      return session.actor.issuer === this.oidc?.options.issuer ? session.actor : undefined
    const found = this.#keys?.findDigest(Buffer.from(session.keyDigest, 'hex'))
    return found && 'actor' in found ? found.actor : undefined
  }

  /**
   * Whether somebody may do it.
   * @internal
   */
  allows({ roles }: Actor, permission: string): boolean {
    return this.isOpen || this.roles.allow(roles, permission)
  }

  /** Reads the keys again; by itself that happens within a second of a change. */
  async readKeys(): Promise<void> {
    await this.#keys?.read()
  }

  /** Looks at the keys no more. */
  close(): void {
    this.#keys?.close()
  }
}

async function openKeys(path: string, roles: Roles, log: Log): Promise<Keys> {
  try {
    return await Keys.open(path, roles, log)
  } catch (error) {
    if (error instanceof InvalidKeyFile || error instanceof UnknownRole)
      throw new CannotStart(`AUTH_KEYS_FILE: ${error.message}`)
    throw error
  }
}
