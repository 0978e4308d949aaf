import type { Database } from '../../messaging/postgres/database.ts'
import type { SagaDefinition } from '../define.ts'
import { timedStatesOf } from '../machine/states.ts'
import type { Usual } from './usual.ts'

/** Instances that are looked through for those in a state. */
const WINDOW = 100_000
/** Of how many stays the usual has to be known, for a stay to be called longer than that. */
const ENOUGH = 20

// Those with a timer are found by its index, however many have ended.
const TIMED = `
  select count(*)::integer as count from (
    select saga_id, state, stuck_since, updated_at from saga
    where saga || '' = $1 and next_timer_at is not null limit ${WINDOW}) as waiting`
const UNTIMED = `
  select count(*)::integer as count from (
    select saga_id, state, stuck_since, updated_at from saga where saga = $1
    order by saga_id desc limit ${WINDOW}) as waiting`
const FIT = `
  where state = $2 and saga_id <> $3
    and coalesce(stuck_since, updated_at) < now() - $4 * interval '1 millisecond'`

/** How many others are in a state. */
export interface Others {
  /** Among 100,000. */
  count: number
  state: string
  /** Only those that have been there longer than 95 of 100 are. */
  longerThanUsual: boolean
}

/** Counts the instances in a state besides one, where it can be told those that wait unusually long. */
export async function othersIn(
  database: Database,
  definition: SagaDefinition,
  state: string,
  sagaId: string,
  usual: Usual | undefined
): Promise<Others> {
  const longerThanUsual = usual !== undefined && usual.of >= ENOUGH
  const isTimed = timedStatesOf(definition).includes(state)
  const [row]: { count: number }[] = await database.rows((isTimed ? TIMED : UNTIMED) + FIT, [
    definition.name,
    state,
    sagaId,
    longerThanUsual ? usual.p95Ms : 0
  ])
  return { count: row!.count, state, longerThanUsual }
}
