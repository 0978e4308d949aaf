import { run, statement, type Tx } from './sql.ts'

// Sorted, so that two consumers given overlapping redeliveries wait for each other instead of deadlocking.
// `on conflict` and not insert-and-catch: a unique violation would abort the whole transaction.
const CLAIM = statement(`
  insert into inbox (message_id, endpoint)
  select id, $2 from unnest($1::uuid[]) as id order by id
  on conflict do nothing
  returning message_id`)

/**
 * Records messages as handled, in the transaction that handles them.
 * @returns the ids that had not been handled by this endpoint before
 */
export async function claim(tx: Tx, endpoint: string, messageIds: readonly string[]): Promise<Set<string>> {
  const rows = await run<{ message_id: string }>(tx, CLAIM, [messageIds, endpoint])
  return new Set(rows.map((row) => row.message_id))
}
