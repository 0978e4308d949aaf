import type { Database } from '../postgres/database.ts'
import type { Log } from '../async/log.ts'
import type { OldRows } from '../postgres/old-rows.ts'
import { UNAUDITED, type Audit } from '../postgres/audit.ts'
import { ask, storableText, transaction } from '../postgres/sql.ts'

/** Of a payload in an answer, characters of text or bytes of what is not text. */
const SHOWN = 2000
/** How long what was discarded can be read. */
const KEPT_DAYS = 30
/** Rows deleted in one statement. */
const BATCH = 1000

/** A row that is put off, as an operator sees it. */
export interface PutOffRow {
  id: string
  messageId: string
  destination: string
  required: boolean
  /** `failed`: this message alone could not be sent; else its destination takes nothing. */
  putOff: string
  reason: string | null
  attempts: number
  createdAt: string
  /** Of the whole payload. */
  bytes: number
  contentType: string | null
  /** Its beginning. */
  payload: string
  payloadEncoding: 'utf8' | 'base64'
}

export interface DiscardedRow extends PutOffRow {
  /** Why it was discarded. */
  discardReason: string
  discardedAt: string
}

export interface DiscardedDetail extends DiscardedRow {
  headers: Record<string, unknown> | null
}

interface Shown {
  shown_text: string
  shown_bytes: Buffer | null
}

const SUMMARY = `message_id as "messageId", destination, required, put_off as "putOff",
  last_error as reason, attempts, created_at as "createdAt",
  content_type as "contentType", octet_length(payload) + coalesce(octet_length(body), 0) as bytes`
const BEGINNING = `left(payload, ${SHOWN}) as shown_text,
  substring(body from 1 for ${SHOWN}) as shown_bytes`
const DISCARDED = `outbox_id::text as id, ${SUMMARY}, outbox_discarded.reason as "discardReason",
  discarded_at as "discardedAt"`

/** One place in the list of what is put off. */
export interface RowPlace {
  destination: string
  id: string
}

/** Rows that are put off, by destination and age. */
export async function listPutOff(
  database: Database,
  destination: string | undefined,
  limit: number,
  after?: RowPlace
): Promise<PutOffRow[]> {
  const values: unknown[] = []
  const parameter = (value: unknown) => `$${values.push(value)}`
  const parts = ['put_off is not null']
  if (destination !== undefined) parts.push(`destination = ${parameter(destination)}`)
  if (after)
    parts.push(
      `(destination, id) > (${parameter(after.destination)}, ${parameter(after.id)}::bigint)`
    )
  const rows: (PutOffRow & Shown)[] = await database.rows(
    `select id::text, ${SUMMARY}, ${BEGINNING} from outbox where ${parts.join(' and ')}
     order by outbox.destination, outbox.id limit ${limit}`,
    values
  )
  return rows.map((row) => withTexts(row))
}

// The relay takes a row out of what is put off before it sends it: whoever comes first has it.
const DISCARD = `
  with gone as (delete from outbox where id = $1::bigint and put_off is not null returning *)
  insert into outbox_discarded
    (outbox_id, message_id, destination, required, payload, body, headers, content_type,
      created_at, attempts, put_off, last_error, reason)
  select id, message_id, destination, required, payload, body, headers, content_type,
    created_at, attempts, put_off, last_error, $2::text from gone
  returning message_id as "messageId"`

export type Discard =
  | { outcome: 'discarded'; messageId: string }
  | { outcome: 'in hand' }
  | { outcome: 'unknown' }

/** Gives up a row that is put off: it is not sent any more. */
export async function discardRow(
  database: Database,
  id: string,
  reason: string,
  log: Log,
  audited: Audit = UNAUDITED
): Promise<Discard> {
  const discarded = await transaction(database, async (tx) => {
    const [row]: { messageId: string }[] = await ask(tx, DISCARD, [id, storableText(reason)])
    if (row) audited(tx)
    return row
  })
  if (discarded) {
    log.info(
      { outboxId: id, messageId: discarded.messageId, reason },
      'A row of the outbox was discarded'
    )
    return { outcome: 'discarded', messageId: discarded.messageId }
  }
  const [waiting]: unknown[] = await database.rows('select 1 from outbox where id = $1::bigint', [
    id
  ])
  return { outcome: waiting ? 'in hand' : 'unknown' }
}

/** Rows that were discarded, newest first. @param before only rows with a smaller key */
export async function listDiscarded(
  database: Database,
  limit: number,
  before?: string
): Promise<(DiscardedRow & { key: string })[]> {
  const rows: (DiscardedRow & Shown & { key: string })[] = await database.rows(
    `select outbox_discarded.id::text as key, ${DISCARDED}, ${BEGINNING} from outbox_discarded
     ${before === undefined ? '' : 'where outbox_discarded.id < $1::bigint'}
     order by outbox_discarded.id desc limit ${limit}`,
    before === undefined ? [] : [before]
  )
  return rows.map((row) => withTexts(row))
}

/**
 * A row that was discarded, with all of its payload and headers.
 * @param id the row's in the outbox
 */
export async function readDiscarded(
  database: Database,
  id: string
): Promise<DiscardedDetail | undefined> {
  const [row]: (DiscardedDetail & Shown)[] = await database.rows(
    `select ${DISCARDED}, headers, payload as shown_text, body as shown_bytes
     from outbox_discarded where outbox_id = $1::bigint`,
    [id]
  )
  return row && withTexts(row)
}

function withTexts<T extends PutOffRow>({
  shown_text: text,
  shown_bytes: bytes,
  ...row
}: T & Shown): T {
  const times = ['createdAt', 'discardedAt']
    .filter((name) => name in row)
    .map((name) => [name, new Date((row as Record<string, string>)[name]!).toISOString()])
  return {
    ...(row as unknown as T),
    ...Object.fromEntries(times),
    payload: bytes ? bytes.toString('base64') : text,
    payloadEncoding: bytes ? 'base64' : 'utf8'
  }
}

/** Discarded rows whose time is over. */
export const OLD_DISCARDED_ROWS: OldRows = {
  what: 'discarded outbox rows',
  days: KEPT_DAYS,
  delete: `
    delete from outbox_discarded where id in (
      select id from outbox_discarded where discarded_at < now() - $1 * interval '1 day'
      order by discarded_at limit ${BATCH} for update skip locked)`
}
