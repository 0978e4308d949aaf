import { boundedFields } from '../../messaging/postgres/bounded.ts'
import { changes, MOST_CHANGES, type Change } from '../../messaging/postgres/changes.ts'
import type { Mask } from '../../messaging/message/sensitive.ts'
import type { SagaDefinition } from '../define.ts'
import { eventName } from '../machine/states.ts'
import type { HistoryRow } from '../store/rows.ts'
import { Replayed } from './replay.ts'

/** Steps of one answer. */
export const MOST_PATH_STEPS = 100
/** Of a context, bytes of JSON. */
const LONGEST_CONTEXT = 8000

export type TimedHistory = HistoryRow & { recorded_at: Date }

/** A step, and what the instance knew after it. */
export interface PathStep {
  sequence: number
  at: string
  /** How long it was in `to` before the next step; null: it is there still, at an end. */
  msInState: number | null
  event: string
  messageId: string | null
  from: string | null
  to: string
  sent: { type: string; messageId: string }[]
  /** Its smaller fields; null: the machine that made the step is not here. */
  context: Record<string, unknown> | null
  /** Fields of the context that were too long. */
  leftOut: number
  changed: Change[]
  note: string | null
}

export interface Path {
  state: string
  steps: PathStep[]
  /** Earlier ones are before this step; null: there are none. */
  stepsBefore: number | null
  /** States that it can still come to. */
  reachable: string[]
  /** Its first timer, and where that leads. */
  timer: { at: string; to: string } | null
}

interface Taken {
  row: TimedHistory
  before: Record<string, unknown> | undefined
  after: Record<string, unknown> | undefined
  nextAt: Date | undefined
}

/** Folds a history, and keeps its last steps before one. */
export class PathTaken {
  readonly #replayed: Replayed
  readonly #before: number
  readonly #limit: number
  readonly #steps: Taken[] = []
  /** Today's machine cannot make a step that was made: what comes after is not known. */
  #isLost = false

  constructor(definition: SagaDefinition, before: number, limit: number) {
    this.#replayed = new Replayed(definition)
    this.#before = before
    this.#limit = limit
  }

  add(row: TimedHistory): void {
    const last = this.#steps.at(-1)
    if (last && last.row.sequence === row.sequence - 1) last.nextAt = row.recorded_at
    if (row.sequence >= this.#before) return
    const before = this.#known()
    try {
      this.#replayed.add(row)
    } catch {
      this.#isLost = true
    }
    this.#steps.push({ row, before, after: this.#known(), nextAt: undefined })
    if (this.#steps.length > this.#limit) this.#steps.shift()
  }

  #known(): Record<string, unknown> | undefined {
    return this.#isLost ? undefined : this.#replayed.context
  }

  /** One after the other: each may take a while. */
  *described(hidden: Mask | undefined): Generator<PathStep> {
    const shown = <T>(value: T) => (hidden ? hidden.of(value) : value)
    for (const { row, before, after, nextAt } of this.#steps) {
      const { kept, dropped } = boundedFields(after ? shown(after) : {}, LONGEST_CONTEXT)
      yield {
        sequence: row.sequence,
        at: row.recorded_at.toISOString(),
        msInState: nextAt ? nextAt.getTime() - row.recorded_at.getTime() : null,
        event: eventName(row.event),
        messageId: row.message_id,
        from: row.from_state,
        to: row.to_state,
        sent: row.sent.slice(0, MOST_CHANGES),
        context: after ? kept : null,
        leftOut: dropped,
        changed: before && after && before !== after ? changes(shown(before), shown(after)) : [],
        note: row.note
      }
    }
  }
}
