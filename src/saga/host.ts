import type { Handler } from '../messaging/endpoint.ts'
import type { Message } from '../messaging/message.ts'
import { NotRetryable } from '../messaging/retry.ts'
import type { Tx } from '../messaging/sql.ts'
import type { SagaDefinition } from './define.ts'
import { SagaInstance } from './instance.ts'
import { statusOf } from './step.ts'
import { insertHistory, insertInstances, lockDue, lockInstances, postponeTimers, updateInstances } from './tables.ts'

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
    const places: string[] = []
    const failed: { sagaId: string; error: unknown }[] = []
    for (const row of rows) {
      try {
        const instance = SagaInstance.load(this.definition, row)
        instance.fire(row.now)
        instances.push(instance)
        places.push(row.place)
      } catch (error) {
        failed.push({ sagaId: row.saga_id, error })
      }
    }
    if (failed.length > 0) postponeTimers(tx, this.definition.name, failed.map(({ sagaId }) => sagaId))
    return { due: rows.length, messages: await this.#save(tx, places, instances), failed }
  }

  async #handle(messages: Message[], tx: Tx): Promise<Message[]> {
    const { name } = this.definition
    const ids = [...new Set(messages.map((message) => message.correlationId!))]
    const rows = await lockInstances(tx, name, ids)
    const now = rows[0]?.now
    const instances = new Map(rows.map((row) => [row.saga_id, SagaInstance.load(this.definition, row)]))
    for (const message of messages) {
      // The body's id may be written in capitals; Postgres answers in small letters.
      const instance = instances.get(message.correlationId!.toLowerCase())
      if (!instance) throw new NotRetryable(`${message.contract.name}: no ${name} saga ${message.correlationId}`)
      instance.apply(message, now!)
    }
    return this.#save(tx, rows.map((row) => row.place), [...instances.values()])
  }

  async #save(tx: Tx, places: readonly string[], instances: readonly SagaInstance[]): Promise<Message[]> {
    if (instances.length === 0) return []
    updateInstances(tx, places, instances.map((instance) => instance.toRow()))
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
