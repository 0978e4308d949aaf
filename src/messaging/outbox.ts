import type { DataSource } from 'typeorm'
import { destinationOf, encodeEnvelope } from './envelope.ts'
import type { Message } from './message.ts'
import { run, statement, type Tx } from './sql.ts'

const INSERT = statement(`
  insert into outbox (message_id, destination, required, payload)
  select * from unnest($1::uuid[], $2::text[], $3::boolean[], $4::text[])`)

export interface OutboxOptions {
  dataSource: DataSource
  /** Bus address, e.g. `rabbitmq://localhost/`; it appears in envelopes only. */
  address: string
  /** Name of the sending service. */
  source: string
  /** Called after a commit that stored messages: wakes the relay. */
  committed(): void
}

/** The way to send: messages are committed with the business rows, and the relay carries them from there. */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #filled = new WeakSet<Tx>()

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  /** Stores messages in the open transaction. They leave after, and only after, it commits. */
  async add(tx: Tx, messages: readonly Message[]): Promise<void> {
    if (messages.length === 0) return
    const { address, source } = this.#options
    await run(tx, INSERT, [
      messages.map((message) => message.messageId),
      messages.map((message) => destinationOf(message.contract)),
      messages.map((message) => !message.contract.optional),
      messages.map((message) => encodeEnvelope(message, address, source))
    ])
    this.#filled.add(tx)
  }

  /** Runs work in a transaction; once it has committed with messages in it, the relay wakes. */
  async transaction<R>(work: (tx: Tx) => Promise<R>): Promise<R> {
    let filled = false
    const result = await this.#options.dataSource.transaction(async (tx) => {
      const value = await work(tx)
      filled = this.#filled.has(tx)
      return value
    })
    if (filled) this.#options.committed()
    return result
  }
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
