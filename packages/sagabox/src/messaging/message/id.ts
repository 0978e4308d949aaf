import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'

/**
 * Random bytes for 256 ids: asked for one id at a time they cost 4 % of the CPU time of an order.
 */
const pool = new Uint8Array(256 * 16)
let used = pool.length
let msecs = 0
let sequence = 0

/** A new UUIDv7; the ids of one process grow. */
export function newId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const random = pool.subarray(used, (used += 16))
  const now = Date.now()
  if (now > msecs) {
    msecs = now
    // 31 of its 32 bits: room to count upwards within a millisecond.
    sequence = new DataView(random.buffer, random.byteOffset).getUint32(6) >>> 1
  } else sequence++
  return v7({ random, msecs, seq: sequence })
}

/** Any case, any version: .NET's ids are not UUIDv7. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const DASHED = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
/** .NET's formats of a Guid: D, B, P and N. */
const GUID = new RegExp(`^(?:(${DASHED})|\\{(${DASHED})\\}|\\((${DASHED})\\)|([0-9a-f]{32}))$`, 'i')

/**
 * A Guid as .NET may write it (dashes, braces, parentheses, or 32 digits; any case and version), as
 * a UUID in lower case.
 */
export function guidOf(text: string): string | undefined {
  const [, dashed, braced, parenthesised, digits] = GUID.exec(text) ?? []
  const found =
    dashed ??
    braced ??
    parenthesised ??
    digits?.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  return found?.toLowerCase()
}
