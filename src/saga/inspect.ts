import type { DataSource } from 'typeorm'
import type { SagaDefinition } from './define.ts'
import { acceptedEvents, eventName } from './diagram.ts'
import { replay, type Replay } from './replay.ts'
import { statusOf } from './step.ts'
import type { HistoryRow, SagaRow } from './tables.ts'

interface StoredSaga extends SagaRow {
  created_at: Date
  updated_at: Date
}

type StoredHistory = HistoryRow & { recorded_at: Date }

const COLUMNS = 'saga_id, state, value, context, version, timers, created_at, updated_at'

/** Reads a saga's instances for people: never locks, never changes anything. */
export class SagaInspector {
  readonly #dataSource: DataSource
  readonly definition: SagaDefinition

  constructor(dataSource: DataSource, definition: SagaDefinition) {
    this.#dataSource = dataSource
    this.definition = definition
  }

  /** One instance with all it went through; undefined when there is none. */
  async get(sagaId: string) {
    const found = await this.#read(sagaId)
    if (!found) return undefined
    const { row, history } = found
    return {
      ...summary(row),
      context: row.context,
      accepts: acceptedEvents(this.definition, row.state),
      timers: row.timers.map(({ event, dueAt }) => ({ event: eventName(event), dueAt })),
      history: history.map((step) => ({
        sequence: step.sequence,
        event: eventName(step.event),
        messageId: step.message_id,
        from: step.from_state,
        to: step.to_state,
        sent: step.sent,
        at: step.recorded_at.toISOString()
      }))
    }
  }

  /** Newest first. @param before only instances with a smaller id */
  async list({ state, limit, before }: { state?: string; limit: number; before?: string }) {
    const rows: StoredSaga[] = await this.#dataSource.query(
      `select ${COLUMNS} from saga
       where saga = $1 and ($2::text is null or state = $2 or starts_with(state, $2 || '.')) and ($3::uuid is null or saga_id < $3)
       order by saga_id desc limit $4`,
      [this.definition.name, state ?? null, before ?? null, limit]
    )
    return rows.map(summary)
  }

  /** How many instances rest in each state. */
  async countByState(): Promise<Record<string, number>> {
    const rows: { state: string; count: string }[] = await this.#dataSource.query('select state, count(*) from saga where saga = $1 group by state order by state', [this.definition.name])
    return Object.fromEntries(rows.map(({ state, count }) => [state, Number(count)]))
  }

  /** Folds the recorded events through today's machine; undefined when there is no such instance. */
  async replay(sagaId: string): Promise<Replay | undefined> {
    const found = await this.#read(sagaId)
    return found && replay(this.definition, found.history, found.row)
  }

  /** Instance and history as of one moment. */
  #read(sagaId: string): Promise<{ row: StoredSaga; history: StoredHistory[] } | undefined> {
    return this.#dataSource.transaction('REPEATABLE READ', async (tx) => {
      const key = [this.definition.name, sagaId]
      const [row]: StoredSaga[] = await tx.query(`select ${COLUMNS} from saga where saga = $1 and saga_id = $2`, key)
      if (!row) return undefined
      const history: StoredHistory[] = await tx.query('select * from saga_history where saga = $1 and saga_id = $2 order by sequence', key)
      return { row, history }
    })
  }
}

function summary({ saga_id: sagaId, state, version, created_at: createdAt, updated_at: updatedAt }: StoredSaga) {
  return { sagaId, status: statusOf(state), state, version, createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString() }
}
