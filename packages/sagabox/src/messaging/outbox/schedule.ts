import type { Later } from '../message/later.ts'
import type { NewRow } from './outbox-row.ts'
import { joinJson, jsonTexts, run, statement, write, type Tx } from '../postgres/sql.ts'

// By token, so that two transactions which take the same ones cannot wait for each other. The id is
// a new one: who has read the row that was there must not discard this one.
const SCHEDULE = statement(`
  insert into outbox_scheduled (token, message_id, destination, required, payload, headers,
    content_type, due_at)
  select token, message_id, destination, required, payload, nullif(headers, 'null'::jsonb),
    content_type, coalesce(at, now() + ms * interval '1 millisecond')
  from unnest($1::text[], $2::uuid[], $3::text[], $4::boolean[], ${jsonTexts(5)},
    ${jsonTexts(6)}::jsonb[], $7::text[], $8::float8[], $9::timestamptz[])
    as later (token, message_id, destination, required, payload, headers, content_type, ms, at)
  order by token
  on conflict (token) do update set id = excluded.id, message_id = excluded.message_id,
    destination = excluded.destination, required = excluded.required, payload = excluded.payload,
    headers = excluded.headers, content_type = excluded.content_type, due_at = excluded.due_at,
    created_at = now()`)

const CANCEL = statement('delete from outbox_scheduled where token = $1 returning token')

/** A message to be sent later, as it is stored. */
export interface ScheduledRow extends NewRow {
  later: Later
}

/** Of two under one token the second stays. */
export function rowsByToken(rows: readonly ScheduledRow[]): Map<string, ScheduledRow> {
  return new Map(rows.map((row) => [row.later.token ?? row.message_id, row]))
}

/** Stores messages that are sent later. */
export function schedule(tx: Tx, rows: readonly ScheduledRow[]): void {
  const byToken = rowsByToken(rows)
  const last = [...byToken.values()]
  void write(tx, SCHEDULE, [
    [...byToken.keys()],
    last.map((row) => row.message_id),
    last.map((row) => row.destination),
    last.map((row) => row.required),
    joinJson(last.map((row) => row.payload)),
    joinJson(last.map((row) => JSON.stringify(row.headers ?? null))),
    last.map((row) => row.content_type ?? null),
    last.map(({ later }) => later.ms ?? null),
    last.map(({ later }) => later.at ?? null)
  ])
}

/**
 * Cancels a message that is to be sent later, when the transaction commits.
 * @returns false when none waits under the token: it was sent, cancelled or never stored
 */
export async function cancelScheduled(tx: Tx, token: string): Promise<boolean> {
  return (await run(tx, CANCEL, [token])).length > 0
}
