import { run, statement, write, type Tx } from './sql.ts'

// Both sorted, so that two consumers given overlapping redeliveries wait for each other instead of deadlocking.
// This one with `on conflict`: what is new beside a copy is to be handled, and a unique violation would abort the whole transaction.
// All ids in one row: pg makes an object, and PostgreSQL a message, of each.
const CLAIM = statement(`
  with claimed as (
    insert into inbox (message_id, endpoint)
    select id, $2 from unnest($1::uuid[]) as id order by id
    on conflict do nothing
    returning message_id
  )
  select string_agg(message_id::text, ' ') as ids from claimed`)

/** Records messages as handled. Returns the ids that this endpoint had not handled before. */
export async function claim(tx: Tx, endpoint: string, messageIds: readonly string[]): Promise<Set<string>> {
  const [row] = await run<{ ids: string | null }>(tx, CLAIM, [messageIds, endpoint])
  return new Set(row!.ids?.split(' '))
}

const CLAIM_AS_NEW = statement(`insert into inbox (message_id, endpoint) select id, $2 from unnest($1::uuid[]) as id order by id`)

/** Records messages as handled that are taken to be new: one that is not fails the transaction. Nobody need wait for the answer. */
export function claimAsNew(tx: Tx, endpoint: string, messageIds: readonly string[]): void {
  void write(tx, CLAIM_AS_NEW, [messageIds, endpoint])
}

const FIND = statement(`select exists (select from inbox where message_id = any($1::uuid[]) and endpoint = $2) as found`)

/** Whether this endpoint has handled any of these before. */
export async function isAnyClaimed(tx: Tx, endpoint: string, messageIds: readonly string[]): Promise<boolean> {
  const [row] = await run<{ found: boolean }>(tx, FIND, [messageIds, endpoint])
  return row!.found
}
