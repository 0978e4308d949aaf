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
  exception, reason, seen, first_seen_at as "firstSeenAt", last_seen_at as "lastSeenAt", octet_length(payload) as bytes`

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

/** Newest first. @param before only letters with a smaller id */
export async function listDeadLetters(dataSource: DataSource, filter: DeadLetterFilter, limit: number, before?: number): Promise<DeadLetterSummary[]> {
  const { sql, values } = conditionOf(filter, ...(before === undefined ? [] : [['id < ?', before] as [string, unknown]]))
  const rows: DeadLetterSummary[] = await dataSource.query(`select ${SUMMARY} from dead_letter where ${sql} order by dead_letter.id desc limit ${limit}`, values)
  return rows.map(withTexts)
}

/** Letters counted by what they are and why they failed, most first. */
export async function groupDeadLetters(dataSource: DataSource, filter: DeadLetterFilter): Promise<DeadLetterGroup[]> {
  const { sql, values } = conditionOf(filter)
  const rows: (DeadLetterGroup & { oldest: Date | string; newest: Date | string })[] = await dataSource.query(
    `select kind, status, message_type as type, exception, count(*)::integer as count, min(first_seen_at) as oldest, max(last_seen_at) as newest,
       (array_agg(reason order by id desc))[1] as reason
     from dead_letter where ${sql} group by kind, status, message_type, exception order by count desc, exception limit 200`,
    values
  )
  return rows.map((row) => ({ ...row, oldest: isoTime(row.oldest), newest: isoTime(row.newest) }))
}

/** One letter with everything that is known of it. */
export async function readDeadLetter(dataSource: DataSource, id: number): Promise<DeadLetterDetail | undefined> {
  const [row]: DeadLetterDetail[] = await dataSource.query(`select ${SUMMARY}, stack, attempts, headers, content_type as "contentType", payload from dead_letter where id = $1`, [id])
  return row && withTexts(row)
}

function withTexts<T extends DeadLetterSummary>(row: T): T {
  return { ...row, firstSeenAt: isoTime(row.firstSeenAt), lastSeenAt: isoTime(row.lastSeenAt) }
}

function isoTime(time: Date | string): string {
  return new Date(time).toISOString()
}
