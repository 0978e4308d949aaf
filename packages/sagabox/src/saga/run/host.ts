import { SagaboxError } from '../../messaging/errors/sagabox-error.ts'
import type { Handler } from '../../messaging/endpoint/handler.ts'
import { idOfKey } from '../../messaging/message/correlation.ts'
import { keyOf, type Contract, type Message } from '../../messaging/message/message.ts'
import { NotRetryable, Refused } from '../../messaging/inbox/retry.ts'
import { run, statement, type Tx } from '../../messaging/postgres/sql.ts'
import { DROP, type SagaDefinition } from '../define.ts'
import { endsOf } from '../machine/states.ts'
import { errorText } from '../machine/error-text.ts'
import { byHandNote, SagaInstance, type Asked, type ByHand } from './instance.ts'
import { statusOf } from '../machine/state.ts'
import type { SagaEvent } from '../machine/step.ts'
import {
  dueInstances,
  insertHistory,
  insertInstances,
  lockDue,
  lockIfDue,
  lockInstances,
  postponeTimers,
  recordErrors,
  updateInstances,
  type DeferredEvent,
  type LastError,
  type LockedRow
} from '../store/rows.ts'
import { allVersions } from './versions.ts'

const NOW = statement('select now() as now')

/** One instance after a call. */
export interface SagaMove {
  /** Active state as a path. */
  state: string
  context: Record<string, unknown>
  messages: Message[]
}

/** A message of an instance that could not be handled where it went. */
export interface SagaFault extends LastError {
  sagaId: string
}

/** An instance whose timer could not be fired, and why. */
export interface FailedTimer {
  sagaId: string
  error: string
  /** It failed in the same way when it was tried before. */
  again: boolean
}

/** Moves a saga's instances, always inside a transaction of the caller. */
export class SagaHost {
  readonly definition: SagaDefinition

  /** @internal */
  constructor(definition: SagaDefinition) {
    this.definition = definition
  }

  /**
   * Starts one instance for each message, in the transaction that sends them.
   * @param now the database's time, from which timers count
   * @returns the messages that the machine sends as it starts
   */
  async start(tx: Tx, messages: readonly Message[], now: Date): Promise<Message[]> {
    const instances = messages.map((started) => SagaInstance.start(this.definition, started, now))
    insertInstances(
      tx,
      this.definition.name,
      instances.map((instance) => instance.toRow())
    )
    await this.#record(tx, instances)
    return instances.flatMap((instance) => instance.sent)
  }

  /**
   * The endpoint's handler for the saga's events.
   * @internal
   */
  handler(): Handler {
    return {
      contracts: consumedBy(this.definition),
      handle: (messages, tx) => this.#handle(messages, tx)
    }
  }

  /**
   * Fires the timers that are due, of at most `limit` instances. One that today's machine cannot
   * move is put off.
   * @returns how many were due, what they send, and which could not be moved
   * @throws what the database or `project` throws, which may be the fault of one of them: see
   * fireOne
   * @internal
   */
  async fireDue(
    tx: Tx,
    limit: number
  ): Promise<{ due: number; messages: Message[]; failed: FailedTimer[] }> {
    const rows = await lockDue(tx, this.definition.name, limit)
    const instances: SagaInstance[] = []
    const moved: LockedRow[] = []
    const failed: FailedTimer[] = []
    const now = nowOf(rows)
    for (const row of rows) {
      try {
        instances.push(this.#fire(row, now))
        moved.push(row)
      } catch (error) {
        const text = errorText(error)
        failed.push({ sagaId: row.saga_id, error: text, again: row.last_error?.message === text })
      }
    }
    if (failed.length > 0) this.#postpone(tx, failed, now)
    return { due: rows.length, messages: await this.#save(tx, moved, instances), failed }
  }

  /**
   * Ids of at most `limit` instances that are due, for fireOne.
   * @internal
   */
  due(tx: Tx, limit: number): Promise<string[]> {
    return dueInstances(tx, this.definition.name, limit)
  }

  /**
   * Fires the timers of one instance that are due, in a transaction of its own, which waits for
   * nobody's lock for long.
   * @returns what it sends
   * @internal
   */
  async fireOne(tx: Tx, sagaId: string): Promise<Message[]> {
    const row = await lockIfDue(tx, this.definition.name, sagaId)
    if (!row) return []
    return this.#save(tx, [row], [this.#fire(row, nowOf([row]))])
  }

  /**
   * Puts off the timers of an instance that fireOne could not move, for as long as it has been
   * stuck; it shows why.
   * @returns undefined when it is no longer due, or somebody else has it
   * @internal
   */
  async putOff(tx: Tx, sagaId: string, error: unknown): Promise<FailedTimer | undefined> {
    const row = await lockIfDue(tx, this.definition.name, sagaId)
    if (!row) return undefined
    const text = errorText(error)
    const failed = { sagaId, error: text, again: row.last_error?.message === text }
    this.#postpone(tx, [failed], nowOf([row]))
    return failed
  }

  /**
   * Moves one instance as a person says.
   * @param sagaId its id, or what its messages call it
   * @param move given the locked row; what it throws leaves everything as it was
   * @returns the instance afterwards, and the messages to send; undefined when there is no such
   * instance
   * @internal
   */
  async moveByHand(
    tx: Tx,
    sagaId: string,
    move: (row: LockedRow, now: Date) => SagaInstance
  ): Promise<(SagaMove & { version: number }) | undefined> {
    const [row] = await lockInstances(tx, this.definition.name, [idOfKey(sagaId)])
    if (!row) return undefined
    const instance = move(row, nowOf([row]))
    const messages = await this.#save(tx, [row], [instance])
    const { state, context, version } = instance.toRow()
    return { state, context, version, messages }
  }

  /**
   * Forgets an event that an instance keeps for another state; the history has it as a step. No
   * machine is needed.
   * @param choose given the locked row; what it throws leaves everything as it was
   * @returns the instance afterwards; undefined when there is no such instance
   * @internal
   */
  async dropDeferred(
    tx: Tx,
    sagaId: string,
    choose: (row: LockedRow) => DeferredEvent,
    byHand: ByHand
  ): Promise<(SagaMove & { version: number }) | undefined> {
    const { name } = this.definition
    const [row] = await lockInstances(tx, name, [idOfKey(sagaId)])
    if (!row) return undefined
    const dropped = choose(row)
    const kept = row.deferred!.filter((deferred) => deferred !== dropped)
    const { state, context } = row
    const version = row.version + 1
    updateInstances(tx, name, [row], [{ ...row, version, deferred: kept.length > 0 ? kept : null }])
    const { event, messageId } = dropped
    const step = {
      event: DROP,
      body: { event, messageId },
      message_id: null,
      from_state: state,
      to_state: state,
      sent: []
    }
    const note = byHandNote(byHand)
    insertHistory(tx, name, [
      {
        saga_id: row.saga_id,
        sequence: version,
        ...step,
        note,
        machine_version: row.machine_version
      }
    ])
    return { state, context, version, messages: [] }
  }

  /**
   * Applies an event that no message carries, such as a request's, to one instance. One that the
   * state does not take changes nothing.
   * @param sagaId its id, or what its messages call it
   * @returns the instance afterwards, and the messages to send; undefined when there is no such
   * instance
   */
  async ask(tx: Tx, sagaId: string, event: SagaEvent): Promise<(Asked & SagaMove) | undefined> {
    return this.#moveOne(tx, sagaId, (instance, now) => instance.ask(event, now))
  }

  /**
   * Sends once more the commands whose answers an instance waits for, under new ids; the history
   * has it as a step `retry`.
   * @returns the instance, and the messages to send: none when it waits for no command's answer;
   * undefined when there is no such instance
   * @param byHand who and why, for the history
   */
  async retry(tx: Tx, sagaId: string, byHand?: ByHand): Promise<SagaMove | undefined> {
    return this.#moveOne(tx, sagaId, (instance, now) => ({ taken: instance.retry(now, byHand) }))
  }

  /**
   * Records on each instance that has not ended why something that it waits for failed; it shows
   * until the state changes.
   * @internal
   */
  async recordFaults(tx: Tx, faults: readonly SagaFault[]): Promise<void> {
    const last = new Map<string, LastError>(
      faults.map(({ sagaId, ...error }) => [sagaId.toLowerCase(), error])
    )
    const ends = allVersions(this.definition).flatMap(endsOf)
    // Locked by a statement of its own: one that waited for a lock would miss the row that an event
    // has written meanwhile.
    const waiting = (await lockInstances(tx, this.definition.name, [...last.keys()])).filter(
      ({ state }) => !ends.includes(state)
    )
    if (waiting.length > 0)
      recordErrors(
        tx,
        waiting.map((locked) => ({ locked, error: last.get(locked.saga_id)! }))
      )
  }

  #fire(row: LockedRow, now: Date): SagaInstance {
    mustHaveTimers(row)
    const instance = SagaInstance.load(this.definition, row, now)
    instance.fire(now)
    return instance
  }

  #postpone(tx: Tx, failed: readonly FailedTimer[], now: Date): void {
    const at = now.toISOString()
    const errors = failed.map(({ sagaId, error }) => ({
      sagaId,
      error: { at, message: error, type: null }
    }))
    postponeTimers(tx, this.definition.name, errors)
  }

  async #moveOne<R extends { taken: boolean }>(
    tx: Tx,
    sagaId: string,
    move: (instance: SagaInstance, now: Date) => R
  ): Promise<(R & SagaMove) | undefined> {
    const [row] = await lockInstances(tx, this.definition.name, [idOfKey(sagaId)])
    if (!row) return undefined
    const now = nowOf([row])
    const instance = SagaInstance.load(this.definition, row, now)
    const result = move(instance, now)
    const messages = result.taken ? await this.#save(tx, [row], [instance]) : []
    const { state, context } = instance.toRow()
    return { ...result, state, context, messages }
  }

  async #handle(messages: Message[], tx: Tx): Promise<Message[]> {
    const { startedBy, startsInTransaction } = this.definition
    if (startsInTransaction) return this.#move(messages, tx)
    const starts = messages.filter(({ contract }) => contract === startedBy)
    if (starts.length === 0) return this.#move(messages, tx)
    const begun = await this.#begin(starts, tx)
    const others = messages.filter(({ contract }) => contract !== startedBy)
    return others.length === 0 ? begun : [...begun, ...(await this.#move(others, tx))]
  }

  /** Starts those that are not there yet: a second start is the first again. */
  async #begin(starts: readonly Message[], tx: Tx): Promise<Message[]> {
    const first = new Map(starts.toReversed().map((start) => [idOf(start), start]))
    for (const { saga_id } of await lockInstances(tx, this.definition.name, [...first.keys()]))
      first.delete(saga_id)
    if (first.size === 0) return []
    const [row] = await run<{ now: Date }>(tx, NOW, [])
    return this.start(tx, [...first.values()].toReversed(), row!.now)
  }

  async #move(messages: readonly Message[], tx: Tx): Promise<Message[]> {
    const { name, startsInTransaction } = this.definition
    const ids = [...new Set(messages.map((message) => message.correlationId!))]
    const rows = await lockInstances(tx, name, ids)
    const now = nowOf(rows)
    const instances = new Map(
      rows.map((row) => [row.saga_id, SagaInstance.load(this.definition, row, now)])
    )
    const instanceOf = (message: Message) => instances.get(idOf(message))
    const orphans = messages.filter((message) => !instanceOf(message))
    if (orphans.length > 0)
      throw new Refused(
        new Map(
          orphans.map((orphan) => [
            orphan,
            startsInTransaction ? new NoInstance(orphan, name) : new NotStartedYet(orphan, name)
          ])
        )
      )
    for (const message of messages) instanceOf(message)!.apply(message, now)
    return this.#save(tx, rows, [...instances.values()])
  }

  async #save(
    tx: Tx,
    locked: readonly LockedRow[],
    instances: readonly SagaInstance[]
  ): Promise<Message[]> {
    if (instances.length === 0) return []
    updateInstances(
      tx,
      this.definition.name,
      locked,
      instances.map((instance) => instance.toRow())
    )
    await this.#record(tx, instances)
    return instances.flatMap((instance) => instance.sent)
  }

  async #record(tx: Tx, instances: readonly SagaInstance[]): Promise<void> {
    const { name, project } = this.definition
    insertHistory(
      tx,
      name,
      instances.flatMap((instance) => instance.history)
    )
    if (!project) return
    const changes = instances.map((instance) => {
      const { saga_id: sagaId, key, state, context } = instance.toRow()
      return { sagaId, key: key ?? sagaId, state, status: statusOf(state), context }
    })
    await project(
      tx,
      changes.toSorted((a, b) => (a.sagaId < b.sagaId ? -1 : 1))
    )
  }
}

/** What a saga's endpoint takes to move its instances, and to start them. */
export function consumedBy({
  startedBy,
  startsInTransaction,
  handles
}: SagaDefinition): Contract[] {
  return startsInTransaction ? [...handles] : [...new Set([startedBy, ...handles])]
}

function idOf({ correlationId }: Message): string {
  // A message made by hand may have it in capitals; Postgres answers in small letters.
  return correlationId!.toLowerCase()
}

/** A message for an instance that is not here: it may have overtaken what starts it. */
export class NotStartedYet extends SagaboxError {
  override readonly name = 'NotStartedYet'
  override readonly code = 'NOT_STARTED_YET'

  constructor({ contract, body, correlationId }: Message, saga: string) {
    super(
      `${contract.name}: no ${saga} saga ${keyOf(contract, body) ?? correlationId} has been started yet`
    )
  }
}

/** A message for an instance that is not here, and was not begun here: no retry will bring it. */
export class NoInstance extends NotRetryable {
  override readonly name = 'NoInstance'
  override readonly code = 'NO_INSTANCE'

  constructor({ contract, body, correlationId }: Message, saga: string) {
    super(`${contract.name}: no ${saga} saga ${keyOf(contract, body) ?? correlationId}`)
  }
}

/** A row that was changed by hand: without this it would wait on, for a timer that it has not. */
function mustHaveTimers({ timers }: LockedRow): void {
  const what = 'Its timers were changed from outside, and there is nothing to fire'
  if (timers.length === 0) throw new Error(`${what}: next_timer_at is set, and timers is empty`)
  for (const { id, dueAt } of timers) {
    if (Number.isNaN(Date.parse(dueAt)))
      throw new Error(`${what}: dueAt of ${id} is ${dueAt}, not a time`)
  }
}

/** The transaction's time by the database's clock; of no rows, any. */
function nowOf(rows: readonly LockedRow[]): Date {
  return new Date(rows[0]?.now_ms ?? 0)
}
