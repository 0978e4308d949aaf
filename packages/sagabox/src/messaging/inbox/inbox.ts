import { contentHash } from '../message/content-hash.ts'
import type { Message } from '../message/message.ts'
import { NotRetryable } from './retry.ts'
import { run, statement, write, type Tx } from '../postgres/sql.ts'

// Both inserts sort by id: two consumers with the same redeliveries would deadlock otherwise. This
// one returns all new ids in one row, since pg makes an object, and PostgreSQL a message, of each.
const RECORD_NEW = statement(`
  with recorded as (
    insert into inbox (message_id, endpoint, content)
    select id, $2, content from unnest($1::uuid[], $3::uuid[]) as new (id, content) order by id
    on conflict do nothing
    returning message_id
  )
  select string_agg(message_id::text, ' ') as ids from recorded`)

// After RECORD_NEW, which may have met rows that its own snapshot does not see.
const SEEN = statement(`
  select message_id, replace(content::text, '-', '') as content, handled_at from inbox
  where endpoint = $2 and message_id = any($1::uuid[])`)

/** What the inbox says of a batch; in neither: what is a copy of something that was handled. */
export interface Recorded {
  /** Not handled before by this endpoint, and now recorded as handled. */
  fresh: Set<Message>
  /** Other messages under the ids of messages that were handled. */
  reused: Map<Message, MessageIdReused>
}

/** Another message was handled under its id: it never can be, nor is it a copy. */
export class MessageIdReused extends NotRetryable {
  override readonly name = 'MessageIdReused'
  override readonly code = 'MESSAGE_ID_REUSED'
}

/** Records messages as handled, the first of each id in the batch. */
export async function recordNew(
  tx: Tx,
  endpoint: string,
  messages: readonly Message[]
): Promise<Recorded> {
  const contents = new Map(messages.map((message) => [message, contentHash(message)]))
  const first = new Map<string, Message>()
  for (const message of messages) {
    if (!first.has(message.messageId)) first.set(message.messageId, message)
  }
  const ids = [...first.keys()]
  const hashes = [...first.values()].map((message) => contents.get(message))
  const [row] = await run<{ ids: string | null }>(tx, RECORD_NEW, [ids, endpoint, hashes])
  const recorded = new Set(row!.ids?.split(' '))
  const fresh = new Set([...first.values()].filter(({ messageId }) => recorded.has(messageId)))
  const others = messages.filter((message) => !fresh.has(message))
  const seen = await seenBefore(
    tx,
    endpoint,
    others.filter(({ messageId }) => !recorded.has(messageId))
  )
  const reused = new Map<Message, MessageIdReused>()
  for (const message of others) {
    const found = contents.get(message)!
    const { content, at } = seen.get(message.messageId) ?? {
      content: recorded.has(message.messageId)
        ? contents.get(first.get(message.messageId)!)!
        : null,
      at: 'just now'
    }
    // Null: handled by 0.1, or forgotten since the insert. All that is known is the id.
    if (content !== null && content !== found)
      reused.set(message, reusedId(message, found, content, at))
  }
  return { fresh, reused }
}

function reusedId(message: Message, found: string, expected: string, at: string): MessageIdReused {
  const { messageId, contract } = message
  const was = `expected a copy of the message that was handled under ${messageId} (${at}, content ${expected})`
  return new MessageIdReused(`messageId: ${was}, got another ${contract.name} (content ${found})`)
}

async function seenBefore(
  tx: Tx,
  endpoint: string,
  messages: readonly Message[]
): Promise<Map<string, { content: string | null; at: string }>> {
  if (messages.length === 0) return new Map()
  const ids = messages.map(({ messageId }) => messageId)
  type Row = { message_id: string; content: string | null; handled_at: Date }
  const rows = await run<Row>(tx, SEEN, [ids, endpoint])
  return new Map(
    rows.map(({ message_id: id, content, handled_at: at }) => [
      id,
      { content, at: at.toISOString() }
    ])
  )
}

const RECORD_AS_NEW = statement(`
  insert into inbox (message_id, endpoint, content)
  select id, $2, content from unnest($1::uuid[], $3::uuid[]) as new (id, content) order by id`)

/**
 * Records messages as handled that are taken to be new: one that is not fails the transaction.
 * Nobody need wait for the answer.
 */
export function recordAsNew(tx: Tx, endpoint: string, messages: readonly Message[]): void {
  const ids = messages.map(({ messageId }) => messageId)
  void write(tx, RECORD_AS_NEW, [ids, endpoint, messages.map(contentHash)])
}

const FIND = statement(
  `select exists (select from inbox where message_id = any($1::uuid[]) and endpoint = $2) as found`
)

/** Whether this endpoint has handled any of these before. */
export async function isAnyRecorded(
  tx: Tx,
  endpoint: string,
  messageIds: readonly string[]
): Promise<boolean> {
  const [row] = await run<{ found: boolean }>(tx, FIND, [messageIds, endpoint])
  return row!.found
}
