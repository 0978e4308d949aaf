import type { Client } from 'pg'
import { parameter } from '../postgres/array-literal.ts'
import { backoff, pause } from '../async/batcher.ts'
import { DueMessages } from './due-messages.ts'
import type { Log } from '../async/log.ts'
import { channelOf } from './channel.ts'
import type { OutboxRow } from './outbox-row.ts'
import { OutboxSender, weightOf } from './sender.ts'
import { Session, SessionClient } from '../postgres/session.ts'
import { Signal } from '../async/signal.ts'
import { statement } from '../postgres/sql.ts'
import type { Transport } from '../transport/transport.ts'

/** Rows read at once. */
const BATCH = 500
/**
 * Back-stop for a lost wake-up, and how soon a stand-by notices that the leader is gone; both in
 * ms.
 */
const POLL_MS = 1000
/**
 * How long messages may come all the time before a look at the table, which idleness would bring,
 * ms: for rows that became due, or whose commit was answered too late. Every second it cost 7 % of
 * the orders a second, deleted rows being in its way.
 */
const BUSY_POLL_MS = 5000
/**
 * A look at the whole table is repeated after this many times its own duration: it gets slow while
 * deleted rows cannot be removed.
 */
const REST = 20
/**
 * A stand-by sends at most one NOTIFY in this time: one a transaction would serialise all commits.
 */
const NOTIFY_INTERVAL_MS = 5
/**
 * How long stop() waits for confirms; what is not confirmed by then is sent again by the next
 * leader.
 */
const STOP_GRACE_MS = 5000

/** Bytes read at once, unless the first row alone is more. */
const BATCH_BYTES = 4 * 1024 * 1024
/**
 * After a read that failed the next asks for so much less, down to a single row; each that succeeds
 * asks for more again.
 */
const LESS = 8
const MORE = 2

const WEIGHT =
  'octet_length(payload) + coalesce(octet_length(body), 0) + coalesce(pg_column_size(headers), 0)'
const COLUMNS = 'id, message_id, destination, required, payload, body, headers, content_type'
const PUT_OFF = 'put_off, last_error'

// `id >= $2` skips deleted rows that an open transaction keeps in the table. The relay must read
// from 0 now and then: ids commit out of order, and a row that commits late would be skipped for
// ever. A hashed look-up leaves out the rows in hand: with 3,500 of them it takes 4 to 7 ms, and
// `id <> all(…)` took 40 to 90. It reads at most $3 rows and $4 bytes of each half.
const READ = statement(`
  (select ${COLUMNS}, ${PUT_OFF}, bytes from (
    select *, sum(bytes) over (order by id) - bytes as before from (
      select ${COLUMNS}, ${PUT_OFF}, ${WEIGHT} as bytes from outbox
      where due_at is null and id >= $2 and id not in (select unnest($1::bigint[])) order by id
        limit $3) as fresh) as weighed
    where before < $4)
  union all
  (select ${COLUMNS}, ${PUT_OFF}, bytes from (
    select *, sum(bytes) over (order by due_at, id) - bytes as before from (
      select ${COLUMNS}, ${PUT_OFF}, due_at, ${WEIGHT} as bytes from outbox
      where due_at <= now() and id not in (select unnest($1::bigint[])) order by due_at
        limit $3) as due) as weighed
    where before < $4)`)

// Rows that are put off may be discarded by anybody: what is to be sent is no longer put off first,
// and whoever comes second finds it gone.
const RELEASE = statement(`
  update outbox set put_off = null, due_at = null from (
    select id as released, bytes, before from (
      select *, sum(bytes) over (order by id) - bytes as before from (
        select id, ${WEIGHT} as bytes from outbox
        where put_off is not null and put_off <> 'failed' and destination = $1 order by id
          limit $2) as first) as weighed
    where before < $3) as chosen
  where id = released and put_off is not null returning ${COLUMNS}, bytes`)

const RELEASE_FAILED = statement(
  `
    update outbox set put_off = null, due_at = null where id = any($1::bigint[])
      and put_off = 'failed'`
)

// From each destination to the next, however many rows there are in between.
const SHUT = statement(`
  with recursive shut as (
    (select destination, put_off, last_error from outbox
      where put_off is not null and put_off <> 'failed' order by destination, id limit 1)
    union all
    select next.* from shut, lateral (select destination, put_off, last_error from outbox
      where put_off is not null and put_off <> 'failed' and destination > shut.destination
        order by destination, id limit 1) as next)
  select * from shut`)

/**
 * Takes the lead if it is free, unless nothing could be written to the table afterwards: a server
 * that became a replica.
 */
const TAKE_LEAD = `
  select case when current_setting('transaction_read_only') = 'off' then pg_try_advisory_lock(hashtext('sagabox.relay'), hashtext($1)) end as locked`

export interface RelayOptions {
  url: string
  schema: string
  transport: Transport
  log: Log
}

/**
 * Carries committed messages from one service's outbox to the transport: it reads, publishes, waits
 * for the confirms, deletes. One relay a schema leads, by an advisory lock on the very connection
 * that it reads and deletes on, so that it loses both at once; the others pass wake-ups on to it.
 */
export class Relay {
  readonly #options: RelayOptions
  readonly #sender: OutboxSender
  readonly #wake = new Signal()
  readonly #due = new DueMessages()
  /**
   * A publish failed, and one row may have taken the channel from all: one at a time until all that
   * is read has gone.
   */
  #oneByOne = false
  /** Rows may be waiting: something was committed, or the last read was full. */
  #unread = true
  /**
   * The id from which to read, and when to read all again: below it nothing is known to be left.
   */
  #lowest = '0'
  /** Ids from which on others have committed rows, perhaps below it. */
  #told: string[] = []
  #readAllAt = 0
  /**
   * The newest id that was there when this relay took the lead: up to it, an earlier process may
   * have handed rows out.
   */
  #newestBeforeLead = 0
  /** Id of the row published last. */
  #latest = '0'
  /** Of what a read may ask for, from 1 down to a single row: the last one failed. */
  #share = 1
  #stopping = false
  readonly #stop = new AbortController()
  readonly #stopped = new Promise<undefined>((resolve) =>
    this.#stop.signal.addEventListener('abort', () => resolve(undefined))
  )
  #leading = false
  #problem: string | undefined = 'not connected yet'
  #running: Promise<void> | undefined

  constructor(options: RelayOptions) {
    this.#options = options
    this.#sender = new OutboxSender({
      ...options,
      settled: () => this.#wake.give(),
      failed: (blameless) => {
        if (!blameless) this.#oneByOne = true
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

  /** Says that messages were committed that are sent later. */
  scheduled(): void {
    this.#due.look()
    this.#wake.give()
  }

  /**
   * Takes rows that were just committed by this process, and saves reading them again. Whatever
   * cannot go at once stays in the table and is read like any other.
   */
  offer(rows: readonly OutboxRow[]): void {
    if (
      rows.length === 0 ||
      !this.#leading ||
      this.#stopping ||
      this.#oneByOne ||
      this.#unread ||
      !this.#canRead()
    )
      return this.wake()
    for (const row of rows) {
      if (!this.#sender.hasRoomFor(1)) return this.wake()
      if (!this.#sender.has(row.id)) void this.#send(row)
    }
  }

  /**
   * What this process knows of a row that the table still has: `flying`, given to the transport;
   * `gone`, taken by it; undefined: nothing.
   */
  knows(rowId: string): 'flying' | 'gone' | undefined {
    if (!this.#sender.has(rowId)) return undefined
    return this.#sender.hasSettled(rowId) ? 'gone' : 'flying'
  }

  /** Of messages given to the transport and not settled, bytes. */
  get bytesInFlight(): number {
    return this.#sender.bytesInFlight
  }

  get leading(): boolean {
    return this.#leading
  }

  /** Undefined when all is well, otherwise why this relay neither leads nor stands by. */
  problem(): string | undefined {
    return this.#problem
  }

  /**
   * Finishes what is in flight and gives the lead away. Before that it sends what waits, if it can
   * go now: after a service's last process nobody is there who would.
   */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#stop.abort()
    this.#wake.give()
    await this.#running
  }

  async #run(): Promise<void> {
    const { log, schema } = this.#options
    for (let failures = 0; !this.#stopping;) {
      try {
        await this.#session(() => {
          // One line for an outage, and one when it is over, however often it was tried.
          if (failures > 0) log.info({ schema, failures }, 'Outbox relay has its database again')
          failures = 0
          this.#problem = undefined
        })
      } catch (error) {
        const reason = (error as Error).message || String(error)
        failures++
        this.#problem = reason
        if (failures === 1)
          log.warn(
            { schema, reason },
            'Outbox relay lost its database connection; connecting again'
          )
        else log.debug({ schema, reason, failures }, 'Outbox relay has no database yet')
        // Not cut short by what is committed meanwhile.
        await pause(backoff(failures, 200, 5000), this.#stop.signal)
      } finally {
        this.#leading = false
      }
    }
  }

  /**
   * @param works told when the lead does its work, or another leads: what only connects may fail
   * again at once
   */
  async #session(works: () => void): Promise<void> {
    const { url, schema } = this.#options
    const client = new SessionClient({
      session: new Session({
        url,
        schema,
        applicationName: `sagabox relay ${schema}`,
        settings: { statement_timeout: '12s' }
      }),
      connectionTimeoutMillis: 3000,
      query_timeout: 10_000
    })
    // The next query fails and ends the session; without a listener the event would end the
    // process.
    client.on('error', () => this.wake())
    client.on('notification', ({ payload }) => {
      if (payload) this.#told.push(payload)
      this.wake()
    })
    try {
      await client.connect()
      await this.#standBy(client, works)
      await this.#lead(client, works)
      await this.#sender.drained(STOP_GRACE_MS)
      await this.#sender.forget(client)
    } finally {
      await client
        .end()
        .catch((error: unknown) =>
          this.#options.log.debug({ err: error }, 'Relay connection did not close cleanly')
        )
    }
  }

  async #standBy(client: Client, works: () => void): Promise<void> {
    for (let askAt = 0; !this.#stopping;) {
      if (performance.now() >= askAt) {
        if (await this.#takeLead(client)) return
        works()
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
    const { rows } = await client.query<{ locked: boolean | null }>(TAKE_LEAD, [schema])
    const { locked } = rows[0]!
    if (locked === null)
      throw new Error(
        'the database is read-only (transaction_read_only is on): expected one that can be written to'
      )
    if (!locked) return false
    this.#leading = true
    this.#readAllAt = 0
    this.#unread = true
    log.info({ schema }, 'Outbox relay leads')
    return true
  }

  async #lead(client: Client, works: () => void): Promise<void> {
    if (this.#stopping) return
    const { rows } = await client.query<{ newest: string }>(
      'select coalesce(max(id), 0) as newest from outbox'
    )
    this.#newestBeforeLead = Number(rows[0]!.newest)
    await client.query(`listen ${client.escapeIdentifier(channelOf(this.#options.schema))}`)
    // A lead that can be taken and not be used is given back: by reading alone it would look as if
    // all were well.
    if (this.#sender.forgetAt !== Infinity) await this.#sender.forget(client)
    await this.#findShut(client)
    for (let worked = false; !this.#stopping; worked = true) {
      await this.#runOnce(client)
      if (!worked) works()
      if (this.#unread && this.#canRead()) continue
      const next = Math.min(
        this.#sender.forgetAt,
        this.#sender.hasRoomFor(1) ? this.#sender.tryAt : Infinity,
        this.#canTakeDue() ? this.#due.lookAt : Infinity
      )
      await this.#wake.wait(Math.max(1, Math.min(POLL_MS, next - performance.now())))
      // While messages come all the time it is never idle, and a row may have become due.
      if (this.#sender.forgetAt === Infinity || performance.now() >= this.#readAllAt + BUSY_POLL_MS)
        this.#unread = true
    }
    if (this.#options.transport.keeps) await this.#sendRest(client)
  }

  async #sendRest(client: Client): Promise<void> {
    const end = performance.now() + STOP_GRACE_MS
    this.#unread = true
    this.#readAllAt = 0
    while (this.#unread && this.#options.transport.canPublish && performance.now() < end) {
      if (this.#oneByOne) return
      await this.#runOnce(client)
      if (!this.#canRead()) await this.#wake.wait(end - performance.now())
    }
  }

  /** What an earlier leader put off waits for its destination. */
  async #findShut(client: Client): Promise<void> {
    const { rows } = await client.query<{
      destination: string
      put_off: string
      last_error: string
    }>(SHUT)
    for (const { destination, put_off: putOff, last_error: error } of rows)
      this.#sender.tryNow(destination, { putOff, error })
  }

  async #runOnce(client: Client): Promise<void> {
    if (performance.now() >= this.#sender.forgetAt) await this.#sender.forget(client)
    this.#sender.release()
    await this.#tryShut(client)
    await this.#takeDue(client)
    if (!this.#unread || !this.#canRead()) return
    this.#unread = false
    const began = performance.now()
    const all = began >= this.#readAllAt
    const most = Math.max(1, Math.floor(BATCH * this.#share))
    const mostBytes = Math.ceil(BATCH_BYTES * this.#share)
    const rows = await this.#read(client, most, mostBytes, all)
    if (all)
      this.#readAllAt = performance.now() + Math.max(POLL_MS, REST * (performance.now() - began))
    this.#lowest = lowestOf([...this.#sender.inHand, ...rows.map(({ id }) => id)]) ?? this.#latest
    if (rows.length >= most || weightOfAll(rows) >= mostBytes) this.#unread = true
    const [sendable, putOff] = [
      rows.filter((row) => !row.put_off),
      rows.filter((row) => row.put_off)
    ]
    if (putOff.length > 0) await this.#takeUp(client, putOff)
    // A row may have been offered after the statement began. Nothing is forgotten in between, so it
    // is still in hand.
    if (this.#oneByOne) await this.#sendOneByOne(sendable)
    else for (const row of sendable) if (!this.#sender.has(row.id)) void this.#send(row)
  }

  async #read(client: Client, most: number, mostBytes: number, all: boolean): Promise<OutboxRow[]> {
    try {
      const lowest = lowestOf([this.#lowest, ...this.#told.splice(0)])!
      const values = [parameter(this.#sender.inHand), all ? '0' : lowest, most, mostBytes]
      const { rows } = await client.query<OutboxRow>({ ...READ, values })
      this.#share = Math.min(1, this.#share * MORE)
      return rows
    } catch (error) {
      this.#share = Math.max(1 / BATCH, this.#share / LESS)
      throw error
    }
  }

  /**
   * Rows that are put off and whose time has come all the same: after a long while, or by
   * somebody's hand.
   */
  async #takeUp(client: Client, rows: readonly OutboxRow[]): Promise<void> {
    const failed = rows.filter((row) => row.put_off === 'failed')
    if (failed.length > 0) {
      await client.query({ ...RELEASE_FAILED, values: [failed.map(({ id }) => id)] })
      this.#unread = true
      this.#readAllAt = 0
    }
    for (const { id, destination, put_off: putOff } of rows) {
      if (putOff === 'failed' || this.#sender.has(id)) continue
      this.#sender.tryNow(destination, { putOff: putOff!, error: null })
      this.#sender.postpone(id, { putOff: putOff!, error: null }, false)
    }
  }

  /** Tries a destination that took nothing, when its pause is over. */
  async #tryShut(client: Client): Promise<void> {
    const next = this.#sender.toTry
    if (!next || this.#oneByOne || !this.#canRead()) return
    // What is to be put off must be in the table, or it would be left behind.
    if (this.#sender.forgetAt !== Infinity) await this.#sender.forget(client)
    const { destination, rows: most } = next
    const { rows } = await client.query<OutboxRow>({
      ...RELEASE,
      values: [destination, most, BATCH_BYTES]
    })
    const inOrder = rows
      .filter(({ id }) => !this.#sender.has(id))
      .toSorted((a, b) => Number(a.id) - Number(b.id))
    const more = rows.length >= most || weightOfAll(rows) >= BATCH_BYTES
    this.#sender.tryAgain(destination, inOrder, (row) => this.#mayHaveBeenSent(row), more)
  }

  /** What is not sent now can still be cancelled: nothing is taken while nothing can go. */
  #canTakeDue(): boolean {
    return !this.#oneByOne && this.#canRead()
  }

  /** Sends what was to be sent later, when its time has come. */
  async #takeDue(client: Client): Promise<void> {
    if (performance.now() < this.#due.lookAt || !this.#canTakeDue()) return
    for (const row of await this.#due.take(client)) void this.#send(row)
  }

  async #sendOneByOne(rows: readonly OutboxRow[]): Promise<void> {
    for (const row of rows) {
      if (this.#sender.has(row.id)) continue
      if (this.#stopping || !this.#options.transport.canPublish) return
      // A broker that blocks confirms nothing, and a stop must not wait for that.
      const error = await Promise.race([this.#send(row), this.#stopped])
      if (this.#stopping) return
      // Alone, and failed: this row is put off, whether it was the guilty one or the connection
      // went.
      if (error) return this.#sender.postpone(row.id, { putOff: 'failed', error }, true)
    }
    this.#oneByOne = false
  }

  #send(row: OutboxRow): Promise<string | undefined> {
    this.#latest = row.id
    return this.#sender.send(row, this.#mayHaveBeenSent(row))
  }

  #mayHaveBeenSent({ id }: OutboxRow): boolean {
    return Number(id) <= this.#newestBeforeLead
  }

  #canRead(): boolean {
    return this.#sender.hasRoomFor(BATCH)
  }
}

/** Ids are bigints in decimal, and far below what a number can hold. */
function lowestOf(ids: readonly string[]): string | undefined {
  return ids.length === 0
    ? undefined
    : String(ids.reduce((lowest, id) => Math.min(lowest, Number(id)), Infinity))
}

function weightOfAll(rows: readonly OutboxRow[]): number {
  return rows.reduce((sum, row) => sum + weightOf(row), 0)
}
