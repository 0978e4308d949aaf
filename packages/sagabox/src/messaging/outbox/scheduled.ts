import type { Database } from '../postgres/database.ts'
import type { Log } from '../async/log.ts'
import { UNAUDITED, type Audit } from '../postgres/audit.ts'
import { ask, storableText, transaction } from '../postgres/sql.ts'

/** Of a payload in an answer, characters. */
const SHOWN = 2000

/** A message to be sent later, as an operator sees it. */
export interface ScheduledMessage {
  id: string
  /** What it is cancelled by. */
  token: string
  messageId: string
  destination: string
  dueAt: string
  createdAt: string
  /** Of the whole payload. */
  bytes: number
  /** Its beginning. */
  payload: string
}

/** One place in the list. */
export interface DuePlace {
  /** When it is due, microseconds since 1970: a Date keeps milliseconds. */
  micros: string
  id: string
}

type Read = Omit<ScheduledMessage, 'dueAt' | 'createdAt'> & {
  dueAt: Date
  createdAt: Date
  micros: string
}

/** Messages to be sent later, the next first. @param token only the one that it names */
export async function listScheduled(
  database: Database,
  token: string | undefined,
  limit: number,
  after?: DuePlace
): Promise<(ScheduledMessage & DuePlace)[]> {
  const values: unknown[] = []
  const parameter = (value: unknown) => `$${values.push(value)}`
  const parts = ['true']
  if (token !== undefined) parts.push(`token = ${parameter(token)}`)
  if (after)
    parts.push(
      `(due_at, id) > ('epoch'::timestamptz + ${parameter(after.micros)}::bigint *
        interval '1 microsecond', ${parameter(after.id)}::bigint)`
    )
  const rows: Read[] = await database.rows(
    `select id::text, token, message_id as "messageId", destination, due_at as "dueAt",
       created_at as "createdAt", octet_length(payload) as bytes, left(payload, ${SHOWN}) as payload,
       (extract(epoch from due_at) * 1000000)::bigint::text as micros
     from outbox_scheduled where ${parts.join(' and ')} order by due_at, id limit ${limit}`,
    values
  )
  return rows.map((row) => ({
    ...row,
    dueAt: new Date(row.dueAt).toISOString(),
    createdAt: new Date(row.createdAt).toISOString()
  }))
}

// The relay takes a message out of the table before it sends it: whoever comes first has it.
const DISCARD = `
  with gone as (delete from outbox_scheduled where id = $1::bigint returning *)
  insert into outbox_discarded
    (outbox_id, message_id, destination, required, payload, headers, content_type, created_at,
      attempts, put_off, reason)
  select id, message_id, destination, required, payload, headers, content_type, created_at, 0,
    'scheduled', $2::text from gone returning message_id as "messageId"`

/**
 * Gives up a message that was to be sent later: it is not sent any more.
 * @returns its message id; undefined when no message waits under the id
 */
export async function discardScheduled(
  database: Database,
  id: string,
  reason: string,
  log: Log,
  audited: Audit = UNAUDITED
): Promise<string | undefined> {
  const discarded = await transaction(database, async (tx) => {
    const [row]: { messageId: string }[] = await ask(tx, DISCARD, [id, storableText(reason)])
    if (row) audited(tx)
    return row
  })
  if (discarded)
    log.info(
      { outboxId: id, messageId: discarded.messageId, reason },
      'A message that was to be sent later was discarded'
    )
  return discarded?.messageId
}
