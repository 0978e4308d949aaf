import { isDeepStrictEqual } from 'node:util'
import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate'
import { MIGRATE, RETRY, type SagaDefinition } from './define.ts'
import { DEFERRED, DEFERRED_EARLIER } from './instance.ts'
import { pathOf, restore } from './state.ts'
import { begin, resend, step, type Step } from './step.ts'
import type { HistoryRow, SagaRow } from './tables.ts'
import { machineOf } from './versions.ts'

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
  /** Steps made by versions of the machine that are not here, and taken as recorded. */
  unknownVersions: number
  /** Where today's machine arrives. */
  state: string
  firstDifference: Difference | null
}

/**
 * Folds the recorded events through the machines as they are now, each step with the one of its version, and compares it with what
 * was recorded. A migration is taken as recorded: what follows goes on from there.
 */
export function replay(definition: SagaDefinition, history: readonly HistoryRow[], stored: SagaRow): Replay {
  let snapshot: AnyMachineSnapshot | undefined
  let unknownVersions = 0
  let firstDifference: Difference | null = null
  const compare = (sequence: number, what: Difference['what'], recorded: unknown, replayed: unknown) => {
    if (!isDeepStrictEqual(recorded, replayed)) firstDifference ??= { sequence, what, recorded, replayed }
  }
  const deferred: (string | null)[] = []
  for (const row of history) {
    const machine = machineOf(definition, row.machine_version)
    const result = machine && foldOf(machine, snapshot, row)
    snapshot = result?.snapshot
    if (row.note?.startsWith(DEFERRED_EARLIER)) deferred.splice(deferred.indexOf(row.message_id), 1)
    if (result ? result.decision === 'deferred' : row.note === DEFERRED) deferred.push(row.message_id)
    if (!result) unknownVersions++
    else {
      compare(row.sequence, 'state', row.to_state, result.to)
      compare(row.sequence, 'messages', row.sent.map(({ type }) => type), result.sends.map(({ contract }) => contract.name))
    }
  }
  const last = history.at(-1)?.sequence ?? 0
  const state = snapshot ? pathOf(snapshot.value) : (history.at(-1)?.to_state ?? '')
  compare(last, 'version', stored.version, history.length)
  compare(last, 'state', stored.state, state)
  compare(last, 'deferred', (stored.deferred ?? []).map(({ messageId }) => messageId), deferred)
  // Through JSON, as it was stored: `undefined` fields do not survive, and must not count as a difference.
  if (snapshot) compare(last, 'context', stored.context, JSON.parse(JSON.stringify(snapshot.context)))
  return { consistent: firstDifference === null, steps: history.length, unknownVersions, state, firstDifference }
}

/** Undefined when what went before was not folded, and the row does not say it. */
function foldOf(machine: AnyStateMachine, snapshot: AnyMachineSnapshot | undefined, { sequence, event, body }: HistoryRow): Step | undefined {
  if (event === MIGRATE) return migrated(restore(machine, body.value, body.context))
  if (!snapshot) return sequence === 1 ? begin(machine, body) : undefined
  return event === RETRY ? resend(snapshot) : step(machine, snapshot, { ...body, type: event })
}

function migrated(snapshot: AnyMachineSnapshot): Step {
  const state = pathOf(snapshot.value)
  return { decision: 'handled', snapshot, from: undefined, to: state, sends: [], timersStarted: [], timersCancelled: [] }
}
