import { isDeepStrictEqual } from 'node:util'
import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate'
import { RETRY, type SagaDefinition } from './define.ts'
import { DEFERRED_EARLIER } from './instance.ts'
import { begin, pathOf, resend, step, type Step } from './step.ts'
import type { HistoryRow, SagaRow } from './tables.ts'

export interface Difference {
  /** The recorded step at which today's machine first goes another way; the last one when only the context differs. */
  sequence: number
  what: 'state' | 'messages' | 'deferred' | 'context' | 'version'
  recorded: unknown
  replayed: unknown
}

export interface Replay {
  consistent: boolean
  steps: number
  /** Where today's machine arrives. */
  state: string
  firstDifference: Difference | null
}

/** Folds the recorded events through the machine as it is now and compares every step with what was recorded. */
export function replay({ machine }: SagaDefinition, history: readonly HistoryRow[], stored: SagaRow): Replay {
  let snapshot: AnyMachineSnapshot | undefined
  let firstDifference: Difference | null = null
  const compare = (sequence: number, what: Difference['what'], recorded: unknown, replayed: unknown) => {
    if (!isDeepStrictEqual(recorded, replayed)) firstDifference ??= { sequence, what, recorded, replayed }
  }
  const deferred: (string | null)[] = []
  for (const row of history) {
    const result = snapshot ? foldOf(machine, snapshot, row) : begin(machine, row.body)
    snapshot = result.snapshot
    if (row.note?.startsWith(DEFERRED_EARLIER)) deferred.splice(deferred.indexOf(row.message_id), 1)
    if (result.decision === 'deferred') deferred.push(row.message_id)
    compare(row.sequence, 'state', row.to_state, result.to)
    compare(row.sequence, 'messages', row.sent.map(({ type }) => type), result.sends.map(({ contract }) => contract.name))
  }
  const last = history.at(-1)?.sequence ?? 0
  const state = snapshot ? pathOf(snapshot.value) : ''
  compare(last, 'version', stored.version, history.length)
  compare(last, 'state', stored.state, state)
  compare(last, 'deferred', (stored.deferred ?? []).map(({ messageId }) => messageId), deferred)
  // Through JSON, as it was stored: `undefined` fields do not survive, and must not count as a difference.
  compare(last, 'context', stored.context, JSON.parse(JSON.stringify(snapshot?.context ?? {})))
  return { consistent: firstDifference === null, steps: history.length, state, firstDifference }
}

function foldOf(machine: AnyStateMachine, snapshot: AnyMachineSnapshot, { event, body }: HistoryRow): Step {
  return event === RETRY ? resend(snapshot) : step(machine, snapshot, { ...body, type: event })
}
