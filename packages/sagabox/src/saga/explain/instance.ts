import type { Database } from '../../messaging/postgres/database.ts'
import { idOfKey } from '../../messaging/message/correlation.ts'
import { ask, transaction } from '../../messaging/postgres/sql.ts'
import { COLUMNS, type StoredSaga } from '../store/list.ts'

/** Steps, and bytes of what they sent, that are read of one instance, besides its first. */
const MOST_STEPS = 200
const MOST_BYTES = 500_000

/** A step, without the body of its event. */
export interface KnownStep {
  sequence: number
  event: string
  message_id: string | null
  from_state: string | null
  to_state: string
  sent: { type: string; messageId: string }[]
  recorded_at: Date
}

/** An instance and its last steps, as of one moment. */
export interface KnownInstance {
  row: StoredSaga
  /** By the database's clock, as all times of the instance. */
  now: Date
  /** The first, and the last; in their order. */
  steps: KnownStep[]
  /** When it came into its state. */
  enteredAt: Date
}

const STEP = 'sequence, event, message_id, from_state, to_state, sent, recorded_at'

const STEPS = `
  select ${STEP} from (
    select ${STEP}, sum(pg_column_size(sent)) over (order by sequence desc) as bytes from (
      select ${STEP} from saga_history where saga = $1 and saga_id = $2
      order by sequence desc limit ${MOST_STEPS}) as newest) as weighed
  where bytes <= ${MOST_BYTES}
  union all
  select ${STEP} from saga_history where saga = $1 and saga_id = $2 and sequence = 1
  order by sequence`

const ENTERED = `
  select recorded_at from saga_history
  where saga = $1 and saga_id = $2 and from_state is distinct from to_state
  order by sequence desc limit 1`

/** @param key its id, or what its messages call it; undefined when there is no such instance */
export function readInstance(
  database: Database,
  saga: string,
  key: string
): Promise<KnownInstance | undefined> {
  return transaction(
    database,
    async (tx) => {
      const named = [saga, idOfKey(key)]
      const [row]: (StoredSaga & { now: Date })[] = await ask(
        tx,
        `select ${COLUMNS}, now() as now from saga where saga = $1 and saga_id = $2`,
        named
      )
      if (!row) return undefined
      const found: KnownStep[] = await ask(tx, STEPS, named)
      const [entered]: { recorded_at: Date }[] = await ask(tx, ENTERED, named)
      const steps = found.filter((step, index) => step.sequence !== found[index - 1]?.sequence)
      return { row, now: row.now, steps, enteredAt: entered?.recorded_at ?? row.updated_at }
    },
    { isolation: 'repeatable read' }
  )
}
