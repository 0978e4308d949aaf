import { parse, serialize } from 'cookie'
import { EncryptJWT, jwtDecrypt } from 'jose'
import { createHash, randomUUID } from 'node:crypto'
import type { Actor } from './actor.ts'

/** What a browser keeps of somebody who signed in. */
export interface Session {
  readonly id: string
  readonly actor: Actor
  /** Digest of the key that was shown, so that a key that is revoked ends its sessions. */
  readonly keyDigest?: string
}

/** How long somebody stays signed in by a key, s: while the key is valid. */
const KEY_SECONDS = 8 * 3600
/** By a provider, who is not asked again meanwhile whether the roles are still theirs. */
const PROVIDER_SECONDS = 3600
/** How long a sign-in may take. */
const SIGN_IN_SECONDS = 600

/** Cookies that only this server can read and write. Nothing of them is stored here. */
export class Sessions {
  readonly #secret: Uint8Array
  readonly #isSecure: boolean
  readonly #path: string
  /** Of sessions that were ended before their time: until when they would have lasted, s. */
  readonly #ended = new Map<string, number>()

  /**
   * @param secret any text; all processes behind one address need the same
   * @param isSecure whether browsers come by https
   * @param path where the console is, as browsers see it
   */
  constructor(secret: string, isSecure: boolean, path: string) {
    this.#secret = createHash('sha256').update(`sagabox session ${secret}`).digest()
    this.#isSecure = isSecure
    // __Host- cookies are for the whole host.
    this.#path = isSecure ? '/' : path
  }

  /** Cookie that signs somebody in. */
  async begin(actor: Actor, keyDigest?: string): Promise<string> {
    const content = { actor, ...(keyDigest !== undefined && { keyDigest }) }
    const seconds = keyDigest === undefined ? PROVIDER_SECONDS : KEY_SECONDS
    return this.#cookie('session', await this.#seal('session', content, seconds), seconds)
  }

  /** Who is signed in by the cookies of a request, if anybody is. */
  async of(header: string | undefined): Promise<Session | undefined> {
    const opened = await this.#open(header, 'session')
    if (!opened || this.#ended.has(opened.jti!)) return undefined
    return {
      id: opened.jti!,
      actor: opened['actor'] as Actor,
      keyDigest: opened['keyDigest'] as string
    }
  }

  /** Of a request's cookies, the session alone, as a header: for a server with the same secret. */
  alone(header: string | undefined): string | undefined {
    const name = this.#name('session')
    const value = header === undefined ? undefined : parse(header)[name]
    return value === undefined || value === '' ? undefined : serialize(name, value)
  }

  /** Ends a session, here and in the browser. */
  async end(header: string | undefined): Promise<string> {
    const opened = await this.#open(header, 'session')
    const now = Date.now() / 1000
    for (const [id, until] of this.#ended) if (until < now) this.#ended.delete(id)
    if (opened) this.#ended.set(opened.jti!, opened.exp!)
    return this.#cookie('session', '', 0)
  }

  /** Cookie that remembers what a sign-in elsewhere has to come back with. */
  async beginSignIn(checks: Record<string, string>): Promise<string> {
    const sealed = await this.#seal('sign-in', { checks }, SIGN_IN_SECONDS)
    return this.#cookie('sign-in', sealed, SIGN_IN_SECONDS)
  }

  async signInOf(header: string | undefined): Promise<Record<string, string> | undefined> {
    return (await this.#open(header, 'sign-in'))?.['checks'] as Record<string, string> | undefined
  }

  endSignIn(): string {
    return this.#cookie('sign-in', '', 0)
  }

  #name(what: string): string {
    return `${this.#isSecure ? '__Host-' : ''}sagabox-${what}`
  }

  #cookie(what: string, value: string, maxAge: number): string {
    return serialize(this.#name(what), value, {
      httpOnly: true,
      secure: this.#isSecure,
      sameSite: 'lax',
      path: this.#path,
      maxAge
    })
  }

  #seal(what: string, content: Record<string, unknown>, seconds: number): Promise<string> {
    return new EncryptJWT(content)
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .setAudience(what)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime(`${seconds}s`)
      .encrypt(this.#secret)
  }

  /** A cookie of somebody else's, of another secret or too old is none. */
  async #open(header: string | undefined, what: string) {
    const value = header === undefined ? undefined : parse(header)[this.#name(what)]
    if (value === undefined || value === '') return undefined
    return jwtDecrypt(value, this.#secret, {
      audience: what,
      keyManagementAlgorithms: ['dir'],
      contentEncryptionAlgorithms: ['A256GCM'],
      requiredClaims: ['exp', 'jti']
    }).then(
      ({ payload }) => payload,
      () => undefined
    )
  }
}
