import type { DataSource } from 'typeorm'
import type { FailedAttempt } from './failure.ts'

/** Which letters: all that are given must fit. */
export interface DeadLetterFilter {
  kind?: 'error' | 'skipped'
  status?: 'waiting' | 'retrying' | 'handled'
  type?: string
  exception?: string
  /** A part of the reason. */
  reason?: string
  messageId?: string
  correlationId?: string
  /** When it was last seen, ISO 8601. */
  from?: string
  to?: string
}

export interface DeadLetterSummary {
  id: number
  endpoint: string
  kind: string
  status: string
  messageId: string | null
  type: string | null
  correlationId: string | null
  exception: string
  reason: string
  seen: number
  firstSeenAt: string
  lastSeenAt: string
  bytes: number
  /** Since when it is being retried, where that is known. */
  retryingSince: string | null
}

export interface DeadLetterDetail extends DeadLetterSummary {
  stack: string | null
  attempts: FailedAttempt[]
  headers: Record<string, unknown>
  contentType: string | null
  payload: Buffer
}

export interface DeadLetterGroup {
  kind: string
  status: string
  type: string | null
  exception: string
  count: number
  oldest: string
  newest: string
  /** One of the reasons. */
  reason: string
}

const SUMMARY = `id::float8 as id, endpoint, kind, status, message_id as "messageId", message_type as type, correlation_id as "correlationId",
  exception, reason, seen, first_seen_at as "firstSeenAt", last_seen_at as "lastSeenAt", octet_length(payload) as bytes,
  case status when 'retrying' then retrying_since end as "retryingSince"`

const CONDITIONS: Record<keyof DeadLetterFilter, (parameter: string) => string> = {
  kind: (parameter) => `kind = ${parameter}`,
  status: (parameter) => `status = ${parameter}`,
  type: (parameter) => `message_type = ${parameter}`,
  exception: (parameter) => `exception = ${parameter}`,
  reason: (parameter) => `strpos(lower(reason), lower(${parameter})) > 0`,
  messageId: (parameter) => `message_id = ${parameter}`,
  correlationId: (parameter) => `correlation_id = ${parameter}`,
  from: (parameter) => `last_seen_at >= ${parameter}::timestamptz`,
  to: (parameter) => `last_seen_at < ${parameter}::timestamptz`
}

/** A condition and its values. Only what is asked for is in it: an index cannot serve `$1 is null or …`. */
export interface Condition {
  sql: string
  values: unknown[]
}

/** The condition of a filter, and of more that has to hold; `?` stands for the value of each of those. */
export function conditionOf(filter: DeadLetterFilter, ...more: [sql: string, value: unknown][]): Condition {
  const values: unknown[] = []
  const parameter = (value: unknown) => `$${values.push(value)}`
  const parts = [
    ...(Object.keys(CONDITIONS) as (keyof DeadLetterFilter)[]).flatMap((key) => (filter[key] === undefined ? [] : [CONDITIONS[key](parameter(filter[key]))])),
    ...more.map(([sql, value]) => sql.replace('?', () => parameter(value)))
  ]
  return { sql: parts.length > 0 ? parts.join(' and ') : 'true', values }
}

/** Letters that one statement looks through, newest first: it ends in time, however few of millions fit. */
const WINDOW = 100_000

/**
 * The window in which a filter looks, and what has to hold in it. An index leads to a type and to those that wait; ids are found without a window.
 */
function windowOf(filter: DeadLetterFilter, before?: number): { window: string; sql: string; values: unknown[] } {
  const { type, status, ...rest } = filter
  const isExact = filter.messageId !== undefined || filter.correlationId !== undefined
  const inner = isExact ? filter : { type, ...(status === 'waiting' && { status }) }
  const lower: [sql: string, value: unknown][] = before === undefined ? [] : [['id < ?', before]]
  const window = conditionOf(inner, ...lower)
  const outer = isExact ? { sql: 'true', values: [] } : conditionOf({ ...rest, ...(status !== 'waiting' && { status }) })
  const shifted = outer.sql.replaceAll(/\$(\d+)/g, (_, n: string) => `$${Number(n) + window.values.length}`)
  return { window: `select * from dead_letter where ${window.sql} order by dead_letter.id desc limit ${WINDOW}`, sql: shifted, values: [...window.values, ...outer.values] }
}

/** The oldest letter of a full window; none when it holds all that there are. */
async function endOf(dataSource: DataSource, window: string, values: unknown[]): Promise<{ id: number; at: string } | undefined> {
  const [end]: { id: number; at: Date }[] = await dataSource.query(`select id::float8 as id, first_seen_at as at from (${window}) as newest offset ${WINDOW - 1} limit 1`, values)
  return end && { id: end.id, at: isoTime(end.at) }
}

/**
 * Newest first.
 * @param before only letters with a smaller id
 * @returns `readOn` when fewer than asked for were found and there are older ones that were not looked at: the id before which to go on
 */
export async function listDeadLetters(dataSource: DataSource, filter: DeadLetterFilter, limit: number, before?: number): Promise<{ letters: DeadLetterSummary[]; readOn?: number }> {
  const { window, sql, values } = windowOf(filter, before)
  const rows: DeadLetterSummary[] = await dataSource.query(`select ${SUMMARY} from (${window}) as dead_letter where ${sql} order by dead_letter.id desc limit ${limit}`, values)
  const letters = rows.map(withTexts)
  if (letters.length >= limit) return { letters }
  const end = await endOf(dataSource, window, values.slice(0, parametersIn(window)))
  return { letters, readOn: end?.id }
}

function parametersIn(sql: string): number {
  return new Set(sql.match(/\$\d+/g)).size
}

/**
 * Letters counted by what they are and why they failed, most first.
 * @returns `since` when there are older ones that were not looked at: when the oldest of those that were was first seen
 */
export async function groupDeadLetters(dataSource: DataSource, filter: DeadLetterFilter): Promise<{ groups: DeadLetterGroup[]; since: string | null }> {
  const { window, sql, values } = windowOf(filter)
  const rows: (DeadLetterGroup & { oldest: Date | string; newest: Date | string })[] = await dataSource.query(
    `select kind, status, message_type as type, exception, count(*)::integer as count, min(first_seen_at) as oldest, max(last_seen_at) as newest,
       (array_agg(reason order by id desc))[1] as reason
     from (${window}) as dead_letter where ${sql} group by kind, status, message_type, exception order by count desc, exception limit 200`,
    values
  )
  const groups = rows.map((row) => ({ ...row, oldest: isoTime(row.oldest), newest: isoTime(row.newest) }))
  const end = await endOf(dataSource, window, values.slice(0, parametersIn(window)))
  return { groups, since: end?.at ?? null }
}

export interface DeletedLetter extends Omit<DeadLetterSummary, 'status' | 'retryingSince'> {
  why: string | null
  deletedAt: string
}

/** Deleted letters that can be brought back, newest first. @param before only letters with a smaller id */
export async function listDeleted(dataSource: DataSource, limit: number, before?: number): Promise<DeletedLetter[]> {
  const rows: (Omit<DeletedLetter, 'deletedAt'> & { deletedAt: Date })[] = await dataSource.query(
    `select deleted.id::float8 as id, endpoint, kind, message_id as "messageId", message_type as type, correlation_id as "correlationId",
       exception, reason, seen, first_seen_at as "firstSeenAt", last_seen_at as "lastSeenAt", octet_length(deleted.payload) as bytes, why, deleted_at as "deletedAt"
     from dead_letter_deleted as deleted, jsonb_populate_record(null::dead_letter, letter) as letter
     where $1::bigint is null or deleted.id < $1 order by deleted.id desc limit $2`,
    [before ?? null, limit]
  )
  return rows.map((row) => ({ ...row, firstSeenAt: isoTime(row.firstSeenAt), lastSeenAt: isoTime(row.lastSeenAt), deletedAt: isoTime(row.deletedAt) }))
}

/** How many letters fit a condition, of the newest that it leads to. */
export async function countLetters(dataSource: DataSource, { sql, values }: Condition): Promise<number> {
  const [{ count }]: [{ count: number }] = await dataSource.query(`select count(*)::integer as count from (select from dead_letter where ${sql} limit ${WINDOW}) as found`, values)
  return count
}

/** One letter with everything that is known of it. */
export async function readDeadLetter(dataSource: DataSource, id: number): Promise<DeadLetterDetail | undefined> {
  const [row]: DeadLetterDetail[] = await dataSource.query(`select ${SUMMARY}, stack, attempts, headers, content_type as "contentType", payload from dead_letter where id = $1`, [id])
  return row && withTexts(row)
}

function withTexts<T extends DeadLetterSummary>(row: T): T {
  const retryingSince = row.retryingSince === null ? null : isoTime(row.retryingSince)
  return { ...row, firstSeenAt: isoTime(row.firstSeenAt), lastSeenAt: isoTime(row.lastSeenAt), retryingSince }
}

function isoTime(time: Date | string): string {
  return new Date(time).toISOString()
}
