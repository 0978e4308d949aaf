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

/** The SQL condition of a filter given as JSON in parameter `$n`. */
export function filterCondition(n: number): string {
  const field = (name: string) => `($${n}::jsonb ->> '${name}')`
  const equal = (column: string, name: string) => `(${field(name)} is null or ${column} = ${field(name)})`
  return [
    equal('kind', 'kind'),
    equal('status', 'status'),
    equal('message_type', 'type'),
    equal('exception', 'exception'),
    equal('message_id', 'messageId'),
    equal('correlation_id', 'correlationId'),
    `(${field('reason')} is null or strpos(lower(reason), lower(${field('reason')})) > 0)`,
    `(${field('from')} is null or last_seen_at >= ${field('from')}::timestamptz)`,
    `(${field('to')} is null or last_seen_at < ${field('to')}::timestamptz)`
  ].join(' and ')
}

/** Newest first. @param before only letters with a smaller id */
export async function listDeadLetters(dataSource: DataSource, filter: DeadLetterFilter, limit: number, before?: number): Promise<DeadLetterSummary[]> {
  const rows: DeadLetterSummary[] = await dataSource.query(
    `select ${SUMMARY} from dead_letter where ${filterCondition(1)} and ($2::bigint is null or id < $2) order by id desc limit $3`,
    [JSON.stringify(filter), before ?? null, limit]
  )
  return rows.map(withTexts)
}

/** Letters counted by what they are and why they failed, most first. */
export async function groupDeadLetters(dataSource: DataSource, filter: DeadLetterFilter): Promise<DeadLetterGroup[]> {
  const rows: (DeadLetterGroup & { oldest: Date | string; newest: Date | string })[] = await dataSource.query(
    `select kind, status, message_type as type, exception, count(*)::integer as count, min(first_seen_at) as oldest, max(last_seen_at) as newest,
       (array_agg(reason order by id desc))[1] as reason
     from dead_letter where ${filterCondition(1)} group by kind, status, message_type, exception order by count desc, exception limit 200`,
    [JSON.stringify(filter)]
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
