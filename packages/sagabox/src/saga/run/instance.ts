import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate'
import { idOfKey, textKey } from '../../messaging/message/correlation.ts'
import { keyOf, message, type Message } from '../../messaging/message/message.ts'
import { NotRetryable } from '../../messaging/inbox/retry.ts'
import { MIGRATE, RETRY, type PendingTimer, type SagaDefinition } from '../define.ts'
import { pathOf, restore } from '../machine/state.ts'
import { isPeriodic } from '../machine/states.ts'
import {
  begin,
  isEnd,
  resend,
  step,
  type SagaEvent,
  type Step,
  type TimerStart
} from '../machine/step.ts'
import { unstorable } from '../machine/storable.ts'
import type { DeferredEvent, HistoryRow, LastError, SagaRow } from '../store/rows.ts'
import { carriedOver, resume, versionOf } from './versions.ts'

/** Notes of a history that replay reads. */
export const DEFERRED = 'deferred'
export const DEFERRED_EARLIER = 'deferred earlier'

/** A person's step: who, when that is known, and why. */
export interface ByHand {
  readonly by?: string | undefined
  readonly reason?: string | undefined
}

/** The note of a step that a person made: `by hand, ada: the provider was down`. */
export function byHandNote({ by, reason }: ByHand): string {
  return `by hand${by === undefined ? '' : `, ${by}`}${reason === undefined ? '' : `: ${reason}`}`
}

/**
 * Events that an instance keeps at most; what it takes to look through them grows with their
 * number.
 */
const MOST_DEFERRED = 1000

/** Longest interval, ms, to which the pauses of a timer that starts itself again grow. */
const LONGEST_PAUSE_MS = 15 * 60_000

/** What became of an event that no message carries. */
export interface Asked {
  /** It was handled, or kept for later; otherwise nothing happened. */
  taken: boolean
  /** Why it was not taken, when the machine says so. */
  reason: string | undefined
}

/** What the history tells of a step beside the event itself. */
interface Circumstances {
  /** The event was deferred by an earlier step. */
  earlier?: true
  fired?: PendingTimer
  /** A person did it. */
  byHand?: ByHand
}

/** An event as the history keeps it. */
interface Happened {
  type: string
  body: Record<string, unknown>
}

type Cause = Pick<DeferredEvent, 'messageId' | 'conversationId' | 'correlationId' | 'headers'>

/** One instance while a transaction moves it: folds events, collects history and messages. */
export class SagaInstance {
  readonly sagaId: string
  /** What its messages call it, where that is no UUID. */
  readonly key: string | null
  readonly history: HistoryRow[] = []
  readonly sent: Message[] = []
  #snapshot: AnyMachineSnapshot
  #state: string
  #version: number
  #timers: PendingTimer[]
  #deferred: DeferredEvent[]
  #stuckSince: Date | null
  #lastError: LastError | null
  readonly #machine: AnyStateMachine
  readonly #machineVersion: number

  private constructor(
    machine: AnyStateMachine,
    snapshot: AnyMachineSnapshot,
    row: Omit<SagaRow, 'value' | 'context'>
  ) {
    this.#machine = machine
    this.#machineVersion = row.machine_version
    this.sagaId = row.saga_id
    this.key = row.key
    this.#snapshot = snapshot
    this.#state = row.state
    this.#version = row.version
    this.#timers = row.timers
    this.#deferred = row.deferred ?? []
    this.#stuckSince = row.stuck_since
    this.#lastError = row.last_error
  }

  /** @param now the database's time */
  static start(definition: SagaDefinition, started: Message, now: Date): SagaInstance {
    const first = begin(definition.machine, started.body)
    mustBeStorable(first, started.contract.name)
    const key = keyOf(started.contract, started.body)!
    const instance = new SagaInstance(definition.machine, first.snapshot, {
      saga_id: idOfKey(key),
      key: textKey(key) ?? null,
      state: first.to,
      version: 0,
      timers: [],
      machine_version: versionOf(definition),
      deferred: null,
      stuck_since: null,
      last_error: null
    })
    instance.#record({ type: started.contract.name, body: started.body }, started, first, now)
    return instance
  }

  /**
   * Loads an instance, and migrates it where its saga says so.
   * @param now the database's time
   * @throws Stranded when no machine of this process can move it
   */
  static load(definition: SagaDefinition, row: SagaRow, now: Date): SagaInstance {
    const { machine, snapshot, migrated } = resume(definition, row, now)
    if (!migrated) return new SagaInstance(machine, snapshot, row)
    const instance = new SagaInstance(machine, snapshot, {
      ...row,
      ...migrated,
      stuck_since: null,
      last_error: null
    })
    instance.#recordMigration(row, now)
    return instance
  }

  /** Applies a received event. */
  apply(received: Message, now: Date): void {
    const happened = { type: received.contract.name, body: received.body }
    this.#take(happened, received, step(this.#machine, this.#snapshot, eventOf(happened)), now)
  }

  /**
   * Applies an event that no message carries. One that the state does not take leaves no trace:
   * whoever asks is told instead.
   */
  ask(event: SagaEvent, now: Date): Asked {
    const result = step(this.#machine, this.#snapshot, event)
    const taken = result.decision === 'handled' || result.decision === 'deferred'
    if (taken) this.#take(happenedIn(event), undefined, result, now)
    return { taken, reason: result.reason }
  }

  /**
   * Applies an event that a person supplies. One that the state does not handle leaves no trace.
   * @param byHand who and why, for the history
   */
  answer(event: SagaEvent, byHand: ByHand, now: Date): Asked {
    const result = step(this.#machine, this.#snapshot, event)
    const taken = result.decision === 'handled'
    if (taken) {
      this.#timers = this.#timers.filter((timer) => timer.event !== event.type)
      this.#take(happenedIn(event), undefined, result, now, { byHand })
    }
    return {
      taken,
      reason: result.decision === 'deferred' ? 'it is kept for another state' : result.reason
    }
  }

  /**
   * Sends once more what the state waits for. Returns whether it waits for the answer to any
   * command.
   * @param byHand who and why, for the history
   */
  retry(now: Date, byHand?: ByHand): boolean {
    const result = resend(this.#snapshot)
    if (result.sends.length === 0) return false
    this.#record({ type: RETRY, body: {} }, undefined, result, now, { byHand })
    return true
  }

  /** Applies the timers that are due, in the order of their times. */
  fire(now: Date): void {
    for (;;) {
      const due = this.#timers
        .filter(({ dueAt }) => Date.parse(dueAt) <= now.getTime())
        .toSorted((a, b) => Date.parse(a.dueAt) - Date.parse(b.dueAt))[0]
      if (!due) return
      this.#timers = this.#timers.filter((timer) => timer !== due)
      const result = step(this.#machine, this.#snapshot, { type: due.event })
      this.#take({ type: due.event, body: {} }, undefined, result, now, { fired: due })
      const waitsInVain = result.from === result.to && !isPeriodic(due.event)
      if (waitsInVain && !isEnd(result.snapshot)) this.#stuckSince ??= now
    }
  }

  toRow(): SagaRow {
    const { value, context } = this.#snapshot
    return {
      saga_id: this.sagaId,
      key: this.key,
      state: this.#state,
      value,
      context: context as Record<string, unknown>,
      version: this.#version,
      timers: this.#timers,
      machine_version: this.#machineVersion,
      deferred: this.#deferred.length > 0 ? this.#deferred : null,
      stuck_since: this.#stuckSince,
      last_error: this.#lastError
    }
  }

  /**
   * An instance where a person wants it, whatever its machine can do: the timers of its new state
   * run, and no action is done.
   * @param row of an instance, locked
   * @param to what of it is another
   * @param byHand who and why, for the history
   * @throws Error when today's machine has no such state
   */
  static placed(
    definition: SagaDefinition,
    row: SagaRow,
    to: Pick<SagaRow, 'value' | 'context'>,
    byHand: ByHand,
    now: Date
  ): SagaInstance {
    const { machine } = definition
    const snapshot = restore(machine, to.value, to.context)
    const changed = {
      machine_version: versionOf(definition),
      timers: carriedOver(machine, snapshot, row.timers, now)
    }
    const instance = new SagaInstance(machine, snapshot, {
      ...row,
      ...changed,
      stuck_since: null,
      last_error: null
    })
    instance.#recordMigration(row, now, byHand)
    return instance
  }

  #recordMigration(
    { state: from, machine_version: version }: SagaRow,
    now: Date,
    byHand?: ByHand
  ): void {
    const { value, context } = this.#snapshot
    const to = pathOf(value)
    const changed: Step = {
      decision: 'handled',
      snapshot: this.#snapshot,
      from,
      to,
      sends: [],
      timersStarted: [],
      timersCancelled: []
    }
    // The snapshot itself: a replay that has not the old machine goes on from here.
    this.#record(
      { type: MIGRATE, body: { from: version, value, context: context as unknown } },
      undefined,
      changed,
      now,
      { byHand }
    )
    this.#takeDeferred(now)
  }

  #take(
    happened: Happened,
    cause: Cause | undefined,
    result: Step,
    now: Date,
    circumstances?: Circumstances
  ): void {
    this.#record(happened, cause, result, now, circumstances)
    if (result.decision === 'deferred') {
      const { messageId = null, conversationId, correlationId, headers = {} } = cause ?? {}
      if (this.#deferred.length >= MOST_DEFERRED) {
        const waiting = `${this.#state} has deferred ${MOST_DEFERRED} events`
        throw new NotRetryable(
          `${happened.type}: ${waiting}, and keeps no more of them: see GET /sagas/${this.sagaId}`
        )
      }
      const event = eventOf(happened)
      this.#deferred = [
        ...this.#deferred,
        { event, messageId, conversationId, correlationId, headers, at: now.toISOString() }
      ]
    }
    if (result.from !== result.to) this.#takeDeferred(now)
  }

  /**
   * Events that came too early, in the order they came; one that is deferred again stays, and is no
   * step.
   */
  #takeDeferred(now: Date): void {
    for (let index = 0; index < this.#deferred.length;) {
      const { event, ...cause } = this.#deferred[index]!
      const result = step(this.#machine, this.#snapshot, event)
      if (result.decision === 'deferred') {
        index++
        continue
      }
      this.#deferred = this.#deferred.toSpliced(index, 1)
      this.#record(happenedIn(event), cause.messageId === null ? undefined : cause, result, now, {
        earlier: true
      })
      if (result.from !== result.to) index = 0
    }
  }

  #record(
    { type, body }: Happened,
    cause: Cause | undefined,
    result: Step,
    now: Date,
    { earlier, fired, byHand }: Circumstances = {}
  ): void {
    const { snapshot, from, to, sends, timersStarted, timersCancelled } = result
    if (snapshot.context !== this.#snapshot.context) mustBeStorable(result, type)
    const sent = sends.map(({ contract, body: content, after }) => {
      const made = message(
        contract,
        content as Message['body'],
        cause ?? { correlationId: this.sagaId, headers: {} }
      )
      return after === undefined ? made : made.after(after)
    })
    this.#snapshot = snapshot
    this.#state = to
    this.#version++
    if (from !== to) this.#stuckSince = this.#lastError = null
    this.#timers = this.#timers.filter(
      ({ id }) =>
        !timersCancelled.includes(id) && !timersStarted.some((started) => started.id === id)
    )
    for (const started of timersStarted) this.#timers.push(pending(started, fired, now))
    this.sent.push(...sent)
    this.history.push({
      saga_id: this.sagaId,
      sequence: this.#version,
      event: type,
      body,
      message_id: cause?.messageId ?? null,
      from_state: from ?? null,
      to_state: to,
      sent: sent.map(({ contract, messageId }) => ({ type: contract.name, messageId })),
      note: byHand === undefined ? noteOf(type, result, earlier) : byHandNote(byHand),
      machine_version: this.#machineVersion
    })
  }
}

/**
 * @throws NotRetryable naming the field: what JSON loses would be missed at some later event, far
 * from where it was written
 */
function mustBeStorable({ snapshot, from, to }: Step, event: string): void {
  const problem = unstorable(snapshot.context)
  if (problem)
    throw new NotRetryable(
      `${event} leads ${from ? `from ${from} ` : ''}to ${to}, where ${problem}: expected what JSON keeps, such as text and numbers`
    )
}

function eventOf({ type, body }: Happened): SagaEvent {
  return { ...body, type }
}

function happenedIn({ type, ...body }: SagaEvent): Happened {
  return { type, body }
}

/**
 * A timer that its own event starts again waits twice as long each time, so that an instance which
 * waits in vain stays small. One that comes at an even pace keeps to it: what was missed came once.
 */
function pending(
  { id, event, delayMs }: TimerStart,
  fired: PendingTimer | undefined,
  now: Date
): PendingTimer {
  if (fired?.id !== id) return { id, event, dueAt: later(now, delayMs) }
  if (isPeriodic(event)) {
    const late = Math.max(now.getTime() - Date.parse(fired.dueAt), 0)
    return { id, event, dueAt: later(now, delayMs - (late % delayMs)) }
  }
  const times = (fired.times ?? 0) + 1
  const grown = Math.max(delayMs, Math.min(Math.max(delayMs, 1000) * 2 ** times, LONGEST_PAUSE_MS))
  return { id, event, dueAt: later(now, grown), times }
}

function later(now: Date, ms: number): string {
  return new Date(now.getTime() + ms).toISOString()
}

function noteOf(
  type: string,
  { decision, reason, to }: Step,
  earlier: true | undefined
): string | null {
  const notes = earlier ? [DEFERRED_EARLIER] : []
  if (decision === 'ignored') notes.push(`ignored: ${reason}`)
  else if (decision === 'deferred') notes.push(DEFERRED)
  else if (decision === 'undecided') notes.push(`undecided: ${to} says nothing about ${type}`)
  return notes.length > 0 ? notes.join('; ') : null
}
