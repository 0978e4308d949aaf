import type { Database } from '../messaging/postgres/database.ts'
import type { WatchedTransport } from './watched-transport.ts'

/** How often the system is looked at, ms. */
const INTERVAL_MS = 10

/** A saga in the schema that a data source is connected to. */
export interface WatchedSaga {
  database: Database
  name: string
}

/** What has to come to rest. */
export interface Watched {
  transport: WatchedTransport
  /** One for each schema that has an outbox. */
  outboxes: readonly Database[]
  /** Sagas whose timers have to have fired. */
  sagas?: readonly WatchedSaga[]
  /** Says what else is under way, such as a call to another system; undefined when nothing is. */
  busy?(): Promise<string | undefined>
}

/**
 * Waits until nothing moves any more: no message in an outbox or before an endpoint, no timer due.
 * @param limitMs for a broken system, never a measure of speed
 * @throws Error that says what still moves
 */
export async function settled(watched: Watched, limitMs = 60_000): Promise<void> {
  const { transport } = watched
  const deadline = Date.now() + limitMs
  for (;;) {
    const before = transport.published.length
    const moving = await whatMoves(watched)
    // What was sent while the tables were read may have been handled since, and have caused what
    // was not there then.
    if (moving.length === 0 && transport.onTheWay === 0 && transport.published.length === before)
      return
    if (Date.now() > deadline)
      throw new Error(
        `Not settled after ${limitMs / 1000} s: ${moving.join('; ') || 'messages come and go'}`
      )
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS))
  }
}

async function whatMoves({ transport, outboxes, sagas = [], busy }: Watched): Promise<string[]> {
  const found = [
    transport.onTheWay === 0 ? undefined : `${transport.onTheWay} messages before an endpoint`
  ]
  const looks = [
    ...outboxes.map(async (database) => {
      const [row]: { count: number; schema: string; error: string | null }[] = await database.rows(
        'select count(*)::integer, current_schema() as schema, max(last_error) as error from outbox'
      )
      return row!.count > 0
        ? `${row!.count} messages in the outbox of ${row!.schema}${row!.error === null ? '' : ` (${row!.error})`}`
        : undefined
    }),
    ...sagas.map(async ({ database, name }) => {
      const [row]: { count: number }[] = await database.rows(
        'select count(*)::integer from saga where saga = $1 and next_timer_at <= now()',
        [name]
      )
      return row!.count > 0 ? `${row!.count} ${name} sagas with a timer that is due` : undefined
    }),
    busy?.() ?? Promise.resolve(undefined)
  ]
  return [...found, ...(await Promise.all(looks))].filter((what) => what !== undefined)
}
