import { escapeIdentifier, escapeLiteral } from 'pg'
import { codeOf } from '../errors/database-away.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import { channelOf } from './channel.ts'
import type { NewRow } from './outbox-row.ts'
import { rowsByToken, type ScheduledRow } from './schedule.ts'

/** A transaction that somebody else has begun: pg's Client, or what looks like it. */
export interface Connection {
  /** Runs a statement in the transaction. `values` are texts, one for each `$n`. */
  query(text: string, values: string[]): PromiseLike<unknown>
}

/** Messages can only be stored in a transaction that is open: they would be sent by themselves. */
export class NotInTransaction extends SagaboxError {
  override readonly name = 'NotInTransaction'
  override readonly code = 'NOT_IN_TRANSACTION'
}

/** PostgreSQL: "LOCK TABLE can only be used in transaction blocks". */
const NO_TRANSACTION = '25P01'
const NO_TABLE = /^(42P01|3F000)$/

/**
 * Stores rows by a connection that is not ours, whose search_path is not ours either. The leading
 * relay is told by a NOTIFY in the same transaction, which PostgreSQL delivers when it commits: of
 * the smallest id, since a transaction that took long has ids from before.
 * @throws NotInTransaction; Error when the database has no such schema, or the role may not
 */
export async function storeIn(
  connection: Connection,
  schema: string,
  rows: readonly NewRow[]
): Promise<void> {
  const table = `${escapeIdentifier(schema)}.outbox`
  try {
    // Only a transaction takes locks, and the insert takes this one anyway.
    await connection.query(`lock table ${table} in row exclusive mode`, [])
    await connection.query(
      `with stored as (
        insert into ${table} (message_id, destination, required, payload, headers, content_type)
        select * from json_to_recordset($1::text::json) as sent (message_id uuid, destination text,
          required boolean, payload text, headers jsonb, content_type text)
        returning id)
      select pg_notify(${escapeLiteral(channelOf(schema))}, min(id)::text)::text as told from stored`,
      [JSON.stringify(rows)]
    )
  } catch (error) {
    throw explained(error, table)
  }
}

/**
 * Stores messages to be sent later by a connection that is not ours: they are noticed within a
 * second.
 * @throws as storeIn
 */
export async function scheduleIn(
  connection: Connection,
  schema: string,
  rows: readonly ScheduledRow[]
): Promise<void> {
  const table = `${escapeIdentifier(schema)}.outbox_scheduled`
  const sent = [...rowsByToken(rows)].map(([token, { later, ...row }]) => ({
    ...row,
    token,
    ms: later.ms,
    at: later.at
  }))
  try {
    await connection.query(`lock table ${table} in row exclusive mode`, [])
    await connection.query(
      `insert into ${table} (token, message_id, destination, required, payload, headers,
        content_type, due_at)
      select token, message_id, destination, required, payload, headers, content_type,
        coalesce(at, now() + ms * interval '1 millisecond')
      from json_to_recordset($1::text::json) as sent (token text, message_id uuid,
        destination text, required boolean, payload text, headers jsonb, content_type text,
        ms float8, at timestamptz)
      order by token
      on conflict (token) do update set id = excluded.id, message_id = excluded.message_id,
        destination = excluded.destination, required = excluded.required,
        payload = excluded.payload, headers = excluded.headers,
        content_type = excluded.content_type, due_at = excluded.due_at, created_at = now()`,
      [JSON.stringify(sent)]
    )
  } catch (error) {
    throw explained(error, table)
  }
}

function explained(error: unknown, table: string): unknown {
  const code = codeOf(error)
  if (code === NO_TRANSACTION)
    return new NotInTransaction(
      'outbox.add() was given a connection without an open transaction; expected one after BEGIN: what is stored would be sent whatever becomes of your rows',
      { cause: error }
    )
  if (NO_TABLE.test(code ?? ''))
    return new Error(
      `outbox.add() found no table ${table} by the connection that it was given; expected one to the database of the service, which has started there before`,
      { cause: error }
    )
  return error
}
