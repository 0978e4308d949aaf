import type { Message } from '../../messaging/message/message.ts'
import {
  joinJson,
  jsonTexts,
  run,
  statement,
  write,
  type Tx
} from '../../messaging/postgres/sql.ts'
import type { PendingTimer } from '../define.ts'
import { shortText } from '../machine/error-text.ts'
import type { SagaEvent } from '../machine/step.ts'

/**
 * An event that came too early, with what the messages that it will cause need of the one that
 * brought it.
 */
export interface DeferredEvent extends Partial<Pick<Message, 'conversationId' | 'correlationId'>> {
  event: SagaEvent
  messageId: string | null
  headers: Message['headers']
  /** When it came, ISO 8601; instances of 0.1 do not tell. */
  at?: string
}

/** What went wrong with something that an instance waits for. */
export interface LastError {
  /** ISO 8601. */
  at: string
  message: string
  /** The message that could not be handled; null when the machine itself cannot move. */
  type: string | null
}

export interface SagaRow {
  saga_id: string
  /** The text that saga_id is derived from; null: messages name the instance by saga_id itself. */
  key: string | null
  state: string
  /** The state as XState writes it. */
  value: unknown
  context: Record<string, unknown>
  /** Number of recorded steps. */
  version: number
  timers: PendingTimer[]
  /** Version of the machine that moves it. */
  machine_version: number
  deferred: DeferredEvent[] | null
  /** When a deadline first passed without bringing another state. */
  stuck_since: Date | null
  last_error: LastError | null
}

export interface HistoryRow {
  saga_id: string
  sequence: number
  event: string
  body: Record<string, unknown>
  message_id: string | null
  from_state: string | null
  to_state: string
  sent: { type: string; messageId: string }[]
  note: string | null
  /** Version of the machine that made the step. */
  machine_version: number
}

const MOVED = `saga_id, state, value, context, version, timers`
const COLUMNS = `${MOVED}, key, machine_version, deferred, stuck_since, last_error`

// As a number: to read a time out of each row's text took 5 µs an order.
const LOCKED_COLUMNS = `${COLUMNS}, ctid::text as ctid, floor(extract(epoch from now()) * 1000)::float8 as now_ms`

// In id order: two batches that share instances wait for each other instead of deadlocking.
const LOCK = statement(
  `
    select ${LOCKED_COLUMNS} from saga where saga = $1 and saga_id = any($2::uuid[])
      order by saga_id for update`
)

// `skip locked` waits for nothing: an instance that an event is moving right now is looked at again
// next time.
const LOCK_DUE = statement(`
  select ${LOCKED_COLUMNS} from saga
  where saga = $1 and next_timer_at <= now() order by next_timer_at limit $2
    for update skip locked`)

// As many as are due may be looked at one by one, and each may wait for somebody else's lock.
const DUE = statement(
  `
    select saga_id from saga where saga = $1 and next_timer_at <= now() order by next_timer_at
      limit $2`
)
const LOCK_IF_DUE = statement(`
  select ${LOCKED_COLUMNS} from saga where saga = $1 and saga_id = $2 and next_timer_at <= now()
    for update skip locked`)
const SHORT_WAITS = statement(`select set_config('lock_timeout', '500ms', true)`)

// Timers of an instance that today's machine cannot move: they must not stand in the way of the
// others. The pause is as long as it has been stuck, so that it doubles.
const POSTPONE = statement(`
  update saga set
    next_timer_at = now() + least(greatest(now() - coalesce(stuck_since, now()), interval '1 minute'), interval '15 minutes'),
    stuck_since = coalesce(stuck_since, date_trunc('milliseconds', now())), last_error = error
  from unnest($2::uuid[], ${jsonTexts(3)}::jsonb[]) as failed (id, error)
  where saga = $1 and saga_id = id`)

const FAIL = statement(`
  update saga set last_error = failed.error from unnest($1::tid[],
    ${jsonTexts(2)}::jsonb[]) as failed (ctid, error) where saga.ctid = failed.ctid`)

const NEXT_TIMER = statement(
  `
    select extract(epoch from min(next_timer_at) - now()) * 1000 as ms from saga where saga = $1
      and next_timer_at is not null`
)

const INSERT = statement(`
  insert into saga (saga, ${MOVED}, next_timer_at, machine_version)
  select $1, *, $9 from unnest($2::uuid[], $3::text[], ${jsonTexts(4)}::jsonb[],
    ${jsonTexts(5)}::jsonb[], $6::integer[], ${jsonTexts(7)}::jsonb[], $8::timestamptz[])`)

const INSERT_WITH_KEYS = statement(`
  insert into saga (saga, ${MOVED}, next_timer_at, key, machine_version)
  select $1, *, $9 from unnest($2::uuid[], $3::text[], ${jsonTexts(4)}::jsonb[],
    ${jsonTexts(5)}::jsonb[], $6::integer[], ${jsonTexts(7)}::jsonb[], $8::timestamptz[], $10::text[])`)

// Each row is found where it was locked: joined by key to a list of values, the same update took 8
// ms instead of 2 whenever its plan looked every key up in the list again.
const UPDATE = statement(`
  update saga set state = moved.state, value = moved.value, context = moved.context,
    version = moved.version,
    timers = moved.timers, next_timer_at = moved.next_timer_at, updated_at = now()
  from unnest($1::tid[], $2::text[], ${jsonTexts(3)}::jsonb[], ${jsonTexts(4)}::jsonb[],
    $5::integer[], ${jsonTexts(6)}::jsonb[], $7::timestamptz[])
    as moved (ctid, state, value, context, version, timers, next_timer_at)
  where saga.ctid = moved.ctid`)

// What hardly any instance has: written with every move, it cost a tenth of the transitions a
// second.
const UPDATE_TROUBLES = statement(`
  update saga set deferred = troubled.deferred, stuck_since = troubled.stuck_since,
    last_error = troubled.last_error
  from unnest($2::uuid[], $3::jsonb[], $4::timestamptz[], $5::jsonb[]) as troubled (saga_id,
    deferred, stuck_since, last_error)
  where saga = $1 and saga.saga_id = troubled.saga_id`)

const UPDATE_MACHINE_VERSION = statement(
  `update saga set machine_version = $3 where saga = $1 and saga_id = any($2::uuid[])`
)

const INSERT_HISTORY = statement(`
  insert into saga_history (saga, saga_id, sequence, event, body, message_id, from_state, to_state,
    sent, machine_version)
  select $1, *, $10 from unnest($2::uuid[], $3::integer[], $4::text[], ${jsonTexts(5)}::jsonb[],
    $6::uuid[], $7::text[], $8::text[], ${jsonTexts(9)}::jsonb[])`)

const INSERT_HISTORY_WITH_NOTES = statement(`
  insert into saga_history (saga, saga_id, sequence, event, body, message_id, from_state, to_state,
    sent, note, machine_version)
  select $1, *, $10 from unnest($2::uuid[], $3::integer[], $4::text[], ${jsonTexts(5)}::jsonb[],
    $6::uuid[], $7::text[], $8::text[], ${jsonTexts(9)}::jsonb[], $11::text[])`)

export interface LockedRow extends SagaRow {
  /** Where the locked row is, until the transaction ends. */
  ctid: string
  /** The database's time, the same in all rows of a transaction. */
  now_ms: number
}

export function lockInstances(tx: Tx, saga: string, ids: readonly string[]): Promise<LockedRow[]> {
  return run<LockedRow>(tx, LOCK, [saga, ids])
}

export function lockDue(tx: Tx, saga: string, limit: number): Promise<LockedRow[]> {
  return run<LockedRow>(tx, LOCK_DUE, [saga, limit])
}

/** Ids of instances with a timer that is due, those first that have been so for longest. */
export async function dueInstances(tx: Tx, saga: string, limit: number): Promise<string[]> {
  return (await run<{ saga_id: string }>(tx, DUE, [saga, limit])).map((row) => row.saga_id)
}

/**
 * The instance, when it is still due and nobody else has it; the transaction then waits for no lock
 * for long.
 */
export async function lockIfDue(
  tx: Tx,
  saga: string,
  sagaId: string
): Promise<LockedRow | undefined> {
  await run(tx, SHORT_WAITS, [])
  return (await run<LockedRow>(tx, LOCK_IF_DUE, [saga, sagaId]))[0]
}

export function postponeTimers(
  tx: Tx,
  saga: string,
  failed: readonly { sagaId: string; error: LastError }[]
): void {
  void write(tx, POSTPONE, [
    saga,
    failed.map(({ sagaId }) => sagaId),
    joinJson(failed.map(({ error }) => errorJson(error)))
  ])
}

export function recordErrors(
  tx: Tx,
  failed: readonly { locked: LockedRow; error: LastError }[]
): void {
  void write(tx, FAIL, [
    failed.map(({ locked }) => locked.ctid),
    joinJson(failed.map(({ error }) => errorJson(error)))
  ])
}

/** What others write into a fault, or throw, need not be short, nor text that PostgreSQL takes. */
function errorJson({ at, message, type }: LastError): string {
  return JSON.stringify({
    at: shortText(at),
    message: shortText(message),
    type: type && shortText(type)
  })
}

/**
 * Milliseconds until the next timer is due, negative when overdue; undefined when none is pending.
 */
export async function untilNextTimer(tx: Tx, saga: string): Promise<number | undefined> {
  const [row] = await run<{ ms: string | null }>(tx, NEXT_TIMER, [saga])
  return row?.ms == null ? undefined : Number(row.ms)
}

/** Rows of one version of the machine. */
export function insertInstances(tx: Tx, saga: string, rows: readonly SagaRow[]): void {
  if (rows.length === 0) return
  const values = [saga, rows.map((row) => row.saga_id), ...columns(rows), rows[0]!.machine_version]
  if (rows.every(({ key }) => key === null)) void write(tx, INSERT, values)
  else void write(tx, INSERT_WITH_KEYS, [...values, rows.map(({ key }) => key)])
}

/** @param locked the same instances as they were locked, in the same order */
export function updateInstances(
  tx: Tx,
  saga: string,
  locked: readonly LockedRow[],
  rows: readonly SagaRow[]
): void {
  void write(tx, UPDATE, [locked.map(({ ctid }) => ctid), ...columns(rows)])
  const migrated = rows.filter(
    (row, index) => row.machine_version !== locked[index]!.machine_version
  )
  // All to the same one: today's.
  if (migrated.length > 0)
    void write(tx, UPDATE_MACHINE_VERSION, [
      saga,
      migrated.map((row) => row.saga_id),
      migrated[0]!.machine_version
    ])
  const troubled = rows.filter((row, index) => isTroubled(row) || isTroubled(locked[index]!))
  if (troubled.length === 0) return
  void write(tx, UPDATE_TROUBLES, [
    saga,
    troubled.map((row) => row.saga_id),
    troubled.map((row) => row.deferred && JSON.stringify(row.deferred)),
    troubled.map((row) => row.stuck_since),
    troubled.map((row) => row.last_error && JSON.stringify(row.last_error))
  ])
}

function isTroubled({
  deferred,
  stuck_since: stuckSince,
  last_error: lastError
}: SagaRow): boolean {
  return deferred !== null || stuckSince !== null || lastError !== null
}

function columns(rows: readonly SagaRow[]): unknown[] {
  return [
    rows.map((row) => row.state),
    joinJson(rows.map((row) => JSON.stringify(row.value))),
    joinJson(rows.map((row) => JSON.stringify(row.context))),
    rows.map((row) => row.version),
    joinJson(rows.map((row) => JSON.stringify(row.timers))),
    rows.map((row) => row.timers.map(({ dueAt }) => dueAt).toSorted()[0] ?? null)
  ]
}

export function insertHistory(tx: Tx, saga: string, rows: readonly HistoryRow[]): void {
  // Hardly ever more than one.
  const versions = new Set(rows.map((row) => row.machine_version))
  for (const version of versions)
    insertHistoryOf(
      tx,
      saga,
      version,
      versions.size === 1 ? rows : rows.filter((row) => row.machine_version === version)
    )
}

function insertHistoryOf(tx: Tx, saga: string, version: number, rows: readonly HistoryRow[]): void {
  const values = [
    saga,
    rows.map((row) => row.saga_id),
    rows.map((row) => row.sequence),
    rows.map((row) => row.event),
    joinJson(rows.map((row) => JSON.stringify(row.body))),
    rows.map((row) => row.message_id),
    rows.map((row) => row.from_state),
    rows.map((row) => row.to_state),
    joinJson(rows.map((row) => JSON.stringify(row.sent))),
    version
  ]
  const notes = rows.map((row) => row.note)
  if (notes.every((note) => note === null)) void write(tx, INSERT_HISTORY, values)
  else void write(tx, INSERT_HISTORY_WITH_NOTES, [...values, notes])
}
