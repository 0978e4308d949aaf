import type { Database } from './database.ts'

/** Rows that an export reads at once. */
const PAGE = 500

/** Which rows: all that are given must fit. */
export interface AuditFilter {
  actor?: string
  action?: string
  target?: string
  /** ISO 8601: at this time or later, and before that one. */
  from?: string
  to?: string
}

/** A row as people read it. */
export interface AuditRow {
  id: string
  at: string
  actor: string
  kind: string
  roles: string[]
  action: string
  target: string
  reason: string | null
  outcome: string
  status: number
  times: number
  requestId: string
}

/** One place in the list. */
export interface AuditPlace {
  /** Microseconds since 1970: a Date keeps milliseconds. */
  micros: string
  id: string
}

type Listed = AuditRow & AuditPlace

/** Newest first. */
export async function listAudit(
  database: Database,
  { actor, action, target, from, to }: AuditFilter,
  limit: number,
  before?: AuditPlace
): Promise<Listed[]> {
  const values: unknown[] = []
  const parameter = (value: unknown) => `$${values.push(value)}`
  const parts = ['true']
  if (actor !== undefined) parts.push(`actor = ${parameter(actor)}`)
  if (action !== undefined) parts.push(`action = ${parameter(action)}`)
  if (target !== undefined) parts.push(`target = ${parameter(target)}`)
  if (from !== undefined) parts.push(`at >= ${parameter(from)}::timestamptz`)
  if (to !== undefined) parts.push(`at < ${parameter(to)}::timestamptz`)
  if (before)
    parts.push(
      `(at, id) < ('epoch'::timestamptz + ${parameter(before.micros)}::bigint *
        interval '1 microsecond', ${parameter(before.id)}::bigint)`
    )
  const rows: (Omit<Listed, 'at'> & { at: Date })[] = await database.rows(
    `select id::text, at, actor, kind, roles, action, target, reason, outcome, status, times,
       request_id as "requestId", (extract(epoch from at) * 1000000)::bigint::text as micros
     from audit where ${parts.join(' and ')} order by audit.at desc, audit.id desc limit ${limit}`,
    values
  )
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }))
}

/** All rows that fit, newest first, one JSON object a line: a page is read when it is asked for. */
export async function* exportAudit(
  database: Database,
  filter: AuditFilter
): AsyncGenerator<string> {
  for (let before: AuditPlace | undefined; ;) {
    const page = await listAudit(database, filter, PAGE, before)
    yield page.map(({ micros: _micros, ...row }) => `${JSON.stringify(row)}\n`).join('')
    if (page.length < PAGE) return
    before = page.at(-1)!
  }
}
