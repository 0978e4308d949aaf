import type { Database } from '../../messaging/postgres/database.ts'
import { ask, transaction } from '../../messaging/postgres/sql.ts'
import type { SagaRow } from './rows.ts'

/**
 * Rows that one statement looks through, newest first: it ends in time, however few of millions
 * fit.
 */
const WINDOW = 100_000

export interface StoredSaga extends SagaRow {
  created_at: Date
  updated_at: Date
}

/** What a list of stuck instances is read on from. */
export interface StuckCursor {
  stuckSince: string
  sagaId: string
}

export interface ListFilter {
  /** A state, or a top-level state for all inside it. */
  state?: string
  limit: number
  /** Only instances with a smaller id. */
  before?: string
}

export const COLUMNS =
  'saga_id, key, state, value, context, version, timers, machine_version, deferred, stuck_since, last_error, created_at, updated_at'

const IN_STATE = `($2::text is null or state = $2 or starts_with(state, $2 || '.'))`
const BEFORE = `($3::uuid is null or saga_id < $3)`

const NEWEST = `
  select ${COLUMNS} from (select ${COLUMNS} from saga where saga = $1 and ${BEFORE}
    order by saga_id desc limit ${WINDOW}) as newest
  where ${IN_STATE} order by saga_id desc limit $4`

/** The oldest of so many rows before an id, newest first; none when there are fewer. */
export function endOfWindow(rows: number): string {
  return `select saga_id, created_at from saga where saga = $1 and ($2::uuid is null or saga_id < $2) order by saga_id desc offset ${rows - 1} limit 1`
}

const END = endOfWindow(WINDOW)

// Small partial indexes hold the instances with a timer and those that are stuck. `saga || ''`, and
// no order, keep the planner from the primary key, which leads past all that have ended and which
// it likes better while there are no statistics.
const HAVE_TIMERS = `saga || '' = $1 and next_timer_at is not null`
const STUCK_WITHOUT = `saga || '' = $1 and next_timer_at is null and stuck_since is not null`

const WAITING = `
  with waiting as materialized (
    select ${COLUMNS} from saga where ${HAVE_TIMERS} and ${IN_STATE} and ${BEFORE}
    union all
    select ${COLUMNS} from saga where ${STUCK_WITHOUT} and ${IN_STATE} and ${BEFORE}
  )
  select * from waiting order by saga_id desc limit $4`

const STUCK = `
  select ${COLUMNS} from saga
  where saga = $1 and stuck_since is not null and ${IN_STATE} and ($3::timestamptz is null
    or (stuck_since, saga_id) > ($3, $4::uuid))
  order by stuck_since, saga_id limit $5`

const COUNT = `
  select state, count(*)::integer as count, count(stuck_since)::integer as stuck from (
    select state, stuck_since from saga where ${HAVE_TIMERS}
    union all
    select state, stuck_since from saga where ${STUCK_WITHOUT}
    union all
    select state, stuck_since from (select state, stuck_since, next_timer_at from saga
      where saga = $1 order by saga_id desc limit ${WINDOW}) as newest where next_timer_at is null
      and stuck_since is null
  ) as counted
  group by state order by state`

/**
 * Instances, newest first.
 * @returns `readOn` when fewer than asked for were found and there are older ones that were not
 * looked at: the id before which to go on
 */
export async function listNewest(
  database: Database,
  saga: string,
  { state, limit, before }: ListFilter
): Promise<{ rows: StoredSaga[]; readOn?: string }> {
  // Both see one moment: what is placed in between would move the end of the window.
  return transaction(
    database,
    async (tx) => {
      const rows: StoredSaga[] = await ask(tx, NEWEST, [saga, state ?? null, before ?? null, limit])
      if (rows.length === limit) return { rows }
      const [end]: { saga_id: string }[] = await ask(tx, END, [saga, before ?? null])
      return { rows, readOn: end?.saga_id }
    },
    { isolation: 'repeatable read' }
  )
}

/**
 * Instances in a state that always has a timer, newest first: as many as that are waiting are
 * looked at, and no others.
 */
export function listWaiting(
  database: Database,
  saga: string,
  { state, limit, before }: ListFilter
): Promise<StoredSaga[]> {
  return database.rows(WAITING, [saga, state ?? null, before ?? null, limit])
}

/**
 * Those whose deadline passed without bringing another state, or that today's machine cannot move;
 * stalest first.
 */
export function listStuck(
  database: Database,
  saga: string,
  { state, limit, after }: { state?: string; limit: number; after?: StuckCursor }
): Promise<StoredSaga[]> {
  return database.rows(STUCK, [
    saga,
    state ?? null,
    after?.stuckSince ?? null,
    after?.sagaId ?? null,
    limit
  ])
}

export interface SagaCounts {
  /** All that have a timer or are stuck, and whatever else is among the newest. */
  byState: Record<string, number>
  stuck: number
  /** When the oldest of the newest was created; null: they are all that there are. */
  endedSince: string | null
}

/**
 * How many instances rest in each state. Those that wait are counted all; of the others, those
 * among the newest 100,000.
 */
export async function countByState(database: Database, saga: string): Promise<SagaCounts> {
  const rows: { state: string; count: number; stuck: number }[] = await database.rows(COUNT, [saga])
  const [end]: { created_at: Date }[] = await database.rows(END, [saga, null])
  return {
    byState: Object.fromEntries(rows.map(({ state, count }) => [state, count])),
    stuck: rows.reduce((sum, { stuck }) => sum + stuck, 0),
    endedSince: end?.created_at.toISOString() ?? null
  }
}
