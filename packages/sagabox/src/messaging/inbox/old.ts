import type { OldRows } from '../postgres/old-rows.ts'

/** Rows deleted in one statement. */
const BATCH = 2000

/**
 * What was handled longer ago than a message can still come again.
 * @param days how long the inbox remembers a message
 */
export function oldInboxRows(days: number): OldRows[] {
  return [
    {
      what: 'inbox rows',
      days,
      // Oldest first by the index on the age.
      delete: `
        delete from inbox where ctid = any(array(
          select ctid from inbox where handled_at < now() - $1 * interval '1 day'
          order by handled_at limit ${BATCH} for update skip locked))`
    },
    {
      // A process that died and a message that was handled elsewhere leave such a row behind.
      what: 'unfinished starts',
      days,
      delete: `delete from unfinished where started_at < now() - $1 * interval '1 day'`
    }
  ]
}
