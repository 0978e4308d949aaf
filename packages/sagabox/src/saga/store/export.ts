import type { Database } from '../../messaging/postgres/database.ts'
import type { Mask } from '../../messaging/message/sensitive.ts'
import { endOfWindow } from './list.ts'
import type { Recording } from './recording.ts'

/** Most instances read at once, with their histories, and how many at first. */
const PAGE = 100
const FIRST_PAGE = 10
/** What a page should have, bytes; the one before tells how many instances that may be. */
const PAGE_BYTES = 256 * 1024
/** Instances looked through by one statement: it ends in time, however few fit. */
const WINDOW = 10_000

// One statement sees one moment: an instance and its history always fit each other.
const READ = `
  select saga, saga_id as "sagaId", key, state, value, context, version,
    machine_version as "machineVersion", timers, deferred,
    created_at as "createdAt", updated_at as "updatedAt",
    coalesce((
      select jsonb_agg(jsonb_build_object('sequence', sequence, 'event', event, 'body', body,
        'messageId', message_id, 'from', from_state, 'to', to_state,
        'sent', sent, 'note', note, 'machineVersion', step.machine_version, 'at', recorded_at) order by sequence)
      from saga_history step where step.saga = saga.saga
        and step.saga_id = saga.saga_id), '[]') as history
  from saga
  where saga = $1 and ($2::uuid is null or saga_id < $2) and ($3::uuid is null or saga_id >= $3)
    and ($4::text is null or state = $4 or starts_with(state, $4 || '.'))
      and ($5::timestamptz is null or updated_at >= $5)
  order by saga_id desc limit $6`

const END = endOfWindow(WINDOW)

export interface ExportFilter {
  /** A state, or a top-level state for all inside it. */
  state?: string
  /** Only instances that moved at this time or later; ISO 8601. */
  since?: string
  /** How many at most; all when not given. */
  limit?: number
}

/**
 * Instances with their histories, newest first, one JSON object a line, page by page: the next is
 * read
 * when it is asked for. A page may be empty where none fits.
 * @param hidden what of contexts and bodies is not shown; all is when not given
 */
export async function* recordings(
  database: Database,
  saga: string,
  { state, since, limit = Infinity }: ExportFilter,
  hidden?: Mask
): AsyncGenerator<string> {
  let left = limit
  let most = FIRST_PAGE
  for (let before: string | undefined; left > 0;) {
    const [end]: { saga_id: string }[] = await database.rows(END, [saga, before ?? null])
    for (let isRead = false; !isRead && left > 0;) {
      const asked = Math.min(most, left)
      const page: Recording[] = await database.rows(READ, [
        saga,
        before ?? null,
        end?.saga_id ?? null,
        state ?? null,
        since ?? null,
        asked
      ])
      const text = page
        .map((recording) => `${JSON.stringify(hidden ? masked(recording, hidden) : recording)}\n`)
        .join('')
      yield text
      left -= page.length
      const each = text.length / Math.max(1, page.length)
      if (page.length > 0) most = Math.min(PAGE, Math.max(1, Math.floor(PAGE_BYTES / each)))
      isRead = page.length < asked
      before = isRead ? end?.saga_id : page.at(-1)!.sagaId
    }
    if (!end) return
  }
}

function masked(recording: Recording, hidden: Mask): Recording {
  const { context, deferred, history } = recording
  return {
    ...recording,
    context: hidden.of(context),
    deferred: deferred && deferred.map((one) => ({ ...one, event: hidden.of(one.event) })),
    history: history.map((step) => ({ ...step, body: hidden.of(step.body) }))
  }
}
