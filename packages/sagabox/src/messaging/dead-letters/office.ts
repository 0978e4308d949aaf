import type { DataSource } from 'typeorm'
import { boundedText } from '../postgres/bounded.ts'
import { retryConflicts } from '../postgres/retry-conflicts.ts'
import type { Worker } from '../async/worker.ts'
import { bringBack, putAway } from './deleted.ts'
import {
  IS_LOST,
  LOST_AFTER_MINUTES,
  lookForOpen,
  type DeadLetterFilter,
  type Look
} from './list.ts'
import type { Undo } from './undo.ts'
import { UUID } from '../message/envelope.ts'
import { replayHeaders } from './headers.ts'
import { newId } from '../message/id.ts'
import type { Log } from '../async/log.ts'
import { Loop } from '../async/loop.ts'
import type { Message } from '../message/message.ts'
import type { Outbox, SentBack } from '../outbox/outbox.ts'
import { isConflict, isUnavailable, type Tx } from '../postgres/sql.ts'
import type { Headers } from '../transport/transport.ts'
import { typeName } from '../message/type-name.ts'
import { forgetStart } from '../inbox/unfinished.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** Letters sent before any of them has shown how it ends. */
const FIRST = 5
/** A group retry stops when so many have failed again, and more than were handled. */
const MOST_FAILURES = 3
/** Letters of a group that are under way: what nobody consumes would fill a queue. */
const MOST_UNDER_WAY = 1000
/** Payloads of the letters that one transaction sends back, bytes. */
const MOST_BYTES = 4 * 1024 * 1024
/** Letters whose outcome is added up at once. */
const MOST_SETTLED = 5000
/**
 * How often a running group retry is looked at, and how soon another process takes one over, ms.
 */
const TICK_MS = 250
const POLL_MS = 5000
/** Of the text that says why a group retry was stopped, bytes. */
const LONGEST_REASON = 2000

/** An operator's request that the letter's state does not allow. */
export class NotAllowed extends SagaboxError {
  override readonly name = 'NotAllowed'
  override readonly code = 'NOT_ALLOWED'
}

export interface GroupRetry {
  id: number
  filter: DeadLetterFilter
  perSecond: number
  state: 'running' | 'done' | 'stopped'
  reason: string | null
  /** Letters that fit the filter and wait still; of one that was stopped, when it was. */
  left: number
  /** There may be more of them: not all letters were looked at. */
  atLeast: boolean
  sent: number
  handled: number
  failedAgain: number
  /** Sent, and not known yet how they end. */
  underWay: number
  /** Sent, and for LOST_AFTER_MINUTES nothing was heard of them. */
  lost: number
  startedAt: string
  endedAt: string | null
}

type Counts = Pick<GroupRetry, 'sent' | 'handled' | 'failedAgain' | 'underWay' | 'lost'>
type Left = Pick<GroupRetry, 'left' | 'atLeast'>
type GroupRow = Omit<GroupRetry, 'left' | 'atLeast'> & {
  position: number
  outcome: (Counts & Partial<Left>) | null
}

interface KnownLetter {
  id: string
  endpoint: string
  status: string
  message_id: string | null
  exception: string
  reason: string
  message_type: string | null
  correlation_id: string | null
  seen: number
  first_seen_at: Date
  last_seen_at: Date
  retrying_since: Date
  is_lost: boolean
}

interface WholeLetter extends KnownLetter {
  payload: Buffer
  content_type: string | null
  headers: Headers
}

const KNOWN = `id, endpoint, status, message_id, exception, reason, message_type, correlation_id, seen, first_seen_at, last_seen_at,
  coalesce(retried_at, last_seen_at) as retrying_since, ${IS_LOST} as is_lost`
const WHOLE = `${KNOWN}, payload, content_type, headers`

// Of a running one, its letters that have ended are added up as it goes on: all of them may be
// millions.
const GROUP = `
  select id::float8 as id, filter, per_second as "perSecond", state, reason,
    started_at as "startedAt", ended_at as "endedAt", outcome, position::float8 as position,
    handled + now_handled as handled, failed_again + now_failed as "failedAgain", under_way as "underWay", lost,
    handled + now_handled + failed_again + now_failed + under_way + lost as sent
  from dead_letter_retry as retry cross join lateral (
    select count(*) filter (where status = 'handled')::integer as now_handled,
      count(*) filter (where status in ('waiting', 'undone'))::integer as now_failed,
      count(*) filter (where status = 'retrying' and not ${IS_LOST})::integer as under_way, count(*) filter (where ${IS_LOST})::integer as lost
    from dead_letter where retry_id = retry.id and retry.state = 'running'
  ) as letters`

const SETTLE = `
  with settled as (
    update dead_letter set retry_id = null
    where id = any(array(select id from dead_letter where retry_id = $1 and status <> 'retrying'
      limit ${MOST_SETTLED} for update skip locked))
    returning status
  )
  update dead_letter_retry set handled = dead_letter_retry.handled + counted.handled,
    failed_again = failed_again + counted.total - counted.handled
  from (select count(*)::integer as total,
    count(*) filter (where status = 'handled')::integer as handled from settled) as counted
  where id = $1 and counted.total > 0`

export interface OfficeOptions {
  /**
   * The service's endpoints, whose letters it can send back; those of all endpoints when not given.
   */
  endpoints?: readonly string[]
  /** Answers letters of business transactions that nobody remembers here. */
  undo?: Undo
  /** Called when a group retry has begun: the loop that carries it out may be another's. */
  began?(): void
}

/**
 * What operators do with dead letters. Everything is audited, and everything that is sent goes
 * through the outbox.
 */
export class DeadLetterOffice implements Worker {
  readonly #dataSource: DataSource
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #endpoints: readonly string[] | undefined
  readonly #began: () => void
  readonly #undo: Undo | undefined
  readonly #loop: Loop

  constructor(
    dataSource: DataSource,
    outbox: Outbox,
    log: Log,
    { endpoints, undo, began }: OfficeOptions = {}
  ) {
    this.#began = began ?? (() => this.wake())
    this.#dataSource = dataSource
    this.#outbox = outbox
    this.#log = log
    this.#endpoints = endpoints
    this.#undo = undo
    this.#loop = new Loop({
      round: async () => ((await this.runOnce()) ? TICK_MS : POLL_MS),
      failed: (error) =>
        log.warn({ err: error }, 'Dead letters could not be sent back; trying again'),
      minMs: 500,
      maxMs: 10_000
    })
  }

  /**
   * Sends one letter back to its endpoint, under its message id: the inbox protects whoever has
   * handled it already.
   * @returns undefined when there is no such letter; `lostSince` when it was sent back before, and
   * nothing was heard of it
   * @throws NotAllowed when it is under way, has ended, or belongs to an endpoint that is not here
   */
  retry(
    id: number
  ): Promise<{ messageId: string | null; firstSeenAt: string; lostSince?: string } | undefined> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return undefined
      mustBeOpen(letter)
      this.#mustBeHere(letter)
      await this.#sendBack(tx, [letter], null)
      const { message_id: messageId, first_seen_at: firstSeenAt, retrying_since: since } = letter
      return {
        messageId,
        firstSeenAt: firstSeenAt.toISOString(),
        ...(letter.is_lost && { lostSince: since.toISOString() })
      }
    })
  }

  /**
   * When the oldest letter that waits and fits was first seen, ISO 8601; undefined when none does,
   * as far as was looked.
   */
  async oldest(filter: DeadLetterFilter): Promise<string | undefined> {
    const { window, condition, values } = lookForOpen(filter, 0, ...this.#here())
    // Letters are numbered as they are first seen.
    const [row]: { oldest: Date }[] = await this.#dataSource.query(
      `
        select first_seen_at as oldest from (${window}) as looked_at where ${condition}
          order by looked_at.id limit 1`,
      values
    )
    return row?.oldest.toISOString()
  }

  /**
   * Begins to send back all letters that wait and fit, a few first. Returns the id to follow it by.
   */
  async retryGroup(filter: DeadLetterFilter, perSecond: number): Promise<number> {
    const [row]: { id: number }[] = await this.#dataSource.query(
      'insert into dead_letter_retry (filter, per_second) values ($1, $2) returning id::float8 as id',
      [JSON.stringify(filter), perSecond]
    )
    this.#began()
    return row!.id
  }

  async groupRetry(id: number): Promise<GroupRetry | undefined> {
    const row = await readGroup(this.#dataSource, id)
    return row && this.#withRest(row)
  }

  /** Newest first. */
  async groupRetries(limit: number): Promise<GroupRetry[]> {
    const rows: GroupRow[] = await this.#dataSource.query(
      `${GROUP} order by retry.id desc limit $1`,
      [limit]
    )
    const retries: GroupRetry[] = []
    // One after the other: each may count many letters, and the pool is the handlers' too.
    for (const row of rows) retries.push(await this.#withRest(row))
    return retries
  }

  /** Ends a running group retry; what is under way goes on. Returns whether there was one. */
  stopGroup(id: number): Promise<boolean> {
    return this.#request(async (tx) => {
      const running = await tx.query<unknown[]>(
        `select from dead_letter_retry where id = $1 and state = 'running' for update`,
        [id]
      )
      if (running.length === 0) return false
      await this.#endGroup(tx, (await readGroup(tx, id))!, 'stopped', 'stopped by an operator')
      return true
    })
  }

  /**
   * Deletes a letter. It is kept whole for a while, and can be brought back.
   * @returns whether there was one
   * @throws NotAllowed while it is being retried
   */
  delete(id: number, why: string | undefined): Promise<boolean> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return false
      if (letter.status === 'retrying') mustBeOpen(letter)
      await audit(tx, 'delete', [letter], { why: why ?? null })
      await putAway(tx, id, why ?? null)
      return true
    })
  }

  /**
   * Brings a deleted letter back.
   * @returns whether there was one
   * @throws NotAllowed when the same message has become a dead letter again
   */
  restore(id: number): Promise<boolean> {
    return this.#request(async (tx) => {
      const done = await bringBack(tx, id)
      if (done === undefined) return false
      if (done === 'again')
        throw new NotAllowed('The same message has become a dead letter again since')
      await audit(tx, 'restore', [(await lockLetter(tx, id))!], {})
      return true
    })
  }

  /**
   * Answers a letter whose business transaction nobody remembers here: what was done for it
   * elsewhere is undone. Other letters of the transaction, and those that the commands will be
   * answered by, need no operator then.
   * @returns what was sent, and the ids of the other letters; undefined when there is no such
   * letter
   * @throws NotAllowed when the transaction is known here, has no effects, or the letter is under
   * way or has ended
   */
  undo(id: number, reason: string): Promise<{ sent: Message[]; others: number[] } | undefined> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return undefined
      mustBeOpen(letter)
      if (!this.#undo) throw new NotAllowed('No saga runs here whose effects could be undone')
      const { message_type: type, correlation_id: correlationId, endpoint } = letter
      const sent = await this.#undo.commandsFor(tx, { type: type && typeName(type), correlationId })
      this.#outbox.add(tx, sent)
      await tx.query(
        `insert into dead_letter_undone (endpoint, correlation_id, answers, reason) values ($1, lower($2), $3, $4)
         on conflict (endpoint, correlation_id) do update set answers = excluded.answers,
           reason = excluded.reason, at = now()`,
        [endpoint, correlationId, this.#undo.answers, reason]
      )
      const siblings: KnownLetter[] = await tx.query(
        `select ${KNOWN} from dead_letter where endpoint = $1 and correlation_id = $2 and id <> $3 and (status = 'waiting' or ${IS_LOST})
         order by id limit ${MOST_SETTLED} for update`,
        [endpoint, correlationId, id]
      )
      const undone = [letter, ...siblings]
      await tx.query(`update dead_letter set status = 'undone' where id = any($1)`, [
        undone.map((one) => one.id)
      ])
      await audit(tx, 'undo', undone, {
        why: reason,
        sent: sent.map(({ contract, messageId }) => ({ type: contract.name, messageId }))
      })
      return { sent, others: siblings.map((one) => Number(one.id)) }
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
    const running: { id: number }[] = await this.#dataSource.query(
      `select id::float8 as id from dead_letter_retry where state = 'running' order by id`
    )
    for (const { id } of running) {
      try {
        await this.#outbox.transaction((tx) => this.#step(tx, id))
      } catch (error) {
        if (isConflict(error) || isUnavailable(error)) throw error
        // What fails by itself must not keep the others from going on.
        this.#log.error(
          { err: error, retryId: id },
          'Group retry stopped: it cannot be carried out'
        )
        await this.#dataSource.query(
          `
            update dead_letter_retry set state = 'stopped', reason = $2, ended_at = now()
              where id = $1`,
          [id, boundedText((error as Error).message, LONGEST_REASON)]
        )
      }
    }
    return running.length > 0
  }

  async #step(tx: Tx, id: number): Promise<void> {
    // Another process may be at it.
    const [locked]: { sinceMs: number | null; startedAt: Date }[] = await tx.query(
      `
        select extract(epoch from clock_timestamp() - sent_at)::float8 * 1000 as "sinceMs",
          started_at as "startedAt" from dead_letter_retry where id = $1 and state = 'running'
          for update skip locked`,
      [id]
    )
    if (!locked) return
    await tx.query(SETTLE, [id])
    const retry = (await readGroup(tx, id))!
    const { perSecond, sent, handled, failedAgain, underWay, lost } = retry
    const failed = failedAgain + lost
    if (
      (failed >= MOST_FAILURES && failed > handled) ||
      (lost >= MOST_UNDER_WAY && underWay === 0)
    ) {
      const again = `${failedAgain} of the first ${sent} failed again`
      return this.#endGroup(
        tx,
        retry,
        'stopped',
        lost === 0
          ? again
          : `${again}, of ${lost} nothing was heard for ${LOST_AFTER_MINUTES} minutes`
      )
    }
    const pace = Math.floor((perSecond * Math.min(locked.sinceMs ?? 1000, 1000)) / 1000)
    const wanted = sent < FIRST ? FIRST - sent : underWay > 0 && handled + failed < FIRST ? 0 : pace
    const room = Math.min(wanted, MOST_UNDER_WAY - underWay - lost)
    if (room < 1) return
    const { window, condition, values, end, windowValues } = this.#leftOf(retry)
    const fitting: { id: string; bytes: number }[] = await tx.query(
      `
        select id, octet_length(payload) as bytes from (${window}) as looked_at where ${condition}
          order by looked_at.id limit ${room}`,
      values
    )
    const chosen = firstOf(fitting)
    const [last]: { id: number }[] =
      fitting.length < room && chosen.length === fitting.length
        ? await tx.query(end, windowValues)
        : []
    const position = last?.id ?? chosen.at(-1)
    if (position !== undefined)
      await tx.query('update dead_letter_retry set position = $2 where id = $1', [id, position])
    // Somebody may have taken one in hand in between.
    const letters: WholeLetter[] = await tx.query(
      `
        select ${WHOLE} from dead_letter where id = any($1) and (status = 'waiting' or ${IS_LOST})
          order by id for update`,
      [chosen]
    )
    if (letters.length > 0) {
      await this.#sendBack(tx, letters, id)
      await tx.query('update dead_letter_retry set sent_at = clock_timestamp() where id = $1', [id])
    } else if (position === undefined && underWay === 0)
      await this.#endGroup(tx, retry, 'done', null)
  }

  async #sendBack(tx: Tx, letters: readonly WholeLetter[], retryId: number | null): Promise<void> {
    await tx.query(
      `
        update dead_letter set status = 'retrying', retried_at = now(), retry_id = coalesce($2,
          retry_id) where id = any($1)`,
      [letters.map(({ id }) => id), retryId]
    )
    await audit(tx, 'retry', letters, { retryId })
    // A new beginning: the starts that made it a dead letter do not count against it.
    for (const { endpoint, message_id: messageId } of letters)
      if (messageId !== null && UUID.test(messageId)) forgetStart(tx, endpoint, [messageId])
    this.#outbox.sendBack(
      tx,
      letters.map(
        ({
          id,
          endpoint,
          message_id: messageId,
          payload,
          content_type: contentType,
          headers
        }): SentBack => ({
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

  async #withRest({ outcome, position, ...row }: GroupRow): Promise<GroupRetry> {
    const left =
      row.state === 'done'
        ? NONE_LEFT
        : outcome?.left === undefined
          ? await this.#countLeft(this.#dataSource, { ...row, position })
          : NONE_LEFT
    return {
      ...row,
      ...left,
      ...outcome,
      startedAt: new Date(row.startedAt).toISOString(),
      endedAt: row.endedAt === null ? null : new Date(row.endedAt).toISOString()
    }
  }

  async #endGroup(
    tx: Tx,
    group: GroupRow,
    state: 'done' | 'stopped',
    reason: string | null
  ): Promise<void> {
    const { id, sent, handled, failedAgain, underWay, lost } = group
    const outcome = {
      sent,
      handled,
      failedAgain,
      underWay,
      lost,
      ...(state === 'done' ? NONE_LEFT : await this.#countLeft(tx, group))
    }
    await tx.query(
      'update dead_letter_retry set state = $2, reason = $3, outcome = $4, ended_at = now() where id = $1',
      [id, state, reason, JSON.stringify(outcome)]
    )
  }

  async #countLeft(
    database: DataSource | Tx,
    group: Pick<GroupRow, 'position' | 'startedAt' | 'filter'>
  ): Promise<Left> {
    const { window, condition, values, end, windowValues } = this.#leftOf(group)
    const [{ left }]: [{ left: number }] = await database.query(
      `select count(*)::integer as left from (${window}) as looked_at where ${condition}`,
      values
    )
    const more: unknown[] = await database.query(end, windowValues)
    return { left, atLeast: more.length > 0 }
  }

  /**
   * The letters that a group retry has still to send: what came or failed again since it began is
   * not among them.
   */
  #leftOf({
    position,
    startedAt,
    filter
  }: Pick<GroupRow, 'position' | 'startedAt' | 'filter'>): Look {
    return lookForOpen(filter, position, ['last_seen_at <= ?', startedAt], ...this.#here())
  }

  #here(): [sql: string, value: unknown][] {
    return this.#endpoints ? [['endpoint = any(?)', this.#endpoints]] : []
  }

  /**
   * @throws NotAllowed: what is sent to an endpoint that is no more waits in the outbox for ever
   */
  #mustBeHere({ endpoint }: KnownLetter): void {
    if (this.#endpoints && !this.#endpoints.includes(endpoint)) {
      throw new NotAllowed(
        `Its endpoint ${endpoint} is not here (${this.#endpoints.join(', ')} ${this.#endpoints.length > 1 ? 'are' : 'is'}): nobody would take it`
      )
    }
  }
}

/** The ids of the first letters, as many as one transaction takes. */
function firstOf(letters: readonly { id: string; bytes: number }[]): string[] {
  let bytes = 0
  const end = letters.findIndex(
    (letter, index) => (bytes += letter.bytes) > MOST_BYTES && index > 0
  )
  return (end < 0 ? letters : letters.slice(0, end)).map(({ id }) => id)
}

const NONE_LEFT: Left = { left: 0, atLeast: false }

/** A group retry as it stands. */
async function readGroup(database: DataSource | Tx, id: number): Promise<GroupRow | undefined> {
  const [row]: GroupRow[] = await database.query(`${GROUP} where retry.id = $1`, [id])
  return row
}

async function lockLetter(tx: Tx, id: number): Promise<WholeLetter | undefined> {
  const [letter]: WholeLetter[] = await tx.query(
    `select ${WHOLE} from dead_letter where id = $1 for update`,
    [id]
  )
  return letter
}

/** @throws NotAllowed when the letter has ended, or was sent back and may yet end */
function mustBeOpen({ status, is_lost: isLost, retrying_since: since }: KnownLetter): void {
  if (status === 'handled') throw new NotAllowed('It has been handled since')
  if (status === 'undone') throw new NotAllowed('What it belongs to was undone')
  if (status !== 'retrying' || isLost) return
  const later = new Date(since.getTime() + LOST_AFTER_MINUTES * 60_000)
  throw new NotAllowed(
    `It is being retried, since ${since.toISOString()}: wait until it is handled or has failed again. If nothing is heard of it until ${later.toISOString()}, it may be sent back again, or deleted`
  )
}

async function audit(
  tx: Tx,
  action: 'retry' | 'delete' | 'restore' | 'undo',
  letters: readonly KnownLetter[],
  more: object
): Promise<void> {
  await tx.query(
    `
      insert into dead_letter_audit (dead_letter_id, action, message_id, details) select *
        from unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[])`,
    [
      letters.map(({ id }) => id),
      letters.map(() => action),
      letters.map((letter) => letter.message_id),
      letters.map(
        ({
          endpoint,
          exception,
          reason,
          message_type: type,
          seen,
          first_seen_at: firstSeenAt,
          last_seen_at: lastSeenAt
        }) =>
          JSON.stringify({
            ...more,
            endpoint,
            type,
            exception,
            reason,
            seen,
            firstSeenAt,
            lastSeenAt
          })
      )
    ]
  )
}
