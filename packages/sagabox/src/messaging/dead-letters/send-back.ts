import { UUID } from '../message/id.ts'
import { rawMessageId } from '../message/raw-reader.ts'
import type { Outbox, SentBack } from '../outbox/outbox.ts'
import { ask, type Tx } from '../postgres/sql.ts'
import { forgetStart } from '../inbox/unfinished.ts'
import { replayHeaders } from './headers.ts'
import { audit, type WholeLetter } from './known-letter.ts'

/**
 * Sends letters back to their endpoints, under their message ids, and notes that they are under way.
 * Endpoints that are not ours never say how it ended: their letters count as handled, and are there
 * again if it fails.
 * @param retryId the group retry that does it; null: an operator
 */
export async function sendBack(
  outbox: Outbox,
  tx: Tx,
  letters: readonly WholeLetter[],
  retryId: number | null,
  theirs: readonly string[]
): Promise<void> {
  await ask(
    tx,
    `
        update dead_letter set status = case when endpoint = any($3) then 'handled' else 'retrying' end, retried_at = now(), retry_id = coalesce($2,
          retry_id) where id = any($1)`,
    [letters.map(({ id }) => id), retryId, theirs]
  )
  await audit(tx, 'retry', letters, { retryId })
  // A new beginning: the starts that made it a dead letter do not count against it.
  for (const { endpoint, message_id: messageId } of letters)
    if (messageId !== null && UUID.test(messageId)) forgetStart(tx, endpoint, [messageId])
  outbox.sendBack(
    tx,
    letters.map(
      ({
        id,
        endpoint,
        message_id: messageId,
        payload,
        content_type: contentType,
        headers
      }): SentBack => ({
        messageId: rawMessageId(messageId ?? undefined),
        endpoint,
        payload,
        contentType: contentType ?? undefined,
        headers: replayHeaders(id, headers),
        seconds: 0
      })
    )
  )
}
