import type { OldRows } from '../postgres/old-rows.ts'
import { ask, type Tx } from '../postgres/sql.ts'

const KEPT = `id, endpoint, message_id, payload, content_type, exception, reason, first_seen_at, kind, message_type, correlation_id, headers, stack,
  attempts, attempts_left_out, last_seen_at, seen, status, fingerprint`

/** Days that a deleted letter is kept whole. */
export const DELETED_DAYS = 30

/** Takes a letter out of the table, and keeps it whole. The caller has locked it. */
export async function putAway(tx: Tx, id: number, why: string | null): Promise<void> {
  await ask(
    tx,
    `with gone as (delete from dead_letter where id = $1 returning *)
     insert into dead_letter_deleted (${KEPT}, why) select ${KEPT}, $2 from gone`,
    [id, why]
  )
}

/**
 * Brings a deleted letter back, under its id; what had no outcome waits.
 * @returns `again` when the same message has become a dead letter since: there is nothing to bring
 * back; undefined when there is no such letter
 */
export async function bringBack(tx: Tx, id: number): Promise<'back' | 'again' | undefined> {
  const found: unknown[] = await ask(
    tx,
    'select from dead_letter_deleted where id = $1 for update',
    [id]
  )
  if (found.length === 0) return undefined
  const [row]: { id: string }[] = await ask(
    tx,
    `insert into dead_letter (${KEPT}) overriding system value
     select ${KEPT.replace('status', `case when status = 'retrying' then 'waiting' else status end`)} from dead_letter_deleted where id = $1
     on conflict (endpoint, fingerprint) do nothing returning id`,
    [id]
  )
  if (!row) return 'again'
  await ask(tx, 'delete from dead_letter_deleted where id = $1', [id])
  return 'back'
}

/** Deleted letters whose time is over. */
export const OLD_DELETED_LETTERS: OldRows = {
  what: 'deleted dead letters',
  days: DELETED_DAYS,
  // Oldest first by the index on the age.
  delete: `
    delete from dead_letter_deleted where id = any(array(
      select id from dead_letter_deleted where deleted_at < now() - $1 * interval '1 day'
      order by deleted_at limit 200 for update skip locked))`
}
