import type { Opening } from './opening.ts'
import { statement } from './sql.ts'

// Sorted, so that two consumers given overlapping redeliveries wait for each other instead of deadlocking.
// `on conflict` and not insert-and-catch: a unique violation would abort the whole transaction.
const CLAIM = statement(`
  insert into inbox (message_id, endpoint)
  select id, $2 from unnest($1::uuid[]) as id order by id
  on conflict do nothing
  returning message_id`)

/** Records messages as handled: opens the transaction that handles them, and reads the ids that this endpoint had not handled before. */
export function claiming(endpoint: string, messageIds: readonly string[]): Opening<Set<string>> {
  return { ...CLAIM, values: [messageIds, endpoint], read: (rows) => new Set(rows.map((row) => row.message_id as string)) }
}
