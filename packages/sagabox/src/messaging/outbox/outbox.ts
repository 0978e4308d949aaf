import { randomBytes } from 'node:crypto'
import { DatabaseAway } from '../errors/database-away.ts'
import { describeError } from '../errors/describe.ts'
import { destinationOf, EnvelopeWriter } from '../message/envelope.ts'
import { isFault } from '../message/fault.ts'
import { besideTrace } from '../message/trace.ts'
import { rawMessage } from './raw-message.ts'
import { SILENT } from '../async/log.ts'
import type { Contract, Message } from '../message/message.ts'
import { NotRetryable } from '../errors/not-retryable.ts'
import type { Database } from '../postgres/database.ts'
import { Outage } from '../postgres/outage.ts'
import {
  isTx,
  joinJson,
  jsonTexts,
  mayHaveUndone,
  statement,
  storableJson,
  storableText,
  transaction,
  transactionOf,
  write,
  type TransactionOptions,
  type Tx
} from '../postgres/sql.ts'
import { queueDestination, type Headers } from '../transport/transport.ts'
import { AskedInTransaction } from '../message/asked.ts'
import { tokenOf, type Later } from '../message/later.ts'
import { scheduleIn, storeIn, type Connection } from './own-connection.ts'
import type { NewRow, OutboxRow } from './outbox-row.ts'
import { cancelScheduled, schedule, type ScheduledRow } from './schedule.ts'

// It returns all new row ids in one row, as the inbox does, smallest first: the nth belongs to the
// nth message. Message ids cannot tell, since one may go to two receivers.
const INSERT = statement(`
  with stored as (
    insert into outbox (message_id, destination, required, payload)
    select * from unnest($1::uuid[], $2::text[], $3::boolean[], ${jsonTexts(4)})
    returning id
  )
  select string_agg(id::text, ',' order by id) as ids from stored`)

const INSERT_RAW = statement(`
  with stored as (
    insert into outbox (message_id, destination, required, payload, headers, content_type)
    select * from unnest($1::uuid[], $2::text[], $3::boolean[], ${jsonTexts(4)},
      ${jsonTexts(5)}::jsonb[], $6::text[])
    returning id
  )
  select string_agg(id::text, ',' order by id) as ids from stored`)

const INSERT_SENT_BACK = statement(`
  insert into outbox (message_id, destination, required, payload, body, headers, content_type,
    due_at)
  select message_id, destination, true, coalesce(payload, ''), body, headers, content_type,
    now() + seconds * interval '1 second'
  from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], ${jsonTexts(5)}::jsonb[], $6::text[],
    $7::float8[])
    as back (message_id, destination, payload, body, headers, content_type, seconds)`)

/** A received message on its way back to the endpoint that took it. */
export interface SentBack {
  /** A UUID. */
  messageId: string
  endpoint: string
  /** Text travels as text; bytes that may not be text as they are. */
  payload: string | Buffer
  contentType: string | undefined
  headers: Headers
  /** From now; it waits in the outbox until then. */
  seconds: number
}

// A replica refuses the first, a full disk the second of them; nothing of it stays but pages that
// are used again.
const TAKE_ROOM = statement('insert into room_check (filler) select unnest($1::text[])')
const GIVE_BACK = statement('delete from room_check')

export interface OutboxOptions {
  database: Database
  /** Is told how transactions end; one that nobody hears of when not given. */
  outage?: Outage
  /** Bus address, e.g. `rabbitmq://localhost/`; it appears in envelopes only. */
  address: string
  /** Name of the sending service. */
  source: string
  /** Whether the transport has such a destination; absent: any is taken. */
  knows?(destination: string): boolean
  /**
   * Called after a commit that stored messages, with those that have to leave at once; what the
   * table alone knows is not among them.
   */
  committed(rows: readonly OutboxRow[]): void
  /** Called after a commit that stored messages to be sent later. */
  scheduled?(): void
}

/** A message that could reach nobody: no retry will change that in this process. */
export class NowhereToSend extends NotRetryable {
  override readonly name = 'NowhereToSend'
  override readonly code = 'NOWHERE_TO_SEND'
}

/**
 * The way to send: messages are committed with the business rows, and the relay carries them from
 * there.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #writer: EnvelopeWriter
  /** By transactionOf, as what was sent back and what is sent later. */
  readonly #stored = new WeakMap<object, Stored[]>()
  readonly #sentBack = new WeakSet<object>()
  readonly #scheduled = new WeakSet<object>()
  /**
   * How the database is doing, as transactions tell.
   * @internal
   */
  readonly outage: Outage
  /** Those that were found good. */
  readonly #destinations = new Map<Contract, string>()

  /** @internal */
  constructor(options: OutboxOptions) {
    this.#options = options
    this.outage = options.outage ?? new Outage(options.source, SILENT)
    this.#writer = new EnvelopeWriter(options.address, options.source)
  }

  /**
   * Stores messages in the open transaction, one of `transaction` below. They leave after, and only
   * after, it commits; what a savepoint undoes is not sent, and what cannot be stored fails the
   * commit. A message that says `after` waits until its time has come, and takes the place of
   * another that waits under the same token.
   * @throws Error for two messages under one id to one destination, of which the second would be
   * taken for a copy
   * @throws NowhereToSend for a contract whose destination is not in the topology;
   * AskedInTransaction for a request
   */
  add(tx: Tx, messages: readonly Message[]): void
  /**
   * Stores messages in a transaction that was begun elsewhere: by a pool of your own, or an ORM.
   * They leave after, and only after, it commits.
   * @param connection pg's Client, or anything with such a `query` in that transaction, in the
   * database of this service
   * @throws NotInTransaction when none is open on it; also what the other `add` throws
   */
  add(connection: Connection, messages: readonly Message[]): Promise<void>
  add(on: Tx | Connection, messages: readonly Message[]): void | Promise<void> {
    if (isTx(on)) return this.#addTo(on, messages)
    return this.#addBy(on, messages)
  }

  #addTo(tx: Tx, messages: readonly Message[]): void {
    if (messages.length === 0) return
    if (messages.every(isPlain)) return this.#addEnveloped(tx, messages)
    const { later, foreign, traced, enveloped } = sorted(messages)
    if (later.length > 0) this.#addLater(tx, later)
    if (foreign.length > 0) this.#addRaw(tx, this.#foreignRows(foreign))
    if (traced.length > 0) this.#addRaw(tx, this.#tracedRows(traced))
    if (enveloped.length > 0) this.#addEnveloped(tx, enveloped)
  }

  #addEnveloped(tx: Tx, messages: readonly Message[]): void {
    const { rows, joined } = this.#written(messages)
    const inserted = write<{ ids: string }>(tx, INSERT, [
      rows.map((row) => row.message_id),
      rows.map((row) => row.destination),
      rows.map((row) => row.required),
      joined
    ])
    this.#keep(tx, { rows, inserted })
  }

  async #addBy(connection: Connection, messages: readonly Message[]): Promise<void> {
    const { later, foreign, traced, enveloped } = sorted(messages)
    const { schema } = this.#options.database
    const rows = [
      ...this.#written(enveloped).rows,
      ...this.#tracedRows(traced),
      ...this.#foreignRows(foreign)
    ]
    const scheduled = this.#scheduledRows(later)
    if (rows.length > 0) await storeIn(connection, schema, rows)
    if (scheduled.length > 0) await scheduleIn(connection, schema, scheduled)
  }

  #written(messages: readonly Message[]): { rows: NewRow[]; joined: string } {
    const destinations = messages.map(({ contract, answers }) =>
      answers ? queueDestination(answers.to.queue) : this.#destinationOf(contract)
    )
    const sentTime = new Date().toISOString()
    const envelopes = messages.map((message) => this.#writer.write(message, sentTime))
    const joined = joinJson(envelopes)
    let end = -1
    const rows = messages.map((message, index) => {
      const start = end + 1
      end = start + envelopes[index]!.length
      // A part of the text that is sent, not another copy.
      return {
        message_id: message.messageId,
        destination: destinations[index]!,
        required: !message.contract.optional && !message.answers,
        payload: joined.slice(start, end)
      }
    })
    if (rows.length > 1) mustDiffer(rows)
    return { rows, joined }
  }

  #keep(tx: Tx, stored: Stored): void {
    const transacted = transactionOf(tx)
    this.#stored.set(transacted, [...(this.#stored.get(transacted) ?? []), stored])
  }

  /** What goes to exchanges of others, without envelopes. */
  #foreignRows(messages: readonly Message[]) {
    const rows = messages.map((message) => {
      mustBeReachable(message.contract, this.#options.knows)
      return { ...rawMessage(message), required: !message.contract.optional }
    })
    if (rows.length > 1) mustDiffer(rows)
    return rows
  }

  /** What is of a trace says so beside its envelope, too. */
  #tracedRows(messages: readonly Message[]): NewRow[] {
    if (messages.length === 0) return []
    return this.#written(messages).rows.map((row, index) => ({
      ...row,
      headers: besideTrace(messages[index]!.headers)
    }))
  }

  /** Rows that are more than an envelope. */
  #addRaw(tx: Tx, rows: readonly NewRow[]): void {
    const inserted = write<{ ids: string }>(tx, INSERT_RAW, [
      rows.map((row) => row.message_id),
      rows.map((row) => row.destination),
      rows.map((row) => row.required),
      joinJson(rows.map((row) => row.payload)),
      joinJson(rows.map((row) => JSON.stringify(row.headers ?? null))),
      rows.map((row) => row.content_type ?? null)
    ])
    this.#keep(tx, { rows: [...rows], inserted })
  }

  /**
   * Cancels a message that waits to be sent later, once the open transaction commits.
   * @param token given to `after`; the message's id when none was
   * @returns false when none waits under it: it has been sent, or is about to be; it was cancelled;
   * or there never was one
   * @throws InvalidToken
   */
  cancel(tx: Tx, token: string): Promise<boolean> {
    return cancelScheduled(tx, tokenOf(token))
  }

  #addLater(tx: Tx, messages: readonly LaterMessage[]): void {
    this.#scheduled.add(transactionOf(tx))
    schedule(tx, this.#scheduledRows(messages))
  }

  #scheduledRows(messages: readonly LaterMessage[]): ScheduledRow[] {
    return messages.map((message) => {
      const rows = message.contract.foreign
        ? this.#foreignRows([message])
        : this.#tracedRows([message])
      return { ...rows[0]!, later: message.later }
    })
  }

  /**
   * Stores received messages to be delivered once more, to one endpoint and under the same id. They
   * leave when their time has come.
   */
  sendBack(tx: Tx, messages: readonly SentBack[]): void {
    if (messages.length === 0) return
    this.#sentBack.add(transactionOf(tx))
    void write(tx, INSERT_SENT_BACK, [
      messages.map(({ messageId }) => messageId),
      messages.map(({ endpoint }) => endpoint),
      messages.map(({ payload }) => (typeof payload === 'string' ? payload : null)),
      messages.map(({ payload }) => (typeof payload === 'string' ? null : payload)),
      joinJson(messages.map(({ headers }) => storableJson(headers))),
      messages.map(({ contentType }) =>
        contentType === undefined ? null : storableText(contentType)
      ),
      messages.map(({ seconds }) => seconds)
    ])
  }

  /**
   * Runs work in a transaction, as `transaction` in sql.ts does; once it has committed, the relay
   * is given the messages stored in it.
   */
  async transaction<R>(work: (tx: Tx) => Promise<R>, options?: TransactionOptions): Promise<R> {
    const { value, stored, undone, sentBack, scheduled } = await this.#watched(work, options)
    if (undone || sentBack) this.#options.committed([])
    if (scheduled) this.#options.scheduled?.()
    // Only the table knows then which of them are in it.
    if (undone) return value
    for (const { rows, inserted } of stored) {
      const [{ ids: joined }] = (await inserted) as [{ ids: string }]
      const ids = joined.split(',')
      this.#options.committed(rows.map((row, index) => ({ id: ids[index]!, ...row })))
    }
    return value
  }

  /**
   * Whether the database does what work needs: it begins a transaction, takes a row and finds room
   * for it.
   */
  async works(): Promise<boolean> {
    return (await this.problem()) === undefined
  }

  /** What keeps the database from doing what work needs; undefined: nothing. */
  async problem(): Promise<string | undefined> {
    try {
      await this.#watched(async (tx) => {
        void write(tx, TAKE_ROOM, [fillers()])
        void write(tx, GIVE_BACK, [])
      })
      return undefined
    } catch (error) {
      return describeError(error).text
    }
  }

  async #watched<R>(work: (tx: Tx) => Promise<R>, options?: TransactionOptions) {
    const { database } = this.#options
    try {
      const result = await transaction(
        database,
        async (tx) => ({
          value: await work(tx),
          stored: this.#stored.get(transactionOf(tx)) ?? [],
          undone: mayHaveUndone(tx),
          sentBack: this.#sentBack.has(transactionOf(tx)),
          scheduled: this.#scheduled.has(transactionOf(tx))
        }),
        options,
        this.#send
      )
      this.outage.worked()
      return result
    } catch (error) {
      if (error instanceof DatabaseAway) this.outage.failed(error)
      throw error
    }
  }

  readonly #send = (tx: Tx, messages: readonly Message[]) => this.#addTo(tx, messages)

  /** @throws NowhereToSend */
  #destinationOf(contract: Contract): string {
    const known = this.#destinations.get(contract)
    if (known !== undefined) return known
    if (contract.response) throw new AskedInTransaction(contract.name)
    const destination = destinationOf(contract)
    // A fault tells of a failure, and must not be one: without an exchange it waits in the outbox,
    // where it can be seen.
    if (!isFault(contract)) mustBeReachable(contract, this.#options.knows)
    this.#destinations.set(contract, destination)
    return destination
  }
}

/**
 * More than a page of text that cannot be compressed: the table has to grow by it, unless there is
 * room from before.
 */
function fillers(): string[] {
  return Array.from({ length: 3 }, () => randomBytes(1500).toString('hex'))
}

/**
 * Sees to it that messages of a contract have a destination.
 * @param knows whether the transport has such a destination; absent: any is taken
 * @throws NowhereToSend naming the contract, and what to do
 */
export function mustBeReachable(
  contract: Contract,
  knows?: (destination: string) => boolean
): void {
  const destination = contract.foreign?.exchange ?? destinationOf(contract)
  if (!knows || knows(destination)) return
  const remedy =
    contract.kind === 'event'
      ? 'list it in what a service sends, or an endpoint consumes'
      : `list it in what a service sends, or declare the endpoint ${destination}`
  throw new NowhereToSend(
    `${contract.name} cannot be sent: the topology has no exchange ${destination}; ${remedy}`
  )
}

type LaterMessage = Message & { readonly later: Later }

function isLater(message: Message): message is LaterMessage {
  return message.later !== undefined
}

/** An answer to what nobody asked, as when a request came as a plain command: it goes nowhere. */
function isUnasked({ contract, answers }: Message): boolean {
  return contract.kind === 'response' && !answers
}

/** Leaves at once, in an envelope, with nothing beside it: nearly everything does, and is asked no more. */
function isPlain(message: Message): boolean {
  return (
    !isLater(message) &&
    !isUnasked(message) &&
    !message.contract.foreign &&
    message.headers['traceparent'] === undefined
  )
}

/** Messages by the way they go. */
function sorted(messages: readonly Message[]) {
  const [later, foreign]: [LaterMessage[], Message[]] = [[], []]
  const [traced, enveloped]: [Message[], Message[]] = [[], []]
  for (const message of messages) {
    if (isUnasked(message)) continue
    if (isLater(message)) later.push(message)
    else if (message.contract.foreign) foreign.push(message)
    else if (message.headers['traceparent'] !== undefined) traced.push(message)
    else enveloped.push(message)
  }
  return { later, foreign, traced, enveloped }
}

/** One id to one destination is one message: the inbox there drops what comes second. */
function mustDiffer(rows: readonly NewRow[]): void {
  const byId = new Map<string, NewRow[]>()
  for (const row of rows) {
    const same = byId.get(row.message_id)
    if (!same) byId.set(row.message_id, [row])
    else if (
      same.some(
        ({ destination, payload }) => destination === row.destination && payload !== row.payload
      )
    ) {
      throw new NotRetryable(
        `Two messages to ${row.destination} have the id ${row.message_id}: the second would be dropped there as a copy of the first`
      )
    } else same.push(row)
  }
}

/** Rows on their way into the table, which gives them their ids. */
interface Stored {
  rows: NewRow[]
  inserted: Promise<{ ids: string }[]>
}
