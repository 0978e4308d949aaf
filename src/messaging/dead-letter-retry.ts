import type { DataSource } from 'typeorm'
import { retryConflicts } from './conflict.ts'
import type { Worker } from './context.ts'
import { conditionOf, countLetters, type Condition, type DeadLetterFilter } from './dead-letter-list.ts'
import { UUID } from './envelope.ts'
import { replayHeaders } from './failure.ts'
import { newId } from './id.ts'
import type { Log } from './log.ts'
import { Loop } from './loop.ts'
import type { Message } from './message.ts'
import type { Outbox, SentBack } from './outbox.ts'
import { isConflict, isUnavailable, storableText, type Tx } from './sql.ts'
import type { Headers } from './transport.ts'
import { forgetStart } from './unfinished.ts'

/** Letters looked through for the oldest that fits. */
const OLDEST = 100_000
/** Letters sent before any of them has shown how it ends. */
const FIRST = 5
/** A group retry stops when so many have failed again, and more than were handled. */
const MOST_FAILURES = 3
/** How often a running group retry is looked at, and how soon another process takes one over, ms. */
const TICK_MS = 250
const POLL_MS = 5000

/** A letter that has been retried for so long without an outcome may be retried or deleted again: its message may be gone. */
export const LOST_MINUTES = 15

// What waits in the outbox still is not lost. Without a time: sent back by a version that recorded none.
const LOST = `dead_letter.status = 'retrying' and coalesce(dead_letter.retrying_since < now() - interval '${LOST_MINUTES} minutes', true)
  and not exists (select from outbox where due_at is not null and headers ->> 'sagabox-replayed' = dead_letter.id::text)`

const DELETE = `
  with deleted as (delete from dead_letter where id = $1 returning *)
  insert into dead_letter_deleted (id, letter, payload, why) select id, to_jsonb(deleted) - 'payload', payload, $2 from deleted`

// The columns that the table has today: those that came later take their defaults.
const RESTORE = `
  insert into dead_letter overriding system value
  select (jsonb_populate_record(null::dead_letter, letter || jsonb_build_object('payload', payload, 'status', 'waiting', 'retry_id', null, 'retrying_since', null))).*
  from dead_letter_deleted where id = $1
  on conflict (endpoint, fingerprint) do nothing returning id`

/** An operator's request that the letter's state does not allow. */
export class NotAllowed extends Error {
  override readonly name = 'NotAllowed'
}

export interface GroupRetry {
  id: number
  filter: DeadLetterFilter
  perSecond: number
  state: 'running' | 'done' | 'stopped'
  reason: string | null
  /** Letters that fit the filter and wait still. */
  left: number
  sent: number
  handled: number
  failedAgain: number
  /** Sent, and not known yet how they end. */
  underWay: number
  /** Sent so long ago that nobody will tell how they ended: each may be retried or deleted by itself. */
  lost: number
  startedAt: string
  endedAt: string | null
}

type Counts = Pick<GroupRetry, 'sent' | 'handled' | 'failedAgain' | 'underWay' | 'lost'>
type GroupRow = Omit<GroupRetry, 'left'> & { outcome: Counts | null }

interface LockedLetter {
  id: string
  endpoint: string
  status: string
  lost: boolean
  message_id: string | null
  payload: Buffer
  content_type: string | null
  headers: Headers
  correlation_id: string | null
  exception: string
  reason: string
  message_type: string | null
  seen: number
  first_seen_at: Date
  last_seen_at: Date
}

const LETTER = `id, endpoint, status, ${LOST} as lost, message_id, correlation_id, payload, content_type, headers, exception, reason, message_type, seen, first_seen_at, last_seen_at`

const GROUP = `
  select retry.id::float8 as id, filter, per_second as "perSecond", state, retry.reason, started_at as "startedAt", ended_at as "endedAt", outcome,
    count(letter.id)::integer as sent, count(letter.id) filter (where letter.status = 'handled')::integer as handled,
    count(letter.id) filter (where letter.status = 'waiting')::integer as "failedAgain", count(letter.id) filter (where letter.status = 'retrying' and not letter.lost)::integer as "underWay",
    count(letter.id) filter (where letter.lost)::integer as lost
  from dead_letter_retry as retry left join lateral (select dead_letter.id, dead_letter.status, ${LOST} as lost from dead_letter where dead_letter.retry_id = retry.id) as letter on true`

/** What operators do with dead letters. Everything is audited, and everything that is sent goes through the outbox. */
export class DeadLetterOffice implements Worker {
  readonly #dataSource: DataSource
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #loop: Loop
  readonly #began: () => void

  /**
   * @param began called when a group retry has begun: the loop that carries it out may be another's
   */
  constructor(dataSource: DataSource, outbox: Outbox, log: Log, began?: () => void) {
    this.#began = began ?? (() => this.wake())
    this.#dataSource = dataSource
    this.#outbox = outbox
    this.#log = log
    this.#loop = new Loop({
      round: async () => ((await this.runOnce()) ? TICK_MS : POLL_MS),
      failed: (error) => log.warn({ err: error }, 'Dead letters could not be sent back; trying again'),
      minMs: 500,
      maxMs: 10_000
    })
  }

  /**
   * Sends one letter back to its endpoint, under its message id: the inbox protects whoever has handled it already.
   * @returns undefined when there is no such letter
   * @throws NotAllowed when it is under way or has been handled
   */
  retry(id: number): Promise<{ messageId: string | null; firstSeenAt: string } | undefined> {
    return this.#request(async (tx) => {
      const [letter] = await lockLetters(tx, { sql: 'id = $1', values: [id] }, 1)
      if (!letter) return undefined
      if (letter.status === 'handled') throw new NotAllowed('It has been handled since')
      if (letter.status === 'retrying' && !letter.lost) throw new NotAllowed(`It is being retried already; without an outcome it may be retried again ${LOST_MINUTES} minutes after it was sent`)
      await this.#sendBack(tx, [letter], null)
      return { messageId: letter.message_id, firstSeenAt: new Date(letter.first_seen_at).toISOString() }
    })
  }

  /** When the oldest letter that waits and fits was first seen, ISO 8601; undefined when none does. */
  async oldest(filter: DeadLetterFilter): Promise<string | undefined> {
    const { sql, values } = conditionOf({ ...filter, status: 'waiting' })
    const [row]: { oldest: Date | null }[] = await this.#dataSource.query(`select min(first_seen_at) as oldest from (select * from dead_letter where status = 'waiting' order by id limit ${OLDEST}) as dead_letter where ${sql}`, values)
    return row?.oldest ? new Date(row.oldest).toISOString() : undefined
  }

  /** Begins to send back all letters that wait and fit, a few first. Returns the id to follow it by. */
  async retryGroup(filter: DeadLetterFilter, perSecond: number): Promise<number> {
    const [row]: { id: number }[] = await this.#dataSource.query('insert into dead_letter_retry (filter, per_second) values ($1, $2) returning id::float8 as id', [JSON.stringify(filter), perSecond])
    this.#began()
    return row!.id
  }

  async groupRetry(id: number): Promise<GroupRetry | undefined> {
    const row = await readGroup(this.#dataSource, id)
    return row && this.#withRest(row)
  }

  /** Newest first. */
  async groupRetries(limit: number): Promise<GroupRetry[]> {
    const rows: GroupRow[] = await this.#dataSource.query(`${GROUP} where retry.id in (select id from dead_letter_retry order by id desc limit $1) group by retry.id order by retry.id desc`, [limit])
    const retries: GroupRetry[] = []
    // One after the other: each may count many letters, and the pool is the handlers' too.
    for (const row of rows) retries.push(await this.#withRest(row))
    return retries
  }

  /** Ends a running group retry; what is under way goes on. Returns whether there was one. */
  stopGroup(id: number): Promise<boolean> {
    return this.#request(async (tx) => {
      const running = await tx.query<unknown[]>(`select from dead_letter_retry where id = $1 and state = 'running' for update`, [id])
      if (running.length === 0) return false
      await endGroup(tx, (await readGroup(tx, id))!, 'stopped', 'stopped by an operator')
      return true
    })
  }

  /**
   * Deletes a letter; an audit row keeps what it was.
   * @returns whether there was one
   * @throws NotAllowed while it is being retried
   */
  delete(id: number, why: string | undefined): Promise<boolean> {
    return this.#request(async (tx) => {
      const [letter] = await lockLetters(tx, { sql: 'id = $1', values: [id] }, 1)
      if (!letter) return false
      if (letter.status === 'retrying' && !letter.lost) throw new NotAllowed(`It is being retried; wait until it is handled or has failed again, at most ${LOST_MINUTES} minutes`)
      await audit(tx, 'delete', [letter], { why: why ?? null })
      await tx.query(DELETE, [id, why ?? null])
      return true
    })
  }

  /**
   * Brings a deleted letter back, as it was.
   * @returns whether there was one
   * @throws NotAllowed when its message has become a dead letter again
   */
  restore(id: number): Promise<boolean> {
    return this.#request(async (tx) => {
      const deleted = await tx.query<unknown[]>('select from dead_letter_deleted where id = $1 for update', [id])
      if (deleted.length === 0) return false
      const restored = await tx.query<unknown[]>(RESTORE, [id])
      if (restored.length === 0) throw new NotAllowed('Its message has become a dead letter again since: look there')
      const letters = await lockLetters(tx, { sql: 'id = $1', values: [id] }, 1)
      await audit(tx, 'restore', letters, {})
      await tx.query('delete from dead_letter_deleted where id = $1', [id])
      return true
    })
  }

  /**
   * Answers a letter whose instance is gone for ever by undoing what was done for it.
   * @param compensate what undoes it, by correlation id; undefined when the instance is there
   * @returns the messages that undo it; undefined when there is no such letter
   * @throws NotAllowed when it is no such letter
   */
  undo(id: number, why: string, compensate: (tx: Tx, correlationId: string) => Promise<Message[] | undefined>): Promise<Message[] | undefined> {
    return this.#request(async (tx) => {
      const [letter] = await lockLetters(tx, { sql: 'id = $1', values: [id] }, 1)
      if (!letter) return undefined
      if (letter.status !== 'waiting' && !letter.lost) throw new NotAllowed(`It is ${letter.status}`)
      const { correlation_id: correlationId } = letter
      if (correlationId === null || !UUID.test(correlationId)) throw new NotAllowed('It does not say which instance it belongs to')
      const messages = await compensate(tx, correlationId)
      if (!messages) throw new NotAllowed(`The instance ${correlationId} is there: retry the letter instead`)
      this.#outbox.add(tx, messages)
      await audit(tx, 'undo', [letter], { why, sent: messages.map(({ contract, messageId }) => ({ type: contract.name, messageId })) })
      await tx.query(`update dead_letter set status = 'handled' where id = $1`, [id])
      return messages
    })
  }

  #request<R>(work: (tx: Tx) => Promise<R>): Promise<R> {
    return retryConflicts(() => this.#outbox.transaction(work))
  }

  start(): void {
    this.#loop.start()
  }

  /** There is a group retry to look at. */
  wake(): void {
    this.#loop.wake()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** Moves every running group retry on by one step. Returns whether there is one. */
  async runOnce(): Promise<boolean> {
    const running: { id: number }[] = await this.#dataSource.query(`select id::float8 as id from dead_letter_retry where state = 'running' order by id`)
    for (const { id } of running) {
      try {
        await this.#outbox.transaction((tx) => this.#step(tx, id))
      } catch (error) {
        if (isConflict(error) || isUnavailable(error)) throw error
        // What fails by itself must not keep the others from going on.
        this.#log.error({ err: error, retryId: id }, 'Group retry stopped: it cannot be carried out')
        await this.#dataSource.query(`update dead_letter_retry set state = 'stopped', reason = $2, ended_at = now() where id = $1`, [id, storableText((error as Error).message)])
      }
    }
    return running.length > 0
  }

  async #step(tx: Tx, id: number): Promise<void> {
    // Another process may be at it.
    const [locked]: { sinceMs: number | null; startedAt: Date }[] = await tx.query(
      `select extract(epoch from clock_timestamp() - sent_at)::float8 * 1000 as "sinceMs", started_at as "startedAt" from dead_letter_retry where id = $1 and state = 'running' for update skip locked`,
      [id]
    )
    if (!locked) return
    const retry = (await readGroup(tx, id))!
    const { filter, perSecond, sent, handled, failedAgain, underWay, lost } = retry
    if (failedAgain >= MOST_FAILURES && failedAgain > handled) return endGroup(tx, retry, 'stopped', `${failedAgain} of the first ${sent} failed again`)
    const room = sent < FIRST ? FIRST - sent : underWay > 0 && handled + failedAgain + lost < FIRST ? 0 : Math.floor((perSecond * Math.min(locked.sinceMs ?? 1000, 1000)) / 1000)
    if (room < 1) return
    const letters = await lockLetters(tx, leftOf(id, locked.startedAt, filter), room)
    if (letters.length > 0) {
      await this.#sendBack(tx, letters, id)
      await tx.query('update dead_letter_retry set sent_at = clock_timestamp() where id = $1', [id])
    } else if (underWay === 0) await endGroup(tx, retry, 'done', lost > 0 ? `${lost} never came back: retry or delete each by itself` : null)
  }

  async #sendBack(tx: Tx, letters: readonly LockedLetter[], retryId: number | null): Promise<void> {
    await tx.query(`update dead_letter set status = 'retrying', retrying_since = now(), retry_id = coalesce($2, retry_id) where id = any($1)`, [letters.map(({ id }) => id), retryId])
    await audit(tx, 'retry', letters, { retryId })
    // A new beginning: the starts that made it a dead letter do not count against it.
    for (const { endpoint, message_id: messageId } of letters) if (messageId !== null && UUID.test(messageId)) forgetStart(tx, endpoint, [messageId])
    this.#outbox.sendBack(
      tx,
      letters.map(
        ({ id, endpoint, message_id: messageId, payload, content_type: contentType, headers }): SentBack => ({
          messageId: messageId !== null && UUID.test(messageId) ? messageId : newId(),
          endpoint,
          payload,
          contentType: contentType ?? undefined,
          headers: replayHeaders(id, headers),
          seconds: 0
        })
      )
    )
  }

  async #withRest({ outcome, ...row }: GroupRow): Promise<GroupRetry> {
    const { sql, values } = leftOf(row.id, row.startedAt, row.filter)
    const [{ left }]: [{ left: number }] = row.state === 'done' ? [{ left: 0 }] : [{ left: await countLetters(this.#dataSource, { sql, values }) }]
    return { ...row, ...outcome, lost: outcome?.lost ?? row.lost, left, startedAt: new Date(row.startedAt).toISOString(), endedAt: row.endedAt === null ? null : new Date(row.endedAt).toISOString() }
  }
}

/** A group retry as it stands. */
async function readGroup(database: DataSource | Tx, id: number): Promise<GroupRow | undefined> {
  const [row]: GroupRow[] = await database.query(`${GROUP} where retry.id = $1 group by retry.id`, [id])
  return row
}

function lockLetters(tx: Tx, { sql, values }: Condition, limit: number): Promise<LockedLetter[]> {
  return tx.query(`select ${LETTER} from dead_letter where ${sql} order by id limit ${limit} for update`, values)
}

/** The letters that a group retry has still to send: what failed again since it began is not among them. */
function leftOf(retryId: number, startedAt: Date | string, filter: DeadLetterFilter): Condition {
  const { sql, values } = conditionOf({ ...filter, status: undefined }, ['retry_id is distinct from ?', retryId], ['last_seen_at <= ?', startedAt])
  return { sql: `status = 'waiting' and ${sql}`, values }
}

async function endGroup(tx: Tx, { id, sent, handled, failedAgain, underWay, lost }: GroupRow, state: 'done' | 'stopped', reason: string | null): Promise<void> {
  await tx.query('update dead_letter_retry set state = $2, reason = $3, outcome = $4, ended_at = now() where id = $1', [id, state, reason, JSON.stringify({ sent, handled, failedAgain, underWay, lost })])
}

async function audit(tx: Tx, action: 'retry' | 'delete' | 'restore' | 'undo', letters: readonly LockedLetter[], more: object): Promise<void> {
  await tx.query(`insert into dead_letter_audit (dead_letter_id, action, message_id, details) select * from unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[])`, [
    letters.map(({ id }) => id),
    letters.map(() => action),
    letters.map((letter) => letter.message_id),
    letters.map(({ endpoint, exception, reason, message_type: type, seen, first_seen_at: firstSeenAt, last_seen_at: lastSeenAt }) => JSON.stringify({ ...more, endpoint, type, exception, reason, seen, firstSeenAt, lastSeenAt }))
  ])
}
