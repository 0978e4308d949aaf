import { milliseconds } from '../messaging/message/duration.ts'
import type { WatchedSaga } from './settled.ts'

const ADVANCE = `
  update saga set next_timer_at = next_timer_at - $2 * interval '1 millisecond',
    timers = (
      select jsonb_agg(timer || jsonb_build_object('dueAt',
        to_char((timer ->> 'dueAt')::timestamptz at time zone 'UTC' - $2 * interval '1 millisecond',
        'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) order by place)
      from jsonb_array_elements(timers) with ordinality as pending (timer, place))
  where saga = $1 and next_timer_at is not null and ($3::uuid[] is null or saga_id = any($3))`

const ADVANCE_MESSAGES = `
  update outbox_scheduled set due_at = due_at - $1 * interval '1 millisecond'`

/**
 * Lets time pass for the messages that a service is to send later: each is due that much earlier.
 * What is due then is sent within a second; `settled` waits for it.
 * @param duration such as `'10m'`
 */
export async function advanceMessages(
  database: WatchedSaga['database'],
  duration: string | number
): Promise<void> {
  await database.rows(ADVANCE_MESSAGES, [milliseconds(duration)])
}

/**
 * Lets time pass for the stored timers of a saga: each is due that much earlier. Those that are due
 * then fire within a second; `settled` waits for them. A timer that one of them starts counts from
 * the real time: advance again for it.
 * @param duration such as `'31s'`
 * @param sagaIds only of these instances
 */
export async function advance(
  { database, name }: WatchedSaga,
  duration: string | number,
  sagaIds?: readonly string[]
): Promise<void> {
  await database.rows(ADVANCE, [name, milliseconds(duration), sagaIds ?? null])
}
