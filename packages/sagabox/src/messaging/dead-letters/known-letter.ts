// A letter as an operator's request finds it, locked.
import { IS_LOST, LOST_AFTER_MINUTES } from './list.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import { ask, type Tx } from '../postgres/sql.ts'
import type { Headers } from '../transport/transport.ts'

/** An operator's request that the letter's state does not allow. */
export class NotAllowed extends SagaboxError {
  override readonly name = 'NotAllowed'
  override readonly code = 'NOT_ALLOWED'
}

export interface KnownLetter {
  id: string
  endpoint: string
  status: string
  message_id: string | null
  exception: string
  reason: string
  message_type: string | null
  correlation_id: string | null
  seen: number
  first_seen_at: Date
  last_seen_at: Date
  retrying_since: Date
  is_lost: boolean
}

export interface WholeLetter extends KnownLetter {
  payload: Buffer
  content_type: string | null
  headers: Headers
}

export const KNOWN = `id, endpoint, status, message_id, exception, reason, message_type, correlation_id, seen, first_seen_at, last_seen_at,
  coalesce(retried_at, last_seen_at) as retrying_since, ${IS_LOST} as is_lost`
export const WHOLE = `${KNOWN}, payload, content_type, headers`

export async function lockLetter(tx: Tx, id: number): Promise<WholeLetter | undefined> {
  const [letter]: WholeLetter[] = await ask(
    tx,
    `select ${WHOLE} from dead_letter where id = $1 for update`,
    [id]
  )
  return letter
}

/** @throws NotAllowed when the letter has ended, or was sent back and may yet end */
export function mustBeOpen({ status, is_lost: isLost, retrying_since: since }: KnownLetter): void {
  if (status === 'handled') throw new NotAllowed('It has been handled since')
  if (status === 'undone') throw new NotAllowed('What it belongs to was undone')
  if (status !== 'retrying' || isLost) return
  const later = new Date(since.getTime() + LOST_AFTER_MINUTES * 60_000)
  throw new NotAllowed(
    `It is being retried, since ${since.toISOString()}: wait until it is handled or has failed again. If nothing is heard of it until ${later.toISOString()}, it may be sent back again, or deleted`
  )
}

export async function audit(
  tx: Tx,
  action: 'retry' | 'delete' | 'restore' | 'undo' | 'edit',
  letters: readonly KnownLetter[],
  more: object
): Promise<void> {
  await ask(
    tx,
    `
      insert into dead_letter_audit (dead_letter_id, action, message_id, details) select *
        from unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[])`,
    [
      letters.map(({ id }) => id),
      letters.map(() => action),
      letters.map((letter) => letter.message_id),
      letters.map(
        ({
          endpoint,
          exception,
          reason,
          message_type: type,
          seen,
          first_seen_at: firstSeenAt,
          last_seen_at: lastSeenAt
        }) =>
          JSON.stringify({
            ...more,
            endpoint,
            type,
            exception,
            reason,
            seen,
            firstSeenAt,
            lastSeenAt
          })
      )
    ]
  )
}
