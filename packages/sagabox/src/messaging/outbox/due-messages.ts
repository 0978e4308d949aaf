import type { Client } from 'pg'
import { statement } from '../postgres/sql.ts'
import type { OutboxRow } from './outbox-row.ts'

/** Messages that become due are moved to the outbox so many at once, and so many bytes of them. */
const BATCH = 500
const BATCH_BYTES = 4 * 1024 * 1024
/** A message scheduled by another process is noticed at the latest after this, ms. */
const LOOK_MS = 1000
/** When somebody's transaction holds all that is due, it is looked for again after this, ms. */
const HELD_MS = 100

// Whoever comes second finds a row gone: a cancel, another message under its token, or the relay. A
// row that somebody holds is left for the next time, or an open transaction would hold all up.
const TAKE_DUE = statement(`
  with due as (
    select token, due_at, id, octet_length(payload) as bytes from outbox_scheduled
    where due_at <= now() order by due_at, id limit $1 for update skip locked
  ), chosen as (
    select token from (
      select token, sum(bytes) over (order by due_at, id) - bytes as before from due) as weighed
    where before < $2
  ), taken as (
    delete from outbox_scheduled where token in (select token from chosen) returning *
  )
  insert into outbox (message_id, destination, required, payload, headers, content_type,
    created_at)
  select message_id, destination, required, payload, headers, content_type, due_at from taken
  order by due_at, id
  returning id, message_id, destination, required, payload, headers, content_type,
    octet_length(payload) as bytes`)

const NEXT = statement(`
  select (extract(epoch from due_at - now()) * 1000)::float8 as ms from outbox_scheduled
  order by due_at limit 1`)

/** Takes messages into the outbox when their time has come; the relay's part of it. */
export class DueMessages {
  #lookAt = 0

  /** When it is to be looked at, by performance.now(). */
  get lookAt(): number {
    return this.#lookAt
  }

  /** Something was scheduled, or another process may have. */
  look(): void {
    this.#lookAt = 0
  }

  /** Moves what is due to the outbox. @returns it, to be sent */
  async take(client: Client): Promise<OutboxRow[]> {
    const { rows } = await client.query<{ ms: number }>({ ...NEXT, values: [] })
    const ms = rows[0]?.ms ?? Infinity
    if (ms > 0) {
      this.#lookAt = performance.now() + Math.min(Math.ceil(ms), LOOK_MS)
      return []
    }
    const taken = await client.query<OutboxRow>({ ...TAKE_DUE, values: [BATCH, BATCH_BYTES] })
    this.#lookAt = taken.rows.length > 0 ? 0 : performance.now() + HELD_MS
    return taken.rows
  }
}
