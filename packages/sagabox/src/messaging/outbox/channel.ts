import { createHash } from 'node:crypto'

/** An identifier of PostgreSQL, bytes; a channel's name may not be longer. */
const MAX_IDENTIFIER_BYTES = 63

/**
 * Where a leader listens for rows of others. A longer name would be refused, or cut off in silence.
 */
export function channelOf(schema: string): string {
  const name = `sagabox_outbox_${schema}`
  if (Buffer.byteLength(name) <= MAX_IDENTIFIER_BYTES) return name
  return `sagabox_outbox_${createHash('sha256').update(schema).digest('hex').slice(0, 32)}`
}
