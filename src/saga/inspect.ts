import type { DataSource } from 'typeorm'
import type { SagaDefinition } from './define.ts'
import { acceptedEvents, describe, endsOf, eventName, timedStatesOf } from './diagram.ts'
import { recordings, type ExportFilter } from './export.ts'
import { COLUMNS, countByState, listNewest, listStuck, listWaiting, type ListFilter, type SagaCounts, type StoredSaga } from './list.ts'
import { replay, type Replay } from './replay.ts'
import { restore, statusOf } from './state.ts'
import { awaitedCommands } from './step.ts'
import type { HistoryRow, LastError } from './tables.ts'
import { allVersions, machineOf, ofVersion } from './versions.ts'

/** What an instance needs to get on. */
export interface WaitingFor {
  /** Messages that would move it. */
  events: string[]
  /** Commands whose answers these are; a retry sends them again. */
  commands: string[]
  /** Since when it has been in its state. */
  since: string
  /** How often the commands were sent since then. */
  attempts: number
  lastError: LastError | null
}

type StoredHistory = HistoryRow & { recorded_at: Date }

/** Reads a saga's instances for people: never locks, never changes anything. */
export class SagaInspector {
  readonly #dataSource: DataSource
  readonly definition: SagaDefinition
  /** States in which an instance may be without a timer, of any version. */
  readonly #untimed: string[]

  constructor(dataSource: DataSource, definition: SagaDefinition) {
    this.#dataSource = dataSource
    this.definition = definition
    this.#untimed = allVersions(definition).flatMap((version) => {
      const timed = timedStatesOf(version)
      return describe(version).states.filter((state) => !timed.includes(state))
    })
  }

  /** One instance with all it went through; undefined when there is none. */
  async get(sagaId: string) {
    const found = await this.#read(sagaId)
    if (!found) return undefined
    const { row, history } = found
    return {
      ...summary(row),
      context: row.context,
      accepts: this.#accepts(row),
      timers: row.timers.map(({ event, dueAt }) => ({ event: eventName(event), dueAt })),
      waitingFor: this.#waitingFor(row, history),
      deferred: (row.deferred ?? []).map(({ event, messageId }) => ({ event: event.type, messageId })),
      history: history.map((step) => ({
        sequence: step.sequence,
        event: eventName(step.event),
        messageId: step.message_id,
        from: step.from_state,
        to: step.to_state,
        sent: step.sent,
        note: step.note,
        machineVersion: step.machine_version,
        at: step.recorded_at.toISOString()
      }))
    }
  }

  /** Newest first. @returns `readOn` see listNewest */
  async list(filter: ListFilter) {
    const { name } = this.definition
    if (filter.state !== undefined && this.#alwaysWaits(filter.state)) return { items: (await listWaiting(this.#dataSource, name, filter)).map(summary) }
    const { rows, readOn } = await listNewest(this.#dataSource, name, filter)
    return { items: rows.map(summary), readOn }
  }

  /** See listStuck. */
  async listStuck(filter: Parameters<typeof listStuck>[2]) {
    return (await listStuck(this.#dataSource, this.definition.name, filter)).map(summary)
  }

  /** See countByState. */
  count(): Promise<SagaCounts> {
    return countByState(this.#dataSource, this.definition.name)
  }

  /** Folds the recorded events through today's machine; undefined when there is no such instance. */
  async replay(sagaId: string): Promise<Replay | undefined> {
    const found = await this.#read(sagaId)
    return found && replay(this.definition, found.history, found.row)
  }

  /** See recordings. */
  export(filter: ExportFilter): AsyncGenerator<string> {
    return recordings(this.#dataSource, this.definition.name, filter)
  }

  /** Whether every instance in the state, or in a state inside it, has a timer. */
  #alwaysWaits(state: string): boolean {
    return !this.#untimed.some((leaf) => leaf === state || leaf.startsWith(`${state}.`))
  }

  #waitingFor(row: StoredSaga, history: readonly StoredHistory[]): WaitingFor | null {
    if (endsOf(ofVersion(this.definition, row.machine_version) ?? this.definition).includes(row.state)) return null
    const handled = new Set(this.definition.handles.map(({ name }) => name))
    const events = this.#accepts(row).filter((event) => handled.has(event))
    const commands = this.#commandsOf(row)
    const entered = history.findLastIndex(({ from_state: from, to_state: to }) => from !== to)
    const attempts = history.slice(Math.max(entered, 0)).filter(({ sent }) => sent.some(({ type }) => commands.includes(type))).length
    return { events, commands, since: (history[entered]?.recorded_at ?? row.updated_at).toISOString(), attempts, lastError: row.last_error }
  }

  /** What its own version takes: it is migrated, if at all, only when something moves it. */
  #accepts({ state, machine_version: version }: StoredSaga): string[] {
    const definition = ofVersion(this.definition, version)
    return definition ? acceptedEvents(definition, state) : []
  }

  #commandsOf({ value, context, machine_version: version }: StoredSaga): string[] {
    const machine = machineOf(this.definition, version)
    try {
      return machine ? awaitedCommands(restore(machine, value, context)).map(({ contract }) => contract.name) : []
    } catch {
      // The machine has no such state; `lastError` says so once a timer was due.
      return []
    }
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

function summary({ saga_id: sagaId, state, version, machine_version: machineVersion, created_at: createdAt, updated_at: updatedAt, stuck_since: stuckSince }: StoredSaga) {
  return { sagaId, status: statusOf(state), state, version, machineVersion, createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString(), stuckSince: stuckSince?.toISOString() ?? null }
}
