import type { Headers } from '../transport/transport.ts'

/** A message as it is stored, before the table has given it an id. */
export interface NewRow {
  message_id: string
  destination: string
  required: boolean
  payload: string
  headers?: Headers | null
  /** Null or absent: an envelope of MassTransit. */
  content_type?: string | null
}

/** A stored message as the relay carries it. */
export interface OutboxRow extends NewRow {
  id: string
  /** The payload where it is not text. */
  body?: Buffer | null
  /** Why it is put off; null: it is not. */
  put_off?: string | null
  last_error?: string | null
  /** Of payload, body and headers, when it was read from the table. */
  bytes?: number
}
