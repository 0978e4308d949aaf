import type { SagaDefinition } from '../define.ts'
import { endsOf, eventName } from '../machine/states.ts'
import { historyOf, rowOf, type Recording } from '../store/recording.ts'
import { replay, type Difference } from './replay.ts'
import { pathOf } from '../machine/state.ts'
import type { HistoryRow, SagaRow } from '../store/rows.ts'
import { ofVersion, resume, versionOf } from '../run/versions.ts'

/** Ids kept of each finding, and findings kept: what is read has no end. */
const SAMPLES = 3
const MOST_KINDS = 200

/** Several instances with the same fate. */
export interface Finding {
  what: string
  count: number
  /** Ids of the first few. */
  samples: string[]
}

/** How recorded instances fare with a saga as it is now. */
export interface RecordingsReport {
  saga: string
  version: number
  instances: number
  /** Whose history replays as it was recorded. */
  consistent: number
  /**
   * With steps by versions that are not here, which were taken as recorded; no difference in the
   * others.
   */
  notReplayed: number
  /** By the kind of the first difference. */
  diverged: Finding[]
  /** Instances under way that no machine of this saga can move, by state. */
  stranded: Finding[]
  /** Instances that `migrate` would move with their next event, by state. */
  migrating: Finding[]
}

/**
 * Holds recorded instances to a saga as it is now, one after the other; keeps counts and a few ids
 * of them.
 */
export class RecordingsCheck {
  readonly #saga: SagaDefinition
  readonly #now: Date
  readonly #diverged = new Map<string, Finding>()
  readonly #stranded = new Map<string, Finding>()
  readonly #migrating = new Map<string, Finding>()
  #instances = 0
  #consistent = 0
  #notReplayed = 0

  constructor(saga: SagaDefinition, now = new Date()) {
    this.#saga = saga
    this.#now = now
  }

  /** @throws Error when the recording is of another saga */
  add(recording: Recording): void {
    if (recording.saga !== this.#saga.name)
      throw new Error(
        `saga must be ${JSON.stringify(this.#saga.name)}, the saga that is checked; it is ${JSON.stringify(recording.saga)}`
      )
    const row = rowOf(recording)
    this.#instances++
    this.#replay(row, historyOf(recording))
    this.#resume(row)
  }

  report(): RecordingsReport {
    const { name } = this.#saga
    const findings = (kinds: Map<string, Finding>) =>
      [...kinds.values()].toSorted((a, b) => b.count - a.count)
    return {
      saga: name,
      version: versionOf(this.#saga),
      instances: this.#instances,
      consistent: this.#consistent,
      notReplayed: this.#notReplayed,
      diverged: findings(this.#diverged),
      stranded: findings(this.#stranded),
      migrating: findings(this.#migrating)
    }
  }

  #replay(row: SagaRow, history: HistoryRow[]): void {
    try {
      const { firstDifference, unknownVersions } = replay(this.#saga, history, row)
      if (firstDifference)
        note(
          this.#diverged,
          kindOf(firstDifference, history),
          `${row.saga_id} step ${firstDifference.sequence}`
        )
      else if (unknownVersions > 0) this.#notReplayed++
      else this.#consistent++
    } catch (error) {
      note(this.#diverged, `the machine fails: ${(error as Error).message}`, row.saga_id)
    }
  }

  #resume(row: SagaRow): void {
    const { saga_id: sagaId, state, machine_version: version } = row
    try {
      const { snapshot, migrated } = resume(this.#saga, row, this.#now)
      if (migrated)
        note(this.#migrating, `${state} of version ${version} -> ${pathOf(snapshot.value)}`, sagaId)
    } catch {
      // An end is an end in the version that reached it; where that is not here, today's word for
      // it counts.
      if (!endsOf(ofVersion(this.#saga, version) ?? this.#saga).includes(state))
        note(this.#stranded, `${state} of version ${version}`, sagaId)
    }
  }
}

function kindOf(
  { sequence, what, recorded, replayed }: Difference,
  history: readonly HistoryRow[]
): string {
  const step = history.find((row) => row.sequence === sequence)
  const where = step ? `, by ${eventName(step.event)} in ${step.from_state ?? 'no state'}` : ''
  if (what === 'context')
    return `context: other ${fieldsThatDiffer(recorded, replayed).join(', ')}, in ${step?.to_state ?? 'no state'}`
  if (what === 'version') return 'version: the history is not whole'
  return `${what}: ${JSON.stringify(recorded)} recorded, ${JSON.stringify(replayed)} replayed${where}`
}

function fieldsThatDiffer(recorded: unknown, replayed: unknown): string[] {
  const [a, b] = [recorded, replayed] as [Record<string, unknown>, Record<string, unknown>]
  return [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]))
    .toSorted()
}

function note(kinds: Map<string, Finding>, kind: string, sample: string): void {
  const what = kinds.has(kind) || kinds.size < MOST_KINDS ? kind.slice(0, 300) : 'other kinds'
  const found = kinds.get(what)
  if (!found) kinds.set(what, { what, count: 1, samples: [sample] })
  else {
    found.count++
    if (found.samples.length < SAMPLES) found.samples.push(sample)
  }
}
