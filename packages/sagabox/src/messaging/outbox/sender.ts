import type { Client } from 'pg'
import { parameter } from '../postgres/array-literal.ts'
import type { Log } from '../async/log.ts'
import type { OutboxRow } from './outbox-row.ts'
import { ShutDestinations, type Landing, type Why } from './shut-destinations.ts'
import { Signal } from '../async/signal.ts'
import { statement, storableText } from '../postgres/sql.ts'
import {
  PublishInterrupted,
  PublishRefused,
  type PublishOutcome,
  type Transport
} from '../transport/transport.ts'

/**
 * Rows handed to the transport and not yet settled. In memory a row settles when its handlers have
 * committed.
 */
const MAX_IN_FLIGHT = 4000
/**
 * And what they may weigh, as long as each alone is less: 600 rows of 600 kB ended a process with a
 * heap of 256 MB.
 */
const MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024
/**
 * What the transport has settled is told to the table this long after the first of it, ms, or when
 * it is this much: a delete is a transaction with a flush of its own, and done as soon as it could
 * be it was nearly half of all, 949 for 10,000 orders. Whoever crashes meanwhile sends it again.
 */
const FORGET_MS = 200
const FORGET = 250
/** Pause after a publish that was neither confirmed nor returned, ms. */
const HOLD_MS = 500

const DELETE = statement(`delete from outbox where id = any($1::bigint[])`)

// What its destination keeps waiting is found by the destination; the day is for a relay that does
// not know of that.
const POSTPONE = statement(`
  update outbox set attempts = attempts + tried::integer, last_error = coalesce(failed.error,
    last_error), put_off = failed.put_off,
    due_at = now() + case when failed.put_off = 'failed'
      then least(interval '5 minutes', interval '1 second' * power(2, least(attempts, 20))) else interval '1 day' end
  from unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[]) as failed (id, put_off, error,
    tried)
  where outbox.id = any($1::bigint[]) and outbox.id = failed.id`)

/** Of an error, as the table keeps it. */
const ERROR_CHARACTERS = 500

/** Why a row is put off that the transport did not accept, and what is said of it once. */
const NOT_ACCEPTED: Record<Exclude<PublishOutcome, 'accepted' | 'awaited'>, string> = {
  returned: 'returned: no queue is bound to the destination',
  refused:
    'refused: a queue behind the destination takes nothing now; is it full, and its consumer down?'
}
const WARNINGS: Record<string, string> = {
  returned: 'No queue takes this message: it stays in the outbox and is tried again',
  refused:
    'A queue refuses this message: it stays in the outbox, as all others to its destination, and is tried again'
}

export interface OutboxSenderOptions {
  schema: string
  transport: Transport
  log: Log
  /** The table has to be told something: soon, or now. */
  settled(): void
  /**
   * A publish was not answered; its row stays in the table. `blameless`: another one took the
   * channel with it.
   */
  failed(blameless: boolean): void
}

/** A row on its way into the table again. */
interface Postponed extends Why {
  id: string
  /** It was given to the transport. */
  tried: boolean
}

/**
 * The rows that this process has in hand: given to the transport, confirmed or returned by it, and
 * then taken out of the table.
 */
export class OutboxSender {
  readonly #options: OutboxSenderOptions
  /** Rows given to the transport or settled by it, until the table has been told. */
  readonly #inHand = new Set<string>()
  #inFlight = 0
  #bytesInFlight = 0
  #settled: string[] = []
  #postponed: Postponed[] = []
  #forgetAt = Infinity
  #holdUntil = 0
  readonly #drained = new Signal()
  readonly #shut: ShutDestinations
  /** Up to which arrival of an awaited endpoint rows were released. */
  #released = -1

  constructor(options: OutboxSenderOptions) {
    this.#options = options
    const { log, schema } = options
    this.#shut = new ShutDestinations({
      shut(destination, { putOff, error }) {
        // The transport has said which endpoint it waits for.
        if (putOff === 'awaited') return
        log.warn(
          { schema, destination, reason: error },
          WARNINGS[putOff] ?? 'Messages to this destination stay in the outbox and are tried again'
        )
      },
      opened: (destination) =>
        log.info({ schema, destination }, 'This destination takes messages again')
    })
  }

  /** Whether the transport would take so many rows more. */
  hasRoomFor(rows: number): boolean {
    return (
      this.#inFlight + rows <= MAX_IN_FLIGHT &&
      this.#bytesInFlight < MAX_BYTES_IN_FLIGHT &&
      this.#options.transport.canPublish &&
      performance.now() >= this.#holdUntil
    )
  }

  /** Of what was given to the transport and is not settled, bytes. */
  get bytesInFlight(): number {
    return this.#bytesInFlight
  }

  has(id: string): boolean {
    return this.#inHand.has(id)
  }

  /** Whether the transport has taken the row: the table has not been told yet. */
  hasSettled(id: string): boolean {
    return this.#settled.includes(id)
  }

  get inHand(): string[] {
    return [...this.#inHand]
  }

  /** When the table is to be told, by performance.now(); Infinity: there is nothing to tell. */
  get forgetAt(): number {
    return this.#unwritten >= FORGET ? 0 : this.#forgetAt
  }

  /** When a destination is to be tried that takes nothing, by performance.now(). */
  get tryAt(): number {
    return this.#shut.nextAt
  }

  /** A destination to try, and with how many of the rows that are put off. */
  get toTry(): { destination: string; rows: number } | undefined {
    return this.#shut.due(performance.now())
  }

  /** Rows to the destination are put off in the table: they are tried soon. */
  tryNow(destination: string, why: Why): void {
    this.#shut.tryNow(destination, why)
  }

  /**
   * Sends rows that were put off.
   * @param more whether others to the destination are put off, too
   */
  tryAgain(
    destination: string,
    rows: readonly OutboxRow[],
    again: (row: OutboxRow) => boolean,
    more: boolean
  ): void {
    this.#shut.began(destination, rows.length, more)
    const landed = (landing: Landing, why?: Why) => {
      this.#shut.landed(destination, landing, why)
      if (this.toTry) this.#options.settled()
    }
    for (const row of rows) void this.#publish(row, again(row), landed)
  }

  /**
   * Resolves when the transport has settled the row: with nothing, or with why it may not have been
   * sent. A row whose destination takes
   * nothing is put off at once.
   */
  send(row: OutboxRow, again: boolean): Promise<string | undefined> {
    const why = this.#shut.why(row.destination)
    if (!why) return this.#publish(row, again)
    this.postpone(row.id, why, false)
    return Promise.resolve(undefined)
  }

  /** @param landed told how it ended when the row is one of a try */
  #publish(
    row: OutboxRow,
    again: boolean,
    landed?: (landing: Landing, why?: Why) => void
  ): Promise<string | undefined> {
    const {
      id,
      message_id: messageId,
      destination,
      required,
      payload,
      body,
      headers,
      content_type: contentType
    } = row
    const bytes = weightOf(row)
    this.#inHand.add(id)
    this.#inFlight++
    this.#bytesInFlight += bytes
    return this.#options.transport
      .publish({
        messageId,
        destination,
        required,
        payload: body ?? payload,
        headers,
        contentType,
        again
      })
      .then(
        (outcome) => {
          this.#noLongerInFlight(bytes)
          if (outcome === 'accepted') {
            this.#settled.push(id)
            landed?.('accepted')
            this.#forgetSoon()
          } else
            this.#refused(
              row,
              {
                putOff: outcome,
                error:
                  outcome === 'awaited'
                    ? this.#options.transport.awaited!.reason(destination)
                    : NOT_ACCEPTED[outcome]
              },
              landed
            )
          return undefined
        },
        (error: unknown) => {
          this.#noLongerInFlight(bytes)
          if (error instanceof PublishRefused && error.concerns === 'destination') {
            this.#refused(row, { putOff: 'refused', error: error.message }, landed)
            return undefined
          }
          landed?.('unknown')
          if (error instanceof PublishRefused) {
            const { log, schema } = this.#options
            // Once: its last error tells that it was said.
            const say = row.last_error ? log.debug.bind(log) : log.warn.bind(log)
            say(
              { schema, destination, messageId, reason: error.message },
              'This message cannot be sent: it stays in the outbox and is tried again, ever less often'
            )
            this.postpone(id, { putOff: 'failed', error: error.message }, true)
            return undefined
          }
          // Unknown, not unsent: the row stays, is sent again under the same id, and the inbox
          // drops the copy.
          this.#inHand.delete(id)
          this.#holdUntil = performance.now() + HOLD_MS
          this.#options.log.debug(
            { err: error, schema: this.#options.schema, messageId },
            'Publish without confirm; it will be sent again'
          )
          this.#options.failed(error instanceof PublishInterrupted)
          return (error as Error).message
        }
      )
  }

  /** Puts a row off. */
  postpone(id: string, why: Why, tried: boolean): void {
    this.#inHand.add(id)
    this.#postponed.push({ id, ...why, tried })
    this.#forgetSoon()
  }

  /** Resolves when nothing is in flight, or after `ms`. */
  async drained(ms: number): Promise<void> {
    const deadline = performance.now() + ms
    while (this.#inFlight > 0 && performance.now() < deadline)
      await this.#drained.wait(deadline - performance.now())
  }

  /** Removes what was accepted and puts off what came back. */
  async forget(client: Client): Promise<void> {
    // Copies: confirms go on arriving while the statements run.
    const settled = [...this.#settled]
    if (settled.length > 0) {
      await client.query({ ...DELETE, values: [parameter(settled)] })
      this.#settled = this.#settled.slice(settled.length)
      for (const id of settled) this.#inHand.delete(id)
    }
    const postponed = [...this.#postponed]
    if (postponed.length > 0) {
      const column = (of: (row: Postponed) => unknown) => parameter(postponed.map(of))
      const error = (row: Postponed) =>
        row.error && storableText(row.error.slice(0, ERROR_CHARACTERS))
      await client.query({
        ...POSTPONE,
        values: [
          column(({ id }) => id),
          column(({ putOff }) => putOff),
          column(error),
          column(({ tried }) => tried)
        ]
      })
      this.#postponed = this.#postponed.slice(postponed.length)
      for (const { id } of postponed) this.#inHand.delete(id)
    }
    this.#forgetAt = this.#unwritten > 0 ? performance.now() + FORGET_MS : Infinity
  }

  /** What waited for endpoints that have been seen since the last call is tried now. */
  release(): void {
    const { awaited } = this.#options.transport
    if (!awaited || this.#released === awaited.arrivals) return
    this.#released = awaited.arrivals
    this.#shut.tryAll('awaited')
  }

  #noLongerInFlight(bytes: number): void {
    this.#bytesInFlight -= bytes
    if (--this.#inFlight === 0) this.#drained.give()
  }

  /** Answered, and not taken: so are all to its destination. */
  #refused(
    { id, destination }: OutboxRow,
    why: Why,
    landed?: (landing: Landing, why?: Why) => void
  ): void {
    if (landed) landed('refused', why)
    else this.#shut.refused(destination, why)
    this.postpone(id, why, true)
  }

  #forgetSoon(): void {
    if (this.#forgetAt === Infinity) this.#forgetAt = performance.now() + FORGET_MS
    else if (this.#unwritten < FORGET) return
    this.#options.settled()
  }

  get #unwritten(): number {
    return this.#settled.length + this.#postponed.length
  }
}

/** What a row holds in memory, about; bytes. */
export function weightOf({ payload, body, bytes }: OutboxRow): number {
  return bytes ?? payload.length + (body?.length ?? 0)
}
