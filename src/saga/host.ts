import type { Handler } from '../messaging/handler.ts'
import type { Message } from '../messaging/message.ts'
import { NotRetryable, Refused } from '../messaging/retry.ts'
import type { Tx } from '../messaging/sql.ts'
import type { SagaDefinition } from './define.ts'
import { endsOf } from './diagram.ts'
import { SagaInstance, type Asked } from './instance.ts'
import { statusOf } from './state.ts'
import type { SagaEvent } from './step.ts'
import { insertHistory, insertInstances, lockDue, lockInstances, postponeTimers, recordErrors, updateInstances, type LastError, type LockedRow } from './tables.ts'
import { allVersions } from './versions.ts'

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

/** Moves a saga's instances, always inside a transaction of the caller. */
export class SagaHost {
  readonly definition: SagaDefinition

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
    insertInstances(tx, this.definition.name, instances.map((instance) => instance.toRow()))
    await this.#record(tx, instances)
    return instances.flatMap((instance) => instance.sent)
  }

  /** The endpoint's handler for the saga's events. */
  handler(): Handler {
    return { contracts: this.definition.handles, handle: (messages, tx) => this.#handle(messages, tx) }
  }

  /**
   * Fires the timers that are due, of at most `limit` instances. One that today's machine cannot move is put off.
   * @returns how many were due, what they send, and which could not be moved
   */
  async fireDue(tx: Tx, limit: number): Promise<{ due: number; messages: Message[]; failed: { sagaId: string; error: unknown }[] }> {
    const rows = await lockDue(tx, this.definition.name, limit)
    const instances: SagaInstance[] = []
    const moved: LockedRow[] = []
    const failed: { sagaId: string; error: unknown }[] = []
    const now = nowOf(rows)
    for (const row of rows) {
      try {
        const instance = SagaInstance.load(this.definition, row, now)
        instance.fire(now)
        instances.push(instance)
        moved.push(row)
      } catch (error) {
        failed.push({ sagaId: row.saga_id, error })
      }
    }
    if (failed.length > 0) {
      const at = now.toISOString()
      postponeTimers(tx, this.definition.name, failed.map(({ sagaId, error }) => ({ sagaId, error: { at, message: error instanceof Error ? error.message : String(error), type: null } })))
    }
    return { due: rows.length, messages: await this.#save(tx, moved, instances), failed }
  }

  /**
   * Applies an event that no message carries, such as a request's, to one instance. One that the state does not take changes nothing.
   * @returns the instance afterwards, and the messages to send; undefined when there is no such instance
   */
  async ask(tx: Tx, sagaId: string, event: SagaEvent): Promise<(Asked & SagaMove) | undefined> {
    return this.#moveOne(tx, sagaId, (instance, now) => instance.ask(event, now))
  }

  /**
   * Sends once more the commands whose answers an instance waits for, under new ids; the history has it as a step `retry`.
   * @returns the instance, and the messages to send: none when it waits for no command's answer; undefined when there is no such instance
   */
  async retry(tx: Tx, sagaId: string): Promise<SagaMove | undefined> {
    return this.#moveOne(tx, sagaId, (instance, now) => ({ taken: instance.retry(now) }))
  }

  /** Records on each instance that has not ended why something that it waits for failed; it shows until the state changes. */
  async recordFaults(tx: Tx, faults: readonly SagaFault[]): Promise<void> {
    const last = new Map<string, LastError>(faults.map(({ sagaId, ...error }) => [sagaId.toLowerCase(), error]))
    const ends = allVersions(this.definition).flatMap(endsOf)
    // Locked by a statement of its own: one that waited for a lock would miss the row that an event has written meanwhile.
    const waiting = (await lockInstances(tx, this.definition.name, [...last.keys()])).filter(({ state }) => !ends.includes(state))
    if (waiting.length > 0) recordErrors(tx, waiting.map((locked) => ({ locked, error: last.get(locked.saga_id)! })))
  }

  async #moveOne<R extends { taken: boolean }>(tx: Tx, sagaId: string, move: (instance: SagaInstance, now: Date) => R): Promise<(R & SagaMove) | undefined> {
    const [row] = await lockInstances(tx, this.definition.name, [sagaId])
    if (!row) return undefined
    const now = nowOf([row])
    const instance = SagaInstance.load(this.definition, row, now)
    const result = move(instance, now)
    const messages = result.taken ? await this.#save(tx, [row], [instance]) : []
    const { state, context } = instance.toRow()
    return { ...result, state, context, messages }
  }

  async #handle(messages: Message[], tx: Tx): Promise<Message[]> {
    const { name } = this.definition
    const ids = [...new Set(messages.map((message) => message.correlationId!))]
    const rows = await lockInstances(tx, name, ids)
    const now = nowOf(rows)
    const instances = new Map(rows.map((row) => [row.saga_id, SagaInstance.load(this.definition, row, now)]))
    // The body's id may be written in capitals; Postgres answers in small letters.
    const instanceOf = (message: Message) => instances.get(message.correlationId!.toLowerCase())
    const orphans = messages.filter((message) => !instanceOf(message))
    if (orphans.length > 0) throw new Refused(new Map(orphans.map((orphan) => [orphan, new NoInstance(orphan, name)])))
    for (const message of messages) instanceOf(message)!.apply(message, now)
    return this.#save(tx, rows, [...instances.values()])
  }

  async #save(tx: Tx, locked: readonly LockedRow[], instances: readonly SagaInstance[]): Promise<Message[]> {
    if (instances.length === 0) return []
    updateInstances(tx, this.definition.name, locked, instances.map((instance) => instance.toRow()))
    await this.#record(tx, instances)
    return instances.flatMap((instance) => instance.sent)
  }

  async #record(tx: Tx, instances: readonly SagaInstance[]): Promise<void> {
    const { name, project } = this.definition
    insertHistory(tx, name, instances.flatMap((instance) => instance.history))
    if (!project) return
    const changes = instances.map((instance) => {
      const { saga_id: sagaId, state, context } = instance.toRow()
      return { sagaId, state, status: statusOf(state), context }
    })
    await project(tx, changes.toSorted((a, b) => (a.sagaId < b.sagaId ? -1 : 1)))
  }
}

/** A message for an instance that is not here, and was not begun here: no retry will bring it. */
export class NoInstance extends NotRetryable {
  override readonly name = 'NoInstance'

  constructor({ contract, correlationId }: Message, saga: string) {
    super(`${contract.name}: no ${saga} saga ${correlationId}`)
  }
}

/** The transaction's time by the database's clock; of no rows, any. */
function nowOf(rows: readonly LockedRow[]): Date {
  return new Date(rows[0]?.now_ms ?? 0)
}
