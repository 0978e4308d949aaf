import type { AnyMachineSnapshot } from 'xstate'
import { message, type Message } from '../messaging/message.ts'
import type { SagaDefinition } from './define.ts'
import { begin, restore, step, type SagaEvent, type Step } from './step.ts'
import type { HistoryRow, PendingTimer, SagaRow } from './tables.ts'

/** One instance while a transaction moves it: folds events, collects history and messages. */
export class SagaInstance {
  readonly sagaId: string
  readonly history: HistoryRow[] = []
  readonly sent: Message[] = []
  #snapshot: AnyMachineSnapshot
  #state: string
  #version: number
  #timers: PendingTimer[]
  readonly #definition: SagaDefinition

  private constructor(definition: SagaDefinition, sagaId: string, snapshot: AnyMachineSnapshot, state: string, version: number, timers: PendingTimer[]) {
    this.#definition = definition
    this.sagaId = sagaId
    this.#snapshot = snapshot
    this.#state = state
    this.#version = version
    this.#timers = timers
  }

  /** @param now the database's time */
  static start(definition: SagaDefinition, started: Message, now: Date): SagaInstance {
    const first = begin(definition.machine, started.body)
    const instance = new SagaInstance(definition, started.correlationId!, first.snapshot, first.to, 0, [])
    instance.#record({ ...started.body, type: started.contract.name }, started, first, now)
    return instance
  }

  static load(definition: SagaDefinition, row: SagaRow): SagaInstance {
    return new SagaInstance(definition, row.saga_id, restore(definition.machine, row.value, row.context), row.state, row.version, row.timers)
  }

  /** Applies a received event. */
  apply(received: Message, now: Date): void {
    const event = { ...received.body, type: received.contract.name }
    this.#record(event, received, step(this.#definition.machine, this.#snapshot, event), now)
  }

  /** Applies the timers that are due, in the order of their times. */
  fire(now: Date): void {
    for (;;) {
      const due = this.#timers.filter(({ dueAt }) => Date.parse(dueAt) <= now.getTime()).toSorted((a, b) => Date.parse(a.dueAt) - Date.parse(b.dueAt))[0]
      if (!due) return
      this.#timers = this.#timers.filter((timer) => timer !== due)
      const event = { type: due.event }
      this.#record(event, undefined, step(this.#definition.machine, this.#snapshot, event), now)
    }
  }

  toRow(): SagaRow {
    const { value, context } = this.#snapshot
    return { saga_id: this.sagaId, state: this.#state, value, context: context as Record<string, unknown>, version: this.#version, timers: this.#timers }
  }

  #record({ type, ...body }: SagaEvent, cause: Message | undefined, { snapshot, from, to, sends, timersStarted, timersCancelled }: Step, now: Date): void {
    const sent = sends.map(({ contract, body: content }) => message(contract, content as Message['body'], cause ?? { correlationId: this.sagaId, headers: {} }))
    this.#snapshot = snapshot
    this.#state = to
    this.#version++
    this.#timers = this.#timers.filter(({ id }) => !timersCancelled.includes(id) && !timersStarted.some((started) => started.id === id))
    for (const { id, event, delayMs } of timersStarted) this.#timers.push({ id, event, dueAt: new Date(now.getTime() + delayMs).toISOString() })
    this.sent.push(...sent)
    this.history.push({
      saga_id: this.sagaId,
      sequence: this.#version,
      event: type,
      body,
      message_id: cause?.messageId ?? null,
      from_state: from ?? null,
      to_state: to,
      sent: sent.map(({ contract, messageId }) => ({ type: contract.name, messageId }))
    })
  }
}
