import type { Client } from 'pg'
import { parameter } from './array-literal.ts'
import { backoff } from './batcher.ts'
import type { Log } from './log.ts'
import type { OutboxRow } from './outbox.ts'
import { OutboxSender } from './outbox-sender.ts'
import { Session, SessionClient } from './session.ts'
import { Signal } from './signal.ts'
import { statement } from './sql.ts'
import type { Transport } from './transport.ts'

/** Rows read at once. */
const BATCH = 500
/** Back-stop for a lost wake-up, and how soon a stand-by notices that the leader is gone; both in ms. */
const POLL_MS = 1000
/**
 * How long messages may come all the time before a look at the table, which idleness would bring, ms: for rows that became due, or whose
 * commit was answered too late. Every second it cost 7 % of the orders a second, deleted rows being in its way.
 */
const BUSY_POLL_MS = 5000
/** A look at the whole table is repeated after this many times its own duration: it gets slow while deleted rows cannot be removed. */
const REST = 20
/** A stand-by sends at most one NOTIFY in this time: one a transaction would serialise all commits. */
const NOTIFY_INTERVAL_MS = 5
/** How long stop() waits for confirms; what is not confirmed by then is sent again by the next leader. */
const STOP_GRACE_MS = 5000

const COLUMNS = 'id, message_id, destination, required, payload, body, headers, content_type'

// `id >= $2` passes over what was deleted and cannot be removed yet, because somebody holds a transaction open. It must not
// be all that is read: ids commit out of order, and a row that commits late would be skipped for ever. The rows in hand are left out by a hashed look-up: with 3,500 of them `id <> all(…)` took 40 to 90 ms, this 4 to 7.
const READ = statement(`
  (select ${COLUMNS} from outbox
    where due_at is null and id >= $2 and id not in (select unnest($1::bigint[])) order by id limit ${BATCH})
  union all
  (select ${COLUMNS} from outbox
    where due_at <= now() and id not in (select unnest($1::bigint[])) order by due_at limit ${BATCH})`)

export interface RelayOptions {
  url: string
  schema: string
  transport: Transport
  log: Log
}

/**
 * Carries committed messages from one service's outbox to the transport: read, publish, wait for the confirms, delete.
 * One relay a schema leads, by an advisory lock held by the very connection it reads and deletes on, so that a lost
 * connection ends both at once. The others stand by and pass wake-ups on.
 */
export class Relay {
  readonly #options: RelayOptions
  readonly #sender: OutboxSender
  readonly #wake = new Signal()
  /** A publish failed, and one row may have taken the channel from all: one at a time until all that is read has gone. */
  #careful = false
  /** Rows may be waiting: something was committed, or the last read was full. */
  #unread = true
  /** The id from which to read, and when to read all again: below it nothing is known to be left. */
  #lowest = '0'
  #readAllAt = 0
  /** The newest id that was there when this relay took the lead: up to it, an earlier process may have handed rows out. */
  #inherited = 0
  /** Id of the row published last. */
  #latest = '0'
  #stopping = false
  #stop!: () => void
  readonly #stopped = new Promise<undefined>((resolve) => (this.#stop = () => resolve(undefined)))
  #leading = false
  #problem: string | undefined = 'not connected yet'
  #running: Promise<void> | undefined

  constructor(options: RelayOptions) {
    this.#options = options
    this.#sender = new OutboxSender({
      ...options,
      settled: () => this.#wake.give(),
      failed: () => {
        this.#careful = true
        this.wake()
      }
    })
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Says that messages were committed. Cheap; any number of calls count as one. */
  wake(): void {
    this.#unread = true
    this.#wake.give()
  }

  /**
   * Takes rows that were just committed by this process, and saves reading them again. Whatever cannot go at once stays
   * in the table and is read like any other.
   */
  offer(rows: readonly OutboxRow[]): void {
    if (rows.length === 0 || !this.#leading || this.#stopping || this.#careful || this.#unread || !this.#canRead()) return this.wake()
    for (const row of rows) if (!this.#sender.has(row.id)) void this.#send(row)
  }

  get leading(): boolean {
    return this.#leading
  }

  /** Undefined when all is well, otherwise why this relay neither leads nor stands by. */
  problem(): string | undefined {
    return this.#problem
  }

  /** Finishes what is in flight and gives the lead away. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#stop()
    this.#wake.give()
    await this.#running
  }

  async #run(): Promise<void> {
    const { log, schema } = this.#options
    for (let failures = 0; !this.#stopping; ) {
      try {
        await this.#session(() => (failures = 0))
      } catch (error) {
        failures++
        this.#problem = (error as Error).message || String(error)
        log.warn({ err: error, schema }, 'Outbox relay lost its database connection; connecting again')
        if (!this.#stopping) await this.#wake.wait(backoff(failures, 200, 5000))
      } finally {
        this.#leading = false
      }
    }
  }

  async #session(connected: () => void): Promise<void> {
    const { url, schema } = this.#options
    const client = new SessionClient({
      session: new Session({ url, schema, applicationName: `sagabox relay ${schema}`, settings: { statement_timeout: '12s' } }),
      connectionTimeoutMillis: 3000,
      query_timeout: 10_000
    })
    // The next query fails and ends the session; without a listener the event would end the process.
    client.on('error', () => this.wake())
    client.on('notification', () => this.wake())
    try {
      await client.connect()
      connected()
      this.#problem = undefined
      await this.#standBy(client)
      await this.#lead(client)
      await this.#sender.drained(STOP_GRACE_MS)
      await this.#sender.forget(client)
    } finally {
      await client.end().catch((error: unknown) => this.#options.log.debug({ err: error }, 'Relay connection did not close cleanly'))
    }
  }

  async #standBy(client: Client): Promise<void> {
    for (let askAt = 0; !this.#stopping; ) {
      if (performance.now() >= askAt) {
        if (await this.#takeLead(client)) return
        askAt = performance.now() + POLL_MS
      } else if (this.#unread) {
        // Before telling: a wake-up that comes meanwhile must be passed on, too.
        this.#unread = false
        await client.query(`select pg_notify($1, '')`, [channelOf(this.#options.schema)])
        await new Promise((resolve) => setTimeout(resolve, NOTIFY_INTERVAL_MS))
      } else await this.#wake.wait(askAt - performance.now())
    }
  }

  async #takeLead(client: Client): Promise<boolean> {
    const { schema, log } = this.#options
    const { rows } = await client.query<{ locked: boolean }>(`select pg_try_advisory_lock(hashtext('sagabox.relay'), hashtext($1)) as locked`, [schema])
    if (!rows[0]!.locked) return false
    this.#leading = true
    this.#readAllAt = 0
    this.#unread = true
    log.info({ schema }, 'Outbox relay leads')
    return true
  }

  async #lead(client: Client): Promise<void> {
    if (this.#stopping) return
    const { rows } = await client.query<{ newest: string }>('select coalesce(max(id), 0) as newest from outbox')
    this.#inherited = Number(rows[0]!.newest)
    await client.query(`listen ${client.escapeIdentifier(channelOf(this.#options.schema))}`)
    while (!this.#stopping) {
      await this.#runOnce(client)
      if (this.#unread && this.#canRead()) continue
      await this.#wake.wait(Math.max(1, Math.min(POLL_MS, this.#sender.forgetAt - performance.now())))
      // While messages come all the time it is never idle, and a row may have become due.
      if (this.#sender.forgetAt === Infinity || performance.now() >= this.#readAllAt + BUSY_POLL_MS) this.#unread = true
    }
  }

  async #runOnce(client: Client): Promise<void> {
    if (performance.now() >= this.#sender.forgetAt) await this.#sender.forget(client)
    if (!this.#unread || !this.#canRead()) return
    this.#unread = false
    const began = performance.now()
    const all = began >= this.#readAllAt
    const { rows } = await client.query<OutboxRow>({ ...READ, values: [parameter(this.#sender.inHand), all ? '0' : this.#lowest] })
    if (all) this.#readAllAt = performance.now() + Math.max(POLL_MS, REST * (performance.now() - began))
    this.#lowest = lowestOf([...this.#sender.inHand, ...rows.map(({ id }) => id)]) ?? this.#latest
    if (rows.length >= BATCH) this.#unread = true
    // A row may have been offered after the statement began. Nothing is forgotten in between, so it is still in hand.
    if (this.#careful) await this.#sendOneByOne(rows)
    else for (const row of rows) if (!this.#sender.has(row.id)) void this.#send(row)
  }

  async #sendOneByOne(rows: readonly OutboxRow[]): Promise<void> {
    for (const row of rows) {
      if (this.#sender.has(row.id)) continue
      if (this.#stopping || !this.#options.transport.canPublish) return
      // A broker that blocks confirms nothing, and a stop must not wait for that.
      const error = await Promise.race([this.#send(row), this.#stopped])
      if (this.#stopping) return
      // Alone, and failed: this row is put off, whether it was the guilty one or the connection went.
      if (error) return this.#sender.postpone(row.id, error)
    }
    this.#careful = false
  }

  #send(row: OutboxRow): Promise<string | undefined> {
    this.#latest = row.id
    return this.#sender.send(row, Number(row.id) <= this.#inherited)
  }

  #canRead(): boolean {
    return this.#sender.hasRoomFor(BATCH)
  }
}

/** Ids are bigints in decimal, and far below what a number can hold. */
function lowestOf(ids: readonly string[]): string | undefined {
  return ids.length === 0 ? undefined : String(ids.reduce((lowest, id) => Math.min(lowest, Number(id)), Infinity))
}

function channelOf(schema: string): string {
  return `sagabox_outbox_${schema}`
}
