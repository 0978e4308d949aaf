import { isDeepStrictEqual } from 'node:util'
import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate'
import { DROP, MIGRATE, RETRY, type SagaDefinition } from '../define.ts'
import { DEFERRED, DEFERRED_EARLIER } from '../run/instance.ts'
import { pathOf, restore } from '../machine/state.ts'
import { begin, resend, step, type Step } from '../machine/step.ts'
import type { HistoryRow, SagaRow } from '../store/rows.ts'
import { machineOf } from '../run/versions.ts'

export interface Difference {
  /**
   * The recorded step at which today's machine first goes another way; the last one when only the
   * context differs.
   */
  sequence: number
  what: 'state' | 'messages' | 'deferred' | 'context' | 'version'
  recorded: unknown
  replayed: unknown
}

export interface Replay {
  consistent: boolean
  steps: number
  /** Steps made by versions of the machine that are not here, and taken as recorded. */
  unknownVersions: number
  /** Where today's machine arrives. */
  state: string
  firstDifference: Difference | null
}

/**
 * Folds the recorded events through the machines as they are now, each step with the one of its
 * version, and compares it with what was recorded. A migration is taken as recorded: what follows
 * goes on from there.
 */
export function replay(
  definition: SagaDefinition,
  history: readonly HistoryRow[],
  stored: SagaRow
): Replay {
  const replayed = new Replayed(definition)
  for (const row of history) replayed.add(row)
  return replayed.comparedWith(stored)
}

/** A history that is replayed step by step: it need not be in memory as a whole. */
export class Replayed {
  readonly #definition: SagaDefinition
  #snapshot: AnyMachineSnapshot | undefined
  #steps = 0
  #last: HistoryRow | undefined
  #unknownVersions = 0
  #firstDifference: Difference | null = null
  readonly #deferred: (string | null)[] = []

  constructor(definition: SagaDefinition) {
    this.#definition = definition
  }

  /** Folds the next step. */
  add(row: HistoryRow): void {
    const machine = machineOf(this.#definition, row.machine_version)
    const result = machine && foldOf(machine, this.#snapshot, row)
    this.#snapshot = result?.snapshot
    this.#steps++
    this.#last = row
    const isDrop = row.event === DROP
    if (isDrop || row.note?.startsWith(DEFERRED_EARLIER)) {
      const id = isDrop ? (row.body.messageId as string | null) : row.message_id
      this.#deferred.splice(this.#deferred.indexOf(id), 1)
    }
    if (result ? result.decision === 'deferred' : row.note === DEFERRED)
      this.#deferred.push(row.message_id)
    if (!result) this.#unknownVersions++
    else {
      const sent = row.sent.map(({ type }) => type)
      this.#compare(row.sequence, 'state', row.to_state, result.to)
      this.#compare(
        row.sequence,
        'messages',
        sent,
        result.sends.map(({ contract }) => contract.name)
      )
    }
  }

  /** What the instance knew after the last step; undefined when that was taken as recorded. */
  get context(): Record<string, unknown> | undefined {
    return this.#snapshot?.context as Record<string, unknown> | undefined
  }

  /** What has come of it, held to the instance as it is stored. */
  comparedWith(stored: SagaRow): Replay {
    const last = this.#last?.sequence ?? 0
    const state = this.#snapshot ? pathOf(this.#snapshot.value) : (this.#last?.to_state ?? '')
    const deferred = (stored.deferred ?? []).map(({ messageId }) => messageId)
    this.#compare(last, 'version', stored.version, this.#steps)
    this.#compare(last, 'state', stored.state, state)
    this.#compare(last, 'deferred', deferred, this.#deferred)
    // Through JSON, as it was stored: `undefined` fields do not survive, and must not count as a
    // difference.
    if (this.#snapshot) {
      this.#compare(
        last,
        'context',
        stored.context,
        JSON.parse(JSON.stringify(this.#snapshot.context))
      )
    }
    return {
      consistent: this.#firstDifference === null,
      steps: this.#steps,
      unknownVersions: this.#unknownVersions,
      state,
      firstDifference: this.#firstDifference
    }
  }

  #compare(sequence: number, what: Difference['what'], recorded: unknown, replayed: unknown): void {
    if (!isDeepStrictEqual(recorded, replayed))
      this.#firstDifference ??= { sequence, what, recorded, replayed }
  }
}

/** Undefined when what went before was not folded, and the row does not say it. */
function foldOf(
  machine: AnyStateMachine,
  snapshot: AnyMachineSnapshot | undefined,
  { sequence, event, body }: HistoryRow
): Step | undefined {
  if (event === MIGRATE) return resting(restore(machine, body.value, body.context))
  if (event === DROP) return snapshot && resting(snapshot)
  if (!snapshot) return sequence === 1 ? begin(machine, body) : undefined
  return event === RETRY ? resend(snapshot) : step(machine, snapshot, { ...body, type: event })
}

function resting(snapshot: AnyMachineSnapshot): Step {
  const state = pathOf(snapshot.value)
  return {
    decision: 'handled',
    snapshot,
    from: undefined,
    to: state,
    sends: [],
    timersStarted: [],
    timersCancelled: []
  }
}
