import { run, statement, write, type Tx } from '../postgres/sql.ts'

/**
 * Starts after which a message counts as deadly. One more has gone before them unrecorded, and the
 * first of them may have been a neighbour's: a batch is recorded together, and only whoever does
 * not finish is handled alone from then on.
 */
export const DEADLY_STARTS = 4

const READ = statement(
  `select message_id, started from unfinished where endpoint = $2 and message_id = any($1::uuid[])`
)

// Distinct: a batch may hold two copies, and one statement cannot update a row twice.
const RECORD = statement(`
  insert into unfinished (message_id, endpoint)
  select distinct id, $2 from unnest($1::uuid[]) as id order by id
  on conflict (message_id, endpoint) do update set started = unfinished.started + 1,
    started_at = now()`)

const FORGET = statement(
  `delete from unfinished where endpoint = $2 and message_id = any($1::uuid[])`
)

/** How often handling of these messages was begun, recorded, and not ended. Most have no entry. */
export async function unfinishedStarts(
  tx: Tx,
  endpoint: string,
  messageIds: readonly string[]
): Promise<Map<string, number>> {
  const rows = await run<{ message_id: string; started: number }>(tx, READ, [messageIds, endpoint])
  return new Map(rows.map(({ message_id: id, started }) => [id, started]))
}

/** Records that handling begins. Its transaction must commit before the handler runs. */
export async function recordStart(
  tx: Tx,
  endpoint: string,
  messageIds: readonly string[]
): Promise<void> {
  await run(tx, RECORD, [messageIds, endpoint])
}

/** Handling has ended, well or badly, and the process lives. */
export function forgetStart(tx: Tx, endpoint: string, messageIds: readonly string[]): void {
  void write(tx, FORGET, [messageIds, endpoint])
}
