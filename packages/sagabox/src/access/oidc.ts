import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import { allowInsecureRequests, discovery, None, type Configuration } from 'openid-client'
import { CannotStart } from '../cannot-start.ts'
import { describeError } from '../messaging/errors/describe.ts'
import { HttpProblem } from '../http/problem.ts'
import type { Actor } from './actor.ts'
import { isLoopback } from './hosts.ts'
import { Unauthorized } from './unauthorized.ts'

/** A provider of OpenID Connect, and what is expected of its tokens. */
export interface OidcOptions {
  /** The provider, an https URL; http only on this machine. */
  readonly issuer: string
  /** For whom tokens must be meant. */
  readonly audience: string
  /** Of this application at the provider; who signs in to the console does so by it. */
  readonly clientId?: string
  readonly clientSecret?: string
  /** Where a token's roles are, as a path with dots; `roles` when not given. */
  readonly rolesClaim?: string
}

/** Signatures that only the provider can make; never `none`, never one with a shared secret. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']
/** Clocks may differ by so much, seconds. */
const CLOCK_SECONDS = 30
/** The provider has so long for an answer, s; it is asked again no sooner than after the pause, ms. */
const ANSWER_SECONDS = 5
const PAUSE_MS = 5000
const MAX_TOKEN_BYTES = 16 * 1024

/** People and programs that a provider of OpenID Connect vouches for. */
export class Oidc {
  readonly options: OidcOptions
  readonly #rolesPath: readonly string[]
  #found: Promise<Configuration> | undefined
  #failedAt = -Infinity
  #failure = ''
  #keys: JWTVerifyGetKey | undefined

  /** @throws CannotStart when the issuer is no https URL */
  constructor(options: OidcOptions) {
    this.options = options
    this.#rolesPath = (options.rolesClaim ?? 'roles').split('.')
    const { protocol, hostname } = new URL(options.issuer)
    if (protocol !== 'https:' && !isLoopback(hostname))
      throw new CannotStart(
        `AUTH_OIDC_ISSUER: expected an https:// URL, got ${options.issuer}; plain http is taken on this machine alone`
      )
  }

  /**
   * Who shows a token.
   * @throws Unauthorized saying what is wrong with it
   * @throws HttpProblem 503 while the provider's keys are not to be had
   */
  async actorOf(token: string): Promise<Actor> {
    if (token.length > MAX_TOKEN_BYTES)
      throw new Unauthorized(`This token is longer than ${MAX_TOKEN_BYTES} bytes`)
    const { issuer } = this.#server(await this.configuration())
    try {
      const { payload } = await jwtVerify(token, this.#keys!, {
        issuer,
        audience: this.options.audience,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_SECONDS,
        requiredClaims: ['exp', 'sub']
      })
      if (['nonce', 'at_hash', 'c_hash'].some((claim) => payload[claim] !== undefined))
        throw new Unauthorized(
          'This is an ID token, which says who signed in; expected an access token'
        )
      return this.actorIn(payload)
    } catch (error) {
      throw refusalOf(error)
    }
  }

  /** Who is meant by claims that were verified. */
  actorIn(claims: JWTPayload): Actor {
    const { sub = '', iss = this.options.issuer, preferred_username: login, email } = claims
    const name = [login, email, sub].find(
      (one): one is string => typeof one === 'string' && one !== ''
    )!
    return {
      name: name.slice(0, 200),
      kind: 'oidc',
      roles: rolesAt(claims, this.#rolesPath),
      issuer: iss,
      subject: sub
    }
  }

  /**
   * What the provider says of itself, asked once; and again after a failure.
   * @throws HttpProblem 503 when it does not answer
   */
  async configuration(): Promise<Configuration> {
    if (!this.#found && performance.now() - this.#failedAt < PAUSE_MS) throw this.#away()
    this.#found ??= this.#discover()
    try {
      return await this.#found
    } catch (error) {
      this.#found = undefined
      this.#failedAt = performance.now()
      this.#failure = describeError(error).text
      throw this.#away()
    }
  }

  async #discover(): Promise<Configuration> {
    const { issuer, clientId = this.options.audience, clientSecret } = this.options
    const url = new URL(issuer)
    const found = await discovery(
      url,
      clientId,
      clientSecret,
      clientSecret === undefined ? None() : undefined,
      {
        timeout: ANSWER_SECONDS,
        execute: url.protocol === 'http:' ? [allowInsecureRequests] : []
      }
    )
    const { jwks_uri: keys } = this.#server(found)
    if (keys === undefined) throw new Error('the provider names no keys (jwks_uri)')
    this.#keys = createRemoteJWKSet(new URL(keys), {
      timeoutDuration: ANSWER_SECONDS * 1000,
      cooldownDuration: PAUSE_MS
    })
    return found
  }

  #server(found: Configuration) {
    return found.serverMetadata()
  }

  #away(): HttpProblem {
    return new HttpProblem(
      503,
      `The provider of sign-ins cannot be asked${this.#failure === '' ? '' : '; the log says why'}`
    )
  }
}

function rolesAt(claims: JWTPayload, path: readonly string[]): string[] {
  const found = path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, key)
        ? (value as Record<string, unknown>)[key]
        : undefined,
    claims
  )
  const roles = typeof found === 'string' ? found.split(' ') : found
  return Array.isArray(roles)
    ? roles.filter((role): role is string => typeof role === 'string' && role !== '')
    : []
}

/** Which, and no more. */
function refusalOf(error: unknown): Error {
  if (error instanceof Unauthorized) return error
  if (error instanceof errors.JWTExpired) return new Unauthorized('This token has expired')
  if (error instanceof errors.JWTClaimValidationFailed)
    return new Unauthorized(`This token's ${error.claim} is not what is expected here`)
  if (error instanceof errors.JOSEAlgNotAllowed)
    return new Unauthorized('This token is signed by an algorithm that is not taken here')
  if (
    error instanceof errors.JWKSTimeout ||
    !(error instanceof errors.JOSEError) ||
    error.code === 'ERR_JOSE_GENERIC'
  )
    return new HttpProblem(503, 'The keys of the provider of sign-ins cannot be read; try again')
  return new Unauthorized('This token is not valid')
}
