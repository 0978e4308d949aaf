import type { Database } from '../postgres/database.ts'
import type { Log } from '../async/log.ts'
import { Loop } from '../async/loop.ts'
import type { Worker } from '../async/worker.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { UNAUDITED, type Audit } from '../postgres/audit.ts'
import { boundedText } from '../postgres/bounded.ts'
import { retryConflicts } from '../postgres/retry-conflicts.ts'
import { ask, isConflict, isUnavailable, type Tx } from '../postgres/sql.ts'
import { WHOLE, type WholeLetter } from './known-letter.ts'
import {
  IS_LOST,
  isHere,
  LOST_AFTER_MINUTES,
  lookForOpen,
  type DeadLetterFilter,
  type Look
} from './list.ts'
import { sendBack } from './send-back.ts'

/** After so many letters it is waited for how all of them end: one, five, twenty, then the rest. */
const STEPS = [1, 6, 26]
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

export interface GroupRetriesOptions {
  /** The service's endpoints, whose letters it can send back; those of all when not given. */
  endpoints?: readonly string[]
  /** Endpoints of others, whose letters are collected here. */
  theirs?: readonly string[]
  /** Called when a group retry has begun: the loop that carries it out may be another's. */
  began?(): void
}

/** Sends all letters back that fit a filter, a few first: what fails again ends it. */
export class GroupRetries implements Worker {
  readonly #database: Database
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #endpoints: readonly string[] | undefined
  readonly #theirs: readonly string[]
  readonly #began: () => void
  readonly #loop: Loop

  constructor(
    database: Database,
    outbox: Outbox,
    log: Log,
    { endpoints, theirs = [], began }: GroupRetriesOptions = {}
  ) {
    this.#database = database
    this.#outbox = outbox
    this.#log = log
    this.#endpoints = endpoints && [...endpoints, ...theirs]
    this.#theirs = theirs
    this.#began = began ?? (() => this.wake())
    this.#loop = new Loop({
      round: async () => ((await this.runOnce()) ? TICK_MS : POLL_MS),
      failed: (error) =>
        log.warn({ err: error }, 'Dead letters could not be sent back; trying again'),
      minMs: 500,
      maxMs: 10_000
    })
  }

  /**
   * Begins to send back all letters that wait and fit, a few first. Returns the id to follow it by.
   */
  async begin(
    filter: DeadLetterFilter,
    perSecond: number,
    audited: Audit = UNAUDITED
  ): Promise<number> {
    const id = await this.#outbox.transaction(async (tx) => {
      const [row]: { id: number }[] = await ask(
        tx,
        'insert into dead_letter_retry (filter, per_second) values ($1, $2) returning id::float8 as id',
        [JSON.stringify(filter), perSecond]
      )
      audited(tx, `group retry ${row!.id}`)
      return row!.id
    })
    this.#began()
    return id
  }

  async get(id: number): Promise<GroupRetry | undefined> {
    const row = await readGroup(this.#database, id)
    return row && this.#withRest(row)
  }

  /** Newest first. */
  async list(limit: number): Promise<GroupRetry[]> {
    const rows: GroupRow[] = await this.#database.rows(`${GROUP} order by retry.id desc limit $1`, [
      limit
    ])
    const retries: GroupRetry[] = []
    // One after the other: each may count many letters, and the pool is the handlers' too.
    for (const row of rows) retries.push(await this.#withRest(row))
    return retries
  }

  /**
   * Ends a running group retry; what is under way goes on.
   * @param why as the group retry shows it
   * @returns whether there was one
   */
  end(id: number, why: string, audited: Audit = UNAUDITED): Promise<boolean> {
    return retryConflicts(() =>
      this.#outbox.transaction(async (tx) => {
        const running = await ask(
          tx,
          `select from dead_letter_retry where id = $1 and state = 'running' for update`,
          [id]
        )
        if (running.length === 0) return false
        await this.#endGroup(tx, (await readGroup(tx, id))!, 'stopped', why)
        audited(tx)
        return true
      })
    )
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
    const running: { id: number }[] = await this.#database.rows(
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
        await this.#database.rows(
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
    const [locked]: { sinceMs: number | null; startedAt: Date }[] = await ask(
      tx,
      `
        select extract(epoch from clock_timestamp() - sent_at)::float8 * 1000 as "sinceMs",
          started_at as "startedAt" from dead_letter_retry where id = $1 and state = 'running'
          for update skip locked`,
      [id]
    )
    if (!locked) return
    await ask(tx, SETTLE, [id])
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
    const gate = STEPS.find((end) => end > handled + failed)
    const wanted = gate === undefined ? pace : gate - sent
    const room = Math.min(wanted, MOST_UNDER_WAY - underWay - lost)
    if (room < 1) return
    const { window, condition, values, end, windowValues } = this.#leftOf(retry)
    const fitting: { id: string; bytes: number }[] = await ask(
      tx,
      `
        select id, octet_length(payload) as bytes from (${window}) as looked_at where ${condition}
          order by looked_at.id limit ${room}`,
      values
    )
    const chosen = firstOf(fitting)
    const [last]: { id: number }[] =
      fitting.length < room && chosen.length === fitting.length
        ? await ask(tx, end, windowValues)
        : []
    const position = last?.id ?? chosen.at(-1)
    if (position !== undefined)
      await ask(tx, 'update dead_letter_retry set position = $2 where id = $1', [id, position])
    // Somebody may have taken one in hand in between.
    const letters: WholeLetter[] = await ask(
      tx,
      `
        select ${WHOLE} from dead_letter where id = any($1) and (status = 'waiting' or ${IS_LOST})
          order by id for update`,
      [chosen]
    )
    if (letters.length > 0) {
      await sendBack(this.#outbox, tx, letters, id, this.#theirs)
      await ask(tx, 'update dead_letter_retry set sent_at = clock_timestamp() where id = $1', [id])
    } else if (position === undefined && underWay === 0)
      await this.#endGroup(tx, retry, 'done', null)
  }

  async #withRest({ outcome, position, ...row }: GroupRow): Promise<GroupRetry> {
    const left =
      row.state === 'done'
        ? NONE_LEFT
        : outcome?.left === undefined
          ? await this.#countLeft(this.#database, { ...row, position })
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
    await ask(
      tx,
      'update dead_letter_retry set state = $2, reason = $3, outcome = $4, ended_at = now() where id = $1',
      [id, state, reason, JSON.stringify(outcome)]
    )
  }

  async #countLeft(
    database: Database | Tx,
    group: Pick<GroupRow, 'position' | 'startedAt' | 'filter'>
  ): Promise<Left> {
    const { window, condition, values, end, windowValues } = this.#leftOf(group)
    const [counted]: { left: number }[] = await ask(
      database,
      `select count(*)::integer as left from (${window}) as looked_at where ${condition}`,
      values
    )
    const more: unknown[] = await ask(database, end, windowValues)
    return { left: counted!.left, atLeast: more.length > 0 }
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
    return lookForOpen(
      filter,
      position,
      ['last_seen_at <= ?', startedAt],
      ...isHere(this.#endpoints)
    )
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
async function readGroup(database: Database | Tx, id: number): Promise<GroupRow | undefined> {
  const [row]: GroupRow[] = await ask(database, `${GROUP} where retry.id = $1`, [id])
  return row
}
