import { timingSafeEqual } from 'node:crypto'
import { unwatchFile, watchFile, type StatsListener } from 'node:fs'
import { describeError } from '../messaging/errors/describe.ts'
import type { Log } from '../messaging/async/log.ts'
import { digestOf, isKey, readKeyFile, type StoredKey } from './key-file.ts'
import type { Actor } from './actor.ts'
import type { Roles } from './roles.ts'

/** How often it is looked whether the file has changed, ms. */
const LOOK_MS = 1000

/** What a key is found to be. */
export type FoundKey = { actor: Actor } | { problem: 'unknown' | 'expired' }

/**
 * The keys of a file, read again when it changes. One that cannot be read whole changes nothing:
 * the keys before it stay valid until it can, and the log says so.
 */
export class Keys {
  readonly #path: string
  readonly #roles: Roles
  readonly #log: Log
  #keys: readonly StoredKey[]
  #problem: string | undefined
  #reading = Promise.resolve()
  readonly #changed: StatsListener = () => void this.read()

  private constructor(path: string, roles: Roles, log: Log, keys: readonly StoredKey[]) {
    this.#path = path
    this.#roles = roles
    this.#log = log
    this.#keys = keys
    watchFile(path, { interval: LOOK_MS, persistent: false }, this.#changed)
  }

  /** @throws InvalidKeyFile naming file and line */
  static async open(path: string, roles: Roles, log: Log): Promise<Keys> {
    return new Keys(path, roles, log, await readKeyFile(path, roles))
  }

  /** Reads the file again; one reading at a time. */
  read(): Promise<void> {
    this.#reading = this.#reading.then(async () => {
      try {
        this.#keys = await readKeyFile(this.#path, this.#roles)
        this.#problem = undefined
        this.#log.info({ keys: this.#keys.length }, 'Keys read again')
      } catch (error) {
        const problem = describeError(error).text
        if (problem !== this.#problem)
          this.#log.error({ reason: problem }, 'The keys cannot be read; those before stay valid')
        this.#problem = problem
      }
    })
    return this.#reading
  }

  find(presented: string): FoundKey {
    return isKey(presented) ? this.findDigest(digestOf(presented)) : { problem: 'unknown' }
  }

  /** Every key is compared, in the same time whether it fits or not. */
  findDigest(digest: Buffer): FoundKey {
    let found: StoredKey | undefined
    for (const key of this.#keys) if (isSame(key.sha256, digest)) found = key
    if (!found) return { problem: 'unknown' }
    const { name, role, expires } = found
    if (expires !== undefined && expires.getTime() <= Date.now()) return { problem: 'expired' }
    return { actor: { name, kind: 'key', roles: [role], issuer: 'key', subject: name } }
  }

  close(): void {
    unwatchFile(this.#path, this.#changed)
  }
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
