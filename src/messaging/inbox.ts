import { run, statement, write, type Tx } from './sql.ts'

// Both sorted, so that two consumers given overlapping redeliveries wait for each other instead of deadlocking.
// This one with `on conflict`: what is new beside a copy is to be handled, and a unique violation would abort the whole transaction.
// All ids in one row: pg makes an object, and PostgreSQL a message, of each.
const CLAIM = statement(`
  with claimed as (
    insert into inbox (message_id, endpoint, content)
    select id, $2, content from unnest($1::uuid[], $3::bigint[]) as new (id, content) order by id
    on conflict do nothing
    returning message_id
  )
  select string_agg(message_id::text, ' ') as ids from claimed`)

const READ = statement(`select message_id, content from inbox where message_id = any($1::uuid[]) and endpoint = $2 and content is not null`)

/** A message as the inbox knows it. */
export interface Seen {
  messageId: string
  /** See contentOf. */
  content: string
}

/** `copy`: this endpoint has handled it before. `reused`: it has handled another message under this id. */
export type Claim = 'new' | 'copy' | 'reused'

/** Records messages as handled. Returns for each of them how it stands; what is no copy of the first under its id is not recorded. */
export async function claim(tx: Tx, endpoint: string, seen: readonly Seen[]): Promise<Claim[]> {
  const [row] = await run<{ ids: string | null }>(tx, CLAIM, [seen.map(({ messageId }) => messageId), endpoint, seen.map(({ content }) => content)])
  const fresh = new Set(row!.ids?.split(' '))
  const known = seen.map(({ messageId }) => messageId).filter((messageId) => !fresh.has(messageId))
  const rows = known.length > 0 ? await run<{ message_id: string; content: string }>(tx, READ, [known, endpoint]) : []
  const contents = new Map(rows.map(({ message_id: messageId, content }) => [messageId, content]))
  return seen.map(({ messageId, content }) => {
    // `delete` says whether it was still there: of two copies within one batch, the first is new.
    const isNew = fresh.delete(messageId)
    if (isNew) contents.set(messageId, content)
    if (isNew) return 'new'
    return (contents.get(messageId) ?? content) === content ? 'copy' : 'reused'
  })
}

const CLAIM_AS_NEW = statement(`
  insert into inbox (message_id, endpoint, content)
  select id, $2, content from unnest($1::uuid[], $3::bigint[]) as new (id, content) order by id`)

/** Records messages as handled that are taken to be new: one that is not fails the transaction. Nobody need wait for the answer. */
export function claimAsNew(tx: Tx, endpoint: string, seen: readonly Seen[]): void {
  void write(tx, CLAIM_AS_NEW, [seen.map(({ messageId }) => messageId), endpoint, seen.map(({ content }) => content)])
}

const FIND = statement(`select exists (select from inbox where message_id = any($1::uuid[]) and endpoint = $2) as found`)

/** Whether this endpoint has handled any of these before. */
export async function isAnyClaimed(tx: Tx, endpoint: string, messageIds: readonly string[]): Promise<boolean> {
  const [row] = await run<{ found: boolean }>(tx, FIND, [messageIds, endpoint])
  return row!.found
}
