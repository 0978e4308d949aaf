import type { Database } from '../../messaging/postgres/database.ts'
import { ask, transaction, type Tx } from '../../messaging/postgres/sql.ts'
import { setImmediate as breathe } from 'node:timers/promises'
import type { Mask } from '../../messaging/message/sensitive.ts'
import { idOfKey } from '../../messaging/message/correlation.ts'
import type { SagaDefinition } from '../define.ts'
import { describe } from './diagram.ts'
import { acceptedEvents, endsOf, eventName, timedStatesOf } from '../machine/states.ts'
import { recordings, type ExportFilter } from '../store/export.ts'
import {
  COLUMNS,
  countByState,
  listNewest,
  listStuck,
  listWaiting,
  type ListFilter,
  type SagaCounts,
  type StoredSaga
} from '../store/list.ts'
import { MOST_PATH_STEPS, PathTaken, type Path, type PathStep, type TimedHistory } from './path.ts'
import { reachableFrom, targetOf } from './reachable.ts'
import { Replayed, type Replay } from './replay.ts'
import { restore, statusOf } from '../machine/state.ts'
import { awaitedCommands } from '../machine/step.ts'
import type { LastError } from '../store/rows.ts'
import { allVersions, machineOf, ofVersion } from '../run/versions.ts'

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

/** One step of an instance's history. */
export interface SagaStep {
  /** From 1. */
  sequence: number
  /** Name of the event or of the timer. */
  event: string
  messageId: string | null
  /** The state before, as a path; null: it was started by this. */
  from: string | null
  to: string
  sent: { type: string; messageId: string }[]
  /** What the machine or a person said about it. */
  note: string | null
  machineVersion: number
  /** ISO 8601, by the database's clock, as all times here. */
  at: string
}

/** One instance with its history. */
export interface SagaDetail {
  sagaId: string
  /** What its messages call it, where that is not its id. */
  key?: string
  /** The top-level state. */
  status: string
  /** The state as a path. */
  state: string
  /** Steps that it has gone through. */
  version: number
  machineVersion: number
  createdAt: string
  updatedAt: string
  /** Since when its timers cannot move it; null: they can. */
  stuckSince: string | null
  context: Record<string, unknown>
  /** Events that its state takes. */
  accepts: string[]
  timers: { id: string; event: string; dueAt: string }[]
  /** Null: it waits for nothing, since it has ended. */
  waitingFor: WaitingFor | null
  /** Events that it keeps for another state. */
  deferred: { event: string; messageId: string | null; since: string | null }[]
  /** Earlier steps are before this one; null: there are none. */
  historyBefore: number | null
  /** The last steps, at most 1,000. */
  history: SagaStep[]
}

type StoredHistory = TimedHistory

/** Steps of a history that are read at most for one answer. */
export const MOST_STEPS = 1000

/** Bytes of steps, as stored, that replay holds at once, beside one step of any size. */
const PAGE_BYTES = 4_000_000
const PAGE_STEPS = 500
/** Longest that a replay computes without letting others go on, ms. */
const TURN_MS = 50

const STEPS = `
  select sequence, event, message_id, from_state, to_state, sent, note, machine_version, recorded_at
    from saga_history
  where saga = $1 and saga_id = $2 and ($3::integer is null or sequence < $3) order by sequence desc
    limit $4`

const WAITED = `
  with entered as (
    select sequence, recorded_at from saga_history
    where saga = $1 and saga_id = $2 and from_state is distinct from to_state order by sequence desc
      limit 1)
  select recorded_at as since, (
    select count(*)::integer from saga_history step
    where step.saga = $1 and step.saga_id = $2 and step.sequence >= entered.sequence
      and exists (select from jsonb_array_elements(sent) as message
        where message ->> 'type' = any($3::text[]))) as attempts
  from entered`

const PAGE = `
  select * from (
    select page.*, sum(pg_column_size(body) + pg_column_size(sent)) over (order by sequence) as bytes,
      row_number() over (order by sequence) as place
    from (
      select * from saga_history where saga = $1 and saga_id = $2 and sequence > $3
        and sequence <= $4
      order by sequence limit ${PAGE_STEPS}) as page) as sized
  where bytes <= ${PAGE_BYTES} or place = 1 order by sequence`

/**
 * Since when an instance has been in its state, and how often it has sent what it waits for since
 * then.
 */
interface Waited {
  since: Date
  attempts: number
}

interface Read {
  row: StoredSaga
  history: StoredHistory[]
  waited: Waited | undefined
}

/** Reads a saga's instances for people: never locks, never changes anything. */
export class SagaInspector {
  readonly #database: Database
  readonly definition: SagaDefinition
  /** States in which an instance may be without a timer, of any version. */
  readonly #untimed: string[]

  constructor(database: Database, definition: SagaDefinition) {
    this.#database = database
    this.definition = definition
    this.#untimed = allVersions(definition).flatMap((version) => {
      const timed = timedStatesOf(version)
      return describe(version).states.filter((state) => !timed.includes(state))
    })
  }

  /**
   * One instance, by its id or by what its messages call it, with the last `limit` steps that it went through, or the last before one;
   * undefined when there is none.
   */
  async get(
    sagaId: string,
    { before, limit = MOST_STEPS }: { before?: number; limit?: number } = {}
  ): Promise<SagaDetail | undefined> {
    const found = await this.#read(sagaId, before, limit)
    if (!found) return undefined
    const { row, history, waited } = found
    return {
      ...summary(row),
      context: row.context,
      accepts: this.#accepts(row),
      timers: row.timers.map(({ id, event, dueAt }) => ({ id, event: eventName(event), dueAt })),
      waitingFor: this.#waitingFor(row, waited),
      deferred: (row.deferred ?? []).map(({ event, messageId, at = null }) => ({
        event: event.type,
        messageId,
        since: at
      })),
      historyBefore: (history[0]?.sequence ?? 1) > 1 ? history[0]!.sequence : null,
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
    if (filter.state !== undefined && this.#alwaysWaits(filter.state))
      return { items: (await listWaiting(this.#database, name, filter)).map(summary) }
    const { rows, readOn } = await listNewest(this.#database, name, filter)
    return { items: rows.map(summary), readOn }
  }

  /** The instance of a key, or of an id, where it is in the state and stuck when that is asked. */
  async find(key: string, { state, stuck }: { state?: string; stuck: boolean }) {
    const row = await this.#row(this.#database, key)
    const fits =
      row &&
      (state === undefined || row.state === state || row.state.startsWith(`${state}.`)) &&
      (!stuck || row.stuck_since !== null)
    return fits ? summary(row) : undefined
  }

  /** See listStuck. */
  async listStuck(filter: Parameters<typeof listStuck>[2]) {
    return (await listStuck(this.#database, this.definition.name, filter)).map(summary)
  }

  /** See countByState. */
  count(): Promise<SagaCounts> {
    return countByState(this.#database, this.definition.name)
  }

  /**
   * Folds the recorded events through today's machine; undefined when there is no such instance.
   */
  async replay(sagaId: string): Promise<Replay | undefined> {
    const row = await this.#row(this.#database, sagaId)
    if (!row) return undefined
    const replayed = new Replayed(this.definition)
    await this.#eachStep(row, (step) => replayed.add(step))
    return replayed.comparedWith(row)
  }

  /**
   * The steps that an instance has gone through, with what it knew after each as today's machines
   * tell it; undefined when there is no such instance.
   * @param hidden what of contexts is not for whoever asks
   */
  async path(
    sagaId: string,
    { before = Infinity, limit = MOST_PATH_STEPS }: { before?: number; limit?: number } = {},
    hidden?: Mask
  ): Promise<Path | undefined> {
    const row = await this.#row(this.#database, sagaId)
    if (!row) return undefined
    const taken = new PathTaken(this.definition, before, limit)
    await this.#eachStep(row, (step) => taken.add(step))
    const now = new Date()
    const saga = ofVersion(this.definition, row.machine_version)
    const steps: PathStep[] = []
    let turn = performance.now()
    for (const step of taken.described(hidden)) {
      steps.push(step)
      if (performance.now() - turn > TURN_MS) {
        await breathe()
        turn = performance.now()
      }
    }
    const [timer] = row.timers.toSorted((a, b) => Date.parse(a.dueAt) - Date.parse(b.dueAt))
    const last = steps.at(-1)
    if (last?.sequence === row.version && saga && !endsOf(saga).includes(row.state))
      last.msInState = Math.max(0, now.getTime() - Date.parse(last.at))
    return {
      state: row.state,
      steps,
      stepsBefore: (steps[0]?.sequence ?? 1) > 1 ? steps[0]!.sequence : null,
      reachable: saga ? reachableFrom(saga.machine, row.state) : [],
      timer: timer && saga ? { at: timer.dueAt, to: targetOf(saga, row, timer.event) } : null
    }
  }

  /** Histories only grow: as far as the row tells, they do not change while they are read. */
  async #eachStep(row: StoredSaga, work: (step: TimedHistory) => void): Promise<void> {
    let turn = performance.now()
    for (let last = 0; ;) {
      const page: TimedHistory[] = await this.#database.rows(PAGE, [
        this.definition.name,
        row.saga_id,
        last,
        row.version
      ])
      if (page.length === 0) return
      for (const step of page) {
        work(step)
        last = step.sequence
        if (performance.now() - turn > TURN_MS) {
          await breathe()
          turn = performance.now()
        }
      }
    }
  }

  /** See recordings. */
  export(filter: ExportFilter, hidden?: Mask): AsyncGenerator<string> {
    return recordings(this.#database, this.definition.name, filter, hidden)
  }

  /** Whether every instance in the state, or in a state inside it, has a timer. */
  #alwaysWaits(state: string): boolean {
    return !this.#untimed.some((leaf) => leaf === state || leaf.startsWith(`${state}.`))
  }

  #waitingFor(row: StoredSaga, waited: Waited | undefined): WaitingFor | null {
    if (
      endsOf(ofVersion(this.definition, row.machine_version) ?? this.definition).includes(row.state)
    )
      return null
    const handled = new Set(this.definition.handles.map(({ name }) => name))
    const events = this.#accepts(row).filter((event) => handled.has(event))
    const commands = this.#commandsOf(row)
    const { since = row.updated_at, attempts = 0 } = waited ?? {}
    return { events, commands, since: since.toISOString(), attempts, lastError: row.last_error }
  }

  /** What its own version takes: it is migrated, if at all, only when something moves it. */
  #accepts({ state, machine_version: version }: StoredSaga): string[] {
    const definition = ofVersion(this.definition, version)
    return definition ? acceptedEvents(definition, state) : []
  }

  #commandsOf({ value, context, machine_version: version }: StoredSaga): string[] {
    const machine = machineOf(this.definition, version)
    try {
      return machine
        ? awaitedCommands(restore(machine, value, context)).map(({ contract }) => contract.name)
        : []
    } catch {
      // The machine has no such state; `lastError` says so once a timer was due.
      return []
    }
  }

  /** Instance and history as of one moment. */
  #read(sagaId: string, before: number | undefined, limit: number): Promise<Read | undefined> {
    return transaction(
      this.#database,
      async (tx) => {
        const row = await this.#row(tx, sagaId)
        if (!row) return undefined
        const key = [this.definition.name, row.saga_id]
        const history: StoredHistory[] = await ask(tx, STEPS, [...key, before ?? null, limit])
        const [waited]: Waited[] = await ask(tx, WAITED, [...key, this.#commandsOf(row)])
        return { row, history: history.toReversed(), waited }
      },
      { isolation: 'repeatable read' }
    )
  }

  async #row(source: Tx | Database, sagaId: string): Promise<StoredSaga | undefined> {
    const rows: StoredSaga[] = await ask(
      source,
      `select ${COLUMNS} from saga where saga = $1 and saga_id = $2`,
      [this.definition.name, idOfKey(sagaId)]
    )
    return rows[0]
  }
}

function summary({
  saga_id: sagaId,
  key,
  state,
  version,
  machine_version: machineVersion,
  created_at: createdAt,
  updated_at: updatedAt,
  stuck_since: stuckSince
}: StoredSaga) {
  return {
    sagaId,
    ...(key !== null && { key }),
    status: statusOf(state),
    state,
    version,
    machineVersion,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    stuckSince: stuckSince?.toISOString() ?? null
  }
}
