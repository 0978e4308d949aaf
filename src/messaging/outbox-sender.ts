import type { Client } from 'pg'
import { parameter } from './array-literal.ts'
import { AWAITING } from './awaited-endpoints.ts'
import type { Log } from './log.ts'
import type { OutboxRow } from './outbox.ts'
import { Signal } from './signal.ts'
import { statement } from './sql.ts'
import type { PublishOutcome, Transport } from './transport.ts'

/** Rows handed to the transport and not yet settled. In memory a row settles when its handlers have committed. */
const MAX_IN_FLIGHT = 4000
/**
 * What the transport has settled is told to the table this long after the first of it, ms, or when it is this much: a delete is a
 * transaction with a flush of its own, and done as soon as it could be it was nearly half of all, 949 for 10,000 orders. Whoever crashes meanwhile sends it again.
 */
const FORGET_MS = 200
const FORGET = 250
/** Pause after a publish that was neither confirmed nor returned, ms. */
const HOLD_MS = 500

const DELETE = statement(`delete from outbox where id = any($1::bigint[])`)

const POSTPONE = statement(`
  update outbox set attempts = attempts + 1, last_error = failed.error,
    due_at = now() + least(interval '5 minutes', interval '1 second' * power(2, least(attempts, 20)))
  from unnest($1::bigint[], $2::text[]) as failed (id, error)
  where outbox.id = any($1::bigint[]) and outbox.id = failed.id`)

const RELEASE = statement(`
  update outbox set due_at = now()
  where due_at > now() and last_error like '${AWAITING}%' and last_error <> all($1::text[])`)

export interface OutboxSenderOptions {
  schema: string
  transport: Transport
  log: Log
  /** The table has to be told something: soon, or now. */
  settled(): void
  /** A publish was neither confirmed nor returned; its row stays in the table. */
  failed(): void
}

/** The rows that this process has in hand: given to the transport, confirmed or returned by it, and then taken out of the table. */
export class OutboxSender {
  readonly #options: OutboxSenderOptions
  /** Rows given to the transport or settled by it, until the table has been told. */
  readonly #inHand = new Set<string>()
  #inFlight = 0
  #settled: string[] = []
  #postponed: { id: string; error: string }[] = []
  #forgetAt = Infinity
  #holdUntil = 0
  readonly #drained = new Signal()
  readonly #warned = new Set<string>()
  /** Up to which arrival of an awaited endpoint rows were released, and by which connection. */
  #released = -1
  #releasedOn: Client | undefined

  constructor(options: OutboxSenderOptions) {
    this.#options = options
  }

  /** Whether the transport would take so many rows more. */
  hasRoomFor(rows: number): boolean {
    return this.#inFlight + rows <= MAX_IN_FLIGHT && this.#options.transport.canPublish && performance.now() >= this.#holdUntil
  }

  has(id: string): boolean {
    return this.#inHand.has(id)
  }

  get inHand(): string[] {
    return [...this.#inHand]
  }

  /** When the table is to be told, by performance.now(); Infinity: there is nothing to tell. */
  get forgetAt(): number {
    return this.#untold >= FORGET ? 0 : this.#forgetAt
  }

  /** Resolves when the transport has settled the row: with nothing, or with why it may not have been sent. */
  send({ id, message_id: messageId, destination, required, payload, body, headers, content_type: contentType }: OutboxRow, again: boolean): Promise<string | undefined> {
    this.#inHand.add(id)
    this.#inFlight++
    return this.#options.transport.publish({ messageId, destination, required, payload: body ?? payload, headers, contentType, again }).then(
      (outcome) => {
        this.#landed()
        this.#settle(id, messageId, destination, outcome)
        return undefined
      },
      (error: unknown) => {
        // Unknown, not unsent: the row stays, is sent again under the same id, and the inbox drops the copy.
        this.#landed()
        this.#inHand.delete(id)
        this.#holdUntil = performance.now() + HOLD_MS
        this.#options.log.debug({ err: error, schema: this.#options.schema, messageId }, 'Publish without confirm; it will be sent again')
        this.#options.failed()
        return (error as Error).message
      }
    )
  }

  /** Puts a row off that could not be sent. */
  postpone(id: string, error: string): void {
    this.#inHand.add(id)
    this.#postponed.push({ id, error })
    this.#forgetSoon()
  }

  /** Resolves when nothing is in flight, or after `ms`. */
  async drained(ms: number): Promise<void> {
    const deadline = performance.now() + ms
    while (this.#inFlight > 0 && performance.now() < deadline) await this.#drained.wait(deadline - performance.now())
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
      await client.query({ ...POSTPONE, values: [postponed.map(({ id }) => id), postponed.map(({ error }) => error)] })
      this.#postponed = this.#postponed.slice(postponed.length)
      for (const { id } of postponed) this.#inHand.delete(id)
    }
    this.#forgetAt = this.#untold > 0 ? performance.now() + FORGET_MS : Infinity
  }

  /**
   * Rows that waited for endpoints which have been seen meanwhile go now: once on each connection,
   * and whenever one was seen.
   */
  async release(client: Client): Promise<void> {
    const { awaited } = this.#options.transport
    if (!awaited || (this.#released === awaited.arrivals && this.#releasedOn === client)) return
    const { arrivals } = awaited
    // What is about to be put off would miss it.
    if (this.#postponed.length > 0) await this.forget(client)
    await client.query({ ...RELEASE, values: [awaited.reasons()] })
    this.#released = arrivals
    this.#releasedOn = client
  }

  #landed(): void {
    if (--this.#inFlight === 0) this.#drained.give()
  }

  #settle(id: string, messageId: string, destination: string, outcome: PublishOutcome): void {
    if (outcome === 'accepted') {
      this.#settled.push(id)
      if (this.#warned.size > 0) this.#warned.delete(destination)
      this.#forgetSoon()
      return
    }
    const { log, schema, transport } = this.#options
    if (outcome === 'awaited') return this.postpone(id, transport.awaited!.reason(destination))
    if (!this.#warned.has(destination)) log.warn({ schema, destination, messageId }, 'No queue takes this message: it stays in the outbox and is tried again')
    this.#warned.add(destination)
    this.postpone(id, 'returned: no queue is bound to the destination')
  }

  #forgetSoon(): void {
    if (this.#forgetAt === Infinity) this.#forgetAt = performance.now() + FORGET_MS
    else if (this.#untold < FORGET) return
    this.#options.settled()
  }

  get #untold(): number {
    return this.#settled.length + this.#postponed.length
  }
}
