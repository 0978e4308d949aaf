import type { DataSource } from 'typeorm'
import { destinationOf, encodeEnvelope } from './envelope.ts'
import type { Message } from './message.ts'
import { joinJson, jsonTexts, statement, transaction, write, type Tx } from './sql.ts'

const INSERT = statement(`
  insert into outbox (message_id, destination, required, payload)
  select * from unnest($1::uuid[], $2::text[], $3::boolean[], ${jsonTexts(4)})
  returning id, message_id`)

/** A stored message as the relay carries it. */
export interface OutboxRow {
  id: string
  message_id: string
  destination: string
  required: boolean
  payload: string
}

export interface OutboxOptions {
  dataSource: DataSource
  /** Bus address, e.g. `rabbitmq://localhost/`; it appears in envelopes only. */
  address: string
  /** Name of the sending service. */
  source: string
  /** Called after a commit that stored messages, with what was stored. */
  committed(rows: readonly OutboxRow[]): void
}

/** The way to send: messages are committed with the business rows, and the relay carries them from there. */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #stored = new WeakMap<Tx, Stored[]>()

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  /**
   * Stores messages in the open transaction, one of `transaction` below. They leave after, and only after, it commits;
   * what cannot be stored fails the commit.
   */
  add(tx: Tx, messages: readonly Message[]): void {
    if (messages.length === 0) return
    const { address, source } = this.#options
    const rows = messages.map((message) => ({
      message_id: message.messageId,
      destination: destinationOf(message.contract),
      required: !message.contract.optional,
      payload: encodeEnvelope(message, address, source)
    }))
    const inserted = write<{ id: string; message_id: string }>(tx, INSERT, [
      rows.map((row) => row.message_id),
      rows.map((row) => row.destination),
      rows.map((row) => row.required),
      joinJson(rows.map((row) => row.payload))
    ])
    this.#stored.set(tx, [...(this.#stored.get(tx) ?? []), { rows, inserted }])
  }

  /** Runs work in a transaction; once it has committed, the relay is given the messages stored in it. */
  async transaction<R>(work: (tx: Tx) => Promise<R>): Promise<R> {
    let stored: Stored[] = []
    const result = await transaction(this.#options.dataSource, async (tx) => {
      const value = await work(tx)
      stored = this.#stored.get(tx) ?? []
      return value
    })
    for (const { rows, inserted } of stored) {
      const ids = new Map((await inserted).map(({ id, message_id: messageId }) => [messageId, id]))
      this.#options.committed(rows.map((row) => ({ id: ids.get(row.message_id)!, ...row })))
    }
    return result
  }
}

/** Rows on their way into the table, which gives them their ids. */
interface Stored {
  rows: Omit<OutboxRow, 'id'>[]
  inserted: Promise<{ id: string; message_id: string }[]>
}

export interface OutboxStatus {
  pending: number
  /** Of these, waiting for a later attempt. */
  postponed: number
  oldestAgeSeconds: number
  lastError: string | null
}

/** What has been committed and not yet sent. */
export async function outboxStatus(dataSource: DataSource): Promise<OutboxStatus> {
  const [row]: [OutboxStatus] = await dataSource.query(`
    select count(*)::integer as pending, count(due_at)::integer as postponed,
      coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldestAgeSeconds",
      (array_agg(last_error order by id desc) filter (where last_error is not null))[1] as "lastError"
    from outbox`)
  return row
}
