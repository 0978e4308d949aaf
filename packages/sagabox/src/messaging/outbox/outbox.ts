import { randomBytes } from 'node:crypto'
import type { DataSource } from 'typeorm'
import { DatabaseAway } from '../errors/database-away.ts'
import { describeError } from '../errors/describe.ts'
import { destinationOf, EnvelopeWriter } from '../message/envelope.ts'
import { isFault } from '../message/fault.ts'
import { rawMessage } from './raw-message.ts'
import { SILENT } from '../async/log.ts'
import type { Contract, Message } from '../message/message.ts'
import { NotRetryable } from '../errors/not-retryable.ts'
import { Outage } from '../postgres/outage.ts'
import {
  isNested,
  joinJson,
  jsonTexts,
  statement,
  storableJson,
  storableText,
  transaction,
  write,
  type TransactionOptions,
  type Tx
} from '../postgres/sql.ts'
import { queueDestination, type Headers } from '../transport/transport.ts'
import { AskedInTransaction } from '../message/asked.ts'
import { tokenOf, type Later } from '../message/later.ts'
import { cancelScheduled, schedule } from './schedule.ts'

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

/** A stored message as the relay carries it. */
export interface OutboxRow {
  id: string
  message_id: string
  destination: string
  required: boolean
  payload: string
  /** The payload where it is not text. */
  body?: Buffer | null
  headers?: Headers | null
  content_type?: string | null
  /** Why it is put off; null: it is not. */
  put_off?: string | null
  last_error?: string | null
  /** Of payload, body and headers, when it was read from the table. */
  bytes?: number
}

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
  dataSource: DataSource
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
  readonly #stored = new WeakMap<Tx, Stored[]>()
  readonly #sentBack = new WeakSet<Tx>()
  readonly #scheduled = new WeakSet<Tx>()
  /** How the database is doing, as transactions tell. */
  readonly outage: Outage
  /** Those that were found good. */
  readonly #destinations = new Map<Contract, string>()

  constructor(options: OutboxOptions) {
    this.#options = options
    this.outage = options.outage ?? new Outage(options.source, SILENT)
    this.#writer = new EnvelopeWriter(options.address, options.source)
  }

  /**
   * Stores messages in the open transaction, one of `transaction` below. They leave after, and only
   * after, it commits; what cannot be stored fails the commit. A message that says `after` waits
   * until its time has come, and takes the place of another that waits under the same token.
   * @throws Error inside a nested transaction (`tx.transaction`): undone alone, its messages would
   * be sent all the same; for two messages under one id to one destination, of which the second
   * would be taken for a copy
   * @throws NowhereToSend for a contract whose destination is not in the topology;
   * AskedInTransaction for a request
   */
  add(tx: Tx, messages: readonly Message[]): void {
    if (messages.length === 0) return
    if (isNested(tx))
      throw new Error(
        'add() needs the outer transaction: a nested one may be undone, and its messages sent all the same'
      )
    if (messages.some(isLater)) {
      this.#addLater(tx, messages.filter(isLater))
      return this.add(
        tx,
        messages.filter((message) => !isLater(message))
      )
    }
    if (messages.some(isUnasked)) {
      return this.add(
        tx,
        messages.filter((message) => !isUnasked(message))
      )
    }
    const enveloped = messages.some(({ contract }) => contract.foreign)
      ? this.#addRaw(tx, messages)
      : messages
    if (enveloped.length > 0) this.#addEnveloped(tx, enveloped)
  }

  #addEnveloped(tx: Tx, messages: readonly Message[]): void {
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
    const inserted = write<{ ids: string }>(tx, INSERT, [
      rows.map((row) => row.message_id),
      rows.map((row) => row.destination),
      rows.map((row) => row.required),
      joined
    ])
    this.#keep(tx, { rows, inserted })
  }

  #keep(tx: Tx, stored: Stored): void {
    this.#stored.set(tx, [...(this.#stored.get(tx) ?? []), stored])
  }

  /**
   * Stores what goes to exchanges of others, without envelopes.
   * @returns the other messages
   */
  #addRaw(tx: Tx, messages: readonly Message[]): Message[] {
    const rows = messages.flatMap((message) => {
      if (!message.contract.foreign) return []
      mustBeReachable(message.contract, this.#options.knows)
      return [{ ...rawMessage(message), required: !message.contract.optional }]
    })
    if (rows.length > 1) mustDiffer(rows)
    const inserted = write<{ ids: string }>(tx, INSERT_RAW, [
      rows.map((row) => row.message_id),
      rows.map((row) => row.destination),
      rows.map((row) => row.required),
      joinJson(rows.map((row) => row.payload)),
      joinJson(rows.map((row) => JSON.stringify(row.headers))),
      rows.map((row) => row.content_type)
    ])
    this.#keep(tx, { rows, inserted })
    return messages.filter(({ contract }) => !contract.foreign)
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
    const sentTime = new Date().toISOString()
    this.#scheduled.add(tx)
    schedule(
      tx,
      messages.map((message) => ({
        message_id: message.messageId,
        destination: this.#destinationOf(message.contract),
        required: !message.contract.optional,
        payload: this.#writer.write(message, sentTime),
        later: message.later
      }))
    )
  }

  /**
   * Stores received messages to be delivered once more, to one endpoint and under the same id. They
   * leave when their time has come.
   */
  sendBack(tx: Tx, messages: readonly SentBack[]): void {
    if (messages.length === 0) return
    this.#sentBack.add(tx)
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
    const { value, stored, sentBack, scheduled } = await this.#watched(work, options)
    if (sentBack) this.#options.committed([])
    if (scheduled) this.#options.scheduled?.()
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
    const { dataSource } = this.#options
    try {
      const result = await transaction(
        dataSource,
        async (tx) => ({
          value: await work(tx),
          stored: this.#stored.get(tx) ?? [],
          sentBack: this.#sentBack.has(tx),
          scheduled: this.#scheduled.has(tx)
        }),
        options
      )
      this.outage.worked()
      return result
    } catch (error) {
      if (error instanceof DatabaseAway) this.outage.failed(error)
      throw error
    }
  }

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

/** An answer to what nobody asked, as when a request came as a plain command. */
function isUnasked({ contract, answers }: Message): boolean {
  return contract.kind === 'response' && !answers
}

type LaterMessage = Message & { readonly later: Later }

function isLater(message: Message): message is LaterMessage {
  return message.later !== undefined
}

/** One id to one destination is one message: the inbox there drops what comes second. */
function mustDiffer(rows: readonly Omit<OutboxRow, 'id'>[]): void {
  const byId = new Map<string, Omit<OutboxRow, 'id'>[]>()
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
  rows: Omit<OutboxRow, 'id'>[]
  inserted: Promise<{ ids: string }[]>
}
