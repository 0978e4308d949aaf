import { v5 } from 'uuid'
import { UUID } from './id.ts'

/**
 * In which the ids of texts are derived. Fixed for ever: they are on the wire and in tables, and
 * other programs may derive them, too. It is the v5 UUID of `urn:sagabox:correlation` as a URL.
 */
export const KEY_NAMESPACE = 'f13aa56a-a1f2-5bfd-994c-b2b1e0d407f8'

/** Of a key, in UTF-8. */
export const MAX_KEY_BYTES = 255

/**
 * The UUID by which a business transaction goes on the wire and in tables. A UUID is its own, in
 * lower case; any other text has the v5 UUID of its UTF-8 bytes in KEY_NAMESPACE, case and all.
 * @param key 1 to 255 bytes
 */
export function idOfKey(key: string): string {
  if (key.length === 36 && UUID.test(key)) return CAPITALS.test(key) ? key.toLowerCase() : key
  return v5(key, KEY_NAMESPACE)
}

const CAPITALS = /[A-F]/

/** The key where it is more than its id says: a text that is no UUID. */
export function textKey(key: string): string | undefined {
  return UUID.test(key) ? undefined : key
}

/** Whether what names the business transaction of a contract's messages is always a UUID. */
export function namesUuids({ schema, correlateBy }: Correlated): boolean {
  let at: Described | undefined = schema
  for (const field of correlateBy?.split('.') ?? []) at = at?.properties?.[field]
  return at?.format === 'uuid'
}

interface Correlated {
  schema: Described
  correlateBy?: string
}

interface Described {
  format?: string
  properties?: Record<string, Described>
}

/** Why a text cannot name a business transaction; undefined: it can. */
export function keyProblem(key: string): string | undefined {
  if (key.length === 36 && UUID.test(key)) return undefined
  if (key === '') return 'expected a text that is not empty'
  // Of half a surrogate pair UTF-8 keeps nothing, and two such keys would be one.
  if (key.includes('\0') || !key.isWellFormed())
    return 'expected text without NUL characters and halves of surrogate pairs'
  const bytes = Buffer.byteLength(key)
  return bytes > MAX_KEY_BYTES ? `expected at most ${MAX_KEY_BYTES} bytes, got ${bytes}` : undefined
}
