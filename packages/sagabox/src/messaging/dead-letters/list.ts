import { idOfKey, textKey } from '../message/correlation.ts'
import type { Database } from '../postgres/database.ts'
import { ask, transaction } from '../postgres/sql.ts'
import { FIRST_ATTEMPTS, LAST_ATTEMPTS } from './letter.ts'
import { storedHeaders, type FailedAttempt } from './headers.ts'
import { namesOf, typeName } from '../message/type-name.ts'

/**
 * Letters that one statement looks through: it ends in time, however few of millions fit. They may
 * be large: a search in the reasons of so many takes half a second.
 */
const WINDOW = 50_000

/**
 * Minutes after which a letter that was sent back, and of which nothing was heard, may be taken in
 * hand again.
 */
export const LOST_AFTER_MINUTES = 10

/** Nothing was heard of it. A version without `retried_at` may have sent it back. */
export const IS_LOST = `(status = 'retrying' and coalesce(retried_at, last_seen_at) < now() - interval '${LOST_AFTER_MINUTES} minutes')`

/** Which letters: all that are given must fit. */
export interface DeadLetterFilter {
  kind?: 'error' | 'skipped'
  status?: 'waiting' | 'retrying' | 'handled' | 'undone'
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
  /** When it was sent back, while that has no outcome. */
  retryingSince: string | null
  bytes: number
}

export interface DeadLetterDetail extends DeadLetterSummary {
  stack: string | null
  /** The first and the last. */
  attempts: FailedAttempt[]
  attemptsLeftOut: number
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

const COLUMNS = `id::float8 as id, endpoint, kind, status, message_id as "messageId", message_type as type, correlation_id as "correlationId",
  exception, reason, seen, first_seen_at as "firstSeenAt", last_seen_at as "lastSeenAt", octet_length(payload) as bytes`
const SUMMARY = `${COLUMNS}, case when status = 'retrying' then coalesce(retried_at, last_seen_at) end as "retryingSince"`
const WHOLE = `stack, attempts, attempts_left_out as "attemptsLeftOut", headers, content_type as "contentType", payload`

const CONDITIONS: Record<keyof DeadLetterFilter, (parameter: string) => string> = {
  kind: (parameter) => `kind = ${parameter}`,
  status: (parameter) => `status = ${parameter}`,
  type: (parameter) => `message_type = any(${parameter})`,
  exception: (parameter) => `exception = ${parameter}`,
  reason: (parameter) => `strpos(lower(reason), lower(${parameter})) > 0`,
  messageId: (parameter) => `message_id = ${parameter}`,
  correlationId: (parameter) => `correlation_id = ${parameter}`,
  from: (parameter) => `last_seen_at >= ${parameter}::timestamptz`,
  to: (parameter) => `last_seen_at < ${parameter}::timestamptz`
}

/**
 * The condition of a filter, and of more that has to hold; `?` stands for the value of each of
 * those. Only what is asked for is in it: an index cannot serve `$1 is null or …`.
 * @param values those of the statement before it, to which its own are added
 */
function conditionOf(
  filter: DeadLetterFilter,
  values: unknown[],
  ...more: [sql: string, value: unknown][]
): string {
  const parameter = (value: unknown) => `$${values.push(value)}`
  const valueOf = (key: keyof DeadLetterFilter) =>
    key === 'type'
      ? namesOf(filter.type!)
      : key === 'correlationId'
        ? correlationOf(filter.correlationId!)
        : filter[key]
  const parts = [
    ...(Object.keys(CONDITIONS) as (keyof DeadLetterFilter)[]).flatMap((key) =>
      filter[key] === undefined ? [] : [CONDITIONS[key](parameter(valueOf(key)))]
    ),
    ...more.map(([sql, value]) => sql.replace('?', () => parameter(value)))
  ]
  return parts.length > 0 ? parts.join(' and ') : 'true'
}

/** Letters have ids; people may ask by the text that one is derived from. */
function correlationOf(asked: string): string {
  return textKey(asked) === undefined ? asked : idOfKey(asked)
}

/** Letters that are looked through, and the condition of those that are wanted. */
export interface Look {
  /** A select of whole rows, at most WINDOW, in the order of their ids. */
  window: string
  /**
   * A select of the id of the window's last row; of none when the window holds all that there are.
   */
  end: string
  /** Of window and end alone. */
  windowValues: unknown[]
  condition: string
  values: unknown[]
}

/** Whatever an operator may still send back: an index holds them. */
const OPEN = `status in ('waiting', 'retrying')`

function look(
  window: string,
  order: 'asc' | 'desc',
  windowValues: unknown[],
  condition: (values: unknown[]) => string
): Look {
  const values = [...windowValues]
  const end = `select id::float8 as id from (${window}) as looked_at order by looked_at.id ${order} offset ${WINDOW - 1} limit 1`
  return { window, end, windowValues, condition: condition(values), values }
}

/** What an index finds narrows the window itself. @param before only letters with a smaller id */
function lookFor(filter: DeadLetterFilter, before: number | undefined): Look {
  const values: unknown[] = []
  const parameter = (value: unknown) => `$${values.push(value)}`
  const { messageId, correlationId, status, type } = filter
  const older = before === undefined ? 'true' : `id < ${parameter(before)}::bigint`
  const newest = (where: string) =>
    `select * from dead_letter where ${where} and ${older} order by id desc limit ${WINDOW}`
  const window = () => {
    if (messageId !== undefined) return newest(`message_id = ${parameter(messageId)}`)
    if (correlationId !== undefined)
      return newest(`correlation_id = ${parameter(correlationOf(correlationId))}`)
    if (status === 'waiting' || status === 'retrying') return newest(OPEN)
    if (type === undefined) return newest('true')
    // Not by equality: the primary key would be as good an order then, and leads past all others.
    const named = namesOf(type).map((name) => {
      const value = parameter(name)
      const last =
        before === undefined
          ? `message_type <= ${value}`
          : `(message_type, id) < (${value}, $1::bigint)`
      return `(select * from dead_letter where message_type >= ${value} and ${last} order by message_type desc, id desc limit ${WINDOW})`
    })
    return `select * from (${named.join(' union all ')}) as named order by named.id desc limit ${WINDOW}`
  }
  return look(window(), 'desc', values, (all) => conditionOf(filter, all))
}

/** What a look at letters is narrowed to. */
export function isHere(endpoints: readonly string[] | undefined): [sql: string, value: unknown][] {
  return endpoints ? [['endpoint = any(?)', endpoints]] : []
}

/**
 * Letters to send back, in the order of their ids: those that wait, and those that were sent back
 * and nothing was heard of.
 * @param after only letters with a larger id
 * @param more what has to hold besides; `?` stands for each value
 */
export function lookForOpen(
  filter: DeadLetterFilter,
  after: number,
  ...more: [sql: string, value: unknown][]
): Look {
  const window = `select * from dead_letter where ${OPEN} and id > $1::bigint order by id limit ${WINDOW}`
  return look(
    window,
    'asc',
    [after],
    (all) =>
      `(status = 'waiting' or ${IS_LOST}) and ${conditionOf({ ...filter, status: undefined }, all, ...more)}`
  )
}

/**
 * Newest first.
 * @param before only letters with a smaller id
 * @returns `readOn` when fewer than asked for were found and there are older ones that were not
 * looked at: the id before which to go on
 */
export async function listDeadLetters(
  database: Database,
  filter: DeadLetterFilter,
  limit: number,
  before?: number
): Promise<{ items: DeadLetterSummary[]; readOn?: number }> {
  const { window, condition, values, end: last, windowValues } = lookFor(filter, before)
  // Both see one moment: what comes in between would move the end of the window.
  return transaction(
    database,
    async (tx) => {
      const rows: DeadLetterSummary[] = await ask(
        tx,
        `
        select ${SUMMARY} from (${window}) as looked_at where ${condition}
          order by looked_at.id desc limit ${limit}`,
        values
      )
      const items = rows.map(withTexts)
      if (items.length === limit) return { items }
      const [end]: { id: number }[] = await ask(tx, last, windowValues)
      return { items, readOn: end?.id }
    },
    { isolation: 'repeatable read' }
  )
}

/**
 * Letters counted by what they are and why they failed, most first.
 * @returns `atLeast`: there are older ones that were not looked at
 */
export async function groupDeadLetters(
  database: Database,
  filter: DeadLetterFilter
): Promise<{ groups: DeadLetterGroup[]; atLeast: boolean }> {
  const { window, condition, values, end: last, windowValues } = lookFor(filter, undefined)
  return transaction(
    database,
    async (tx) => {
      const rows: (DeadLetterGroup & { oldest: Date | string; newest: Date | string })[] =
        await ask(
          tx,
          `select counted.*, dead_letter.reason from (
         select kind, status, message_type as type, exception, count(*)::integer as count,
           min(first_seen_at) as oldest, max(last_seen_at) as newest, max(id) as last_id
         from (${window}) as looked_at where ${condition}
           group by kind, status, message_type, exception order by count desc, exception limit 200
       ) as counted join dead_letter on dead_letter.id = last_id order by count desc, counted.exception`,
          values
        )
      const [end]: { id: number }[] = await ask(tx, last, windowValues)
      return {
        groups: merged(
          rows.map((row) => ({ ...row, oldest: isoTime(row.oldest), newest: isoTime(row.newest) }))
        ),
        atLeast: end !== undefined
      }
    },
    { isolation: 'repeatable read' }
  )
}

/** What 0.1 has stored under another name of the same type belongs to the same group. */
function merged(groups: readonly DeadLetterGroup[]): DeadLetterGroup[] {
  const byKey = new Map<string, DeadLetterGroup>()
  for (const { kind, status, exception, reason, ...group } of groups) {
    const type = group.type && typeName(group.type)
    const key = JSON.stringify([kind, status, type, exception])
    const { count, oldest, newest } = byKey.get(key) ?? { ...group, count: 0 }
    byKey.set(key, {
      kind,
      status,
      type,
      exception,
      count: count + group.count,
      oldest: oldest < group.oldest ? oldest : group.oldest,
      newest: newest > group.newest ? newest : group.newest,
      reason: byKey.get(key)?.reason ?? reason
    })
  }
  return [...byKey.values()]
}

/** One letter with everything that is known of it. */
export async function readDeadLetter(
  database: Database,
  id: number
): Promise<DeadLetterDetail | undefined> {
  const [row]: DeadLetterDetail[] = await database.rows(
    `select ${SUMMARY}, ${WHOLE} from dead_letter where id = $1`,
    [id]
  )
  return row && withBounds(withTexts(row))
}

/** A letter that an operator deleted. */
export interface DeletedLetter {
  deletedAt: string
  why: string | null
}

const DELETED = `${COLUMNS}, null as "retryingSince", deleted_at as "deletedAt", why`

/** The latest that came first. @param before only letters with a smaller id */
export async function listDeletedLetters(
  database: Database,
  limit: number,
  before?: number
): Promise<(DeadLetterSummary & DeletedLetter)[]> {
  const rows: (DeadLetterSummary & DeletedLetter)[] = await database.rows(
    `
      select ${DELETED} from dead_letter_deleted where $1::bigint is null or id < $1
        order by dead_letter_deleted.id desc limit $2`,
    [before ?? null, limit]
  )
  return rows.map((row) => ({ ...withTexts(row), deletedAt: isoTime(row.deletedAt) }))
}

/** A deleted letter with everything that is known of it, as long as it is kept. */
export async function readDeletedLetter(
  database: Database,
  id: number
): Promise<(DeadLetterDetail & DeletedLetter) | undefined> {
  const [row]: (DeadLetterDetail & DeletedLetter)[] = await database.rows(
    `select ${DELETED}, ${WHOLE} from dead_letter_deleted where id = $1`,
    [id]
  )
  return row && { ...withBounds(withTexts(row)), deletedAt: isoTime(row.deletedAt) }
}

function withTexts<T extends DeadLetterSummary>(row: T): T {
  const { type, firstSeenAt, lastSeenAt, retryingSince } = row
  return {
    ...row,
    type: type && typeName(type),
    firstSeenAt: isoTime(firstSeenAt),
    lastSeenAt: isoTime(lastSeenAt),
    retryingSince: retryingSince && isoTime(retryingSince)
  }
}

/** What 0.1 has stored may be of any size. */
function withBounds<T extends DeadLetterDetail>(row: T): T {
  const { attempts, attemptsLeftOut } = row
  const more = attempts.length - FIRST_ATTEMPTS - LAST_ATTEMPTS
  const kept =
    more > 0 ? [...attempts.slice(0, FIRST_ATTEMPTS), ...attempts.slice(-LAST_ATTEMPTS)] : attempts
  return {
    ...row,
    headers: storedHeaders(row.headers),
    attempts: kept,
    attemptsLeftOut: attemptsLeftOut + Math.max(0, more)
  }
}

function isoTime(time: Date | string): string {
  return new Date(time).toISOString()
}
