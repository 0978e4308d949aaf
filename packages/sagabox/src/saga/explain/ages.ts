import type { Database } from '../../messaging/postgres/database.ts'
import type { SagaDefinition } from '../define.ts'
import { endsOf } from '../machine/states.ts'
import { allVersions } from '../run/versions.ts'
import type { StoredSaga } from '../store/list.ts'
import type { Answered } from './answered.ts'
import { awaitedBy } from './awaited.ts'
import type { Usual } from './usual.ts'
import { listed, span } from './words.ts'

/** Instances of each kind that are looked at: with a timer, stuck without one, the newest. */
const WINDOW = 100_000
/** Of how many stays the usual has to be known. */
const ENOUGH = 20
/** A service that has handled nothing for so long is named, ms. */
const QUIET_MS = 10_000

/** Instances that wait, by how long they have. */
export type AgeCounts = Record<'<10s' | '<1m' | '<10m' | '<1h' | 'older', number>

export interface StateAges {
  state: string
  counts: AgeCounts
  /** Of a hundred instances 95 have left the state within so long; null: too few have, to tell. */
  p95Ms: number | null
  /** That wait longer than that. */
  late: number
}

// The age is that of the last step, or of being stuck: a command that is sent again is a step.
const COLUMNS = 'state, coalesce(stuck_since, updated_at) as since'
const AGES = `
  with waiting as (
    (select ${COLUMNS} from saga where saga || '' = $1 and next_timer_at is not null
      limit ${WINDOW})
    union all
    (select ${COLUMNS} from saga
      where saga || '' = $1 and next_timer_at is null and stuck_since is not null limit ${WINDOW})
    union all
    (select ${COLUMNS} from (select state, stuck_since, updated_at, next_timer_at from saga
      where saga = $1 order by saga_id desc limit ${WINDOW}) as newest
      where next_timer_at is null and stuck_since is null)
  ), aged as (
    select waiting.state, extract(epoch from now() - since) as age, p95
    from waiting left join unnest($3::text[], $4::float8[]) as usual (state, p95)
      on usual.state = waiting.state
    where waiting.state <> all($2::text[])
  )
  select state, count(*)::integer as all,
    count(*) filter (where age < 10)::integer as seconds,
    count(*) filter (where age >= 10 and age < 60)::integer as minute,
    count(*) filter (where age >= 60 and age < 600)::integer as minutes,
    count(*) filter (where age >= 600 and age < 3600)::integer as hour,
    count(*) filter (where age >= 3600)::integer as older,
    count(*) filter (where age * 1000 > p95)::integer as late
  from aged group by state order by state`

type Row = Record<'all' | 'seconds' | 'minute' | 'minutes' | 'hour' | 'older' | 'late', number> & {
  state: string
}

/**
 * How long instances have waited, by state. Of more than 100,000 with a timer as many are looked at;
 * of those without one, the newest 100,000.
 */
export async function agesOf(
  database: Database,
  definition: SagaDefinition,
  usual: ReadonlyMap<string, Usual>
): Promise<{ states: StateAges[]; atLeast: boolean }> {
  const ends = allVersions(definition).flatMap(endsOf)
  const known = [...usual].filter(([, { of }]) => of >= ENOUGH)
  const rows: Row[] = await database.rows(AGES, [
    definition.name,
    ends,
    known.map(([state]) => state),
    known.map(([, { p95Ms }]) => p95Ms)
  ])
  const p95s = new Map(known.map(([state, { p95Ms }]) => [state, p95Ms]))
  return {
    states: rows.map(({ state, seconds, minute, minutes, hour, older, late }) => ({
      state,
      counts: { '<10s': seconds, '<1m': minute, '<10m': minutes, '<1h': hour, older },
      p95Ms: p95s.get(state) ?? null,
      late
    })),
    atLeast: rows.reduce((sum, { all }) => sum + all, 0) >= WINDOW
  }
}

/** What the ages come to, and which service seems to be the cause. */
export function sentenceOf(
  states: readonly StateAges[],
  definition: SagaDefinition,
  { reports, unknown }: Answered,
  now: Date
): string {
  const [worst] = states.toSorted((a, b) => b.late - a.late)
  if (!worst || worst.late === 0) return 'Nothing waits longer than usual.'
  const { state, late, p95Ms } = worst
  const row = { state, value: undefined, context: {} } as unknown as StoredSaga
  const { owners } = awaitedBy(definition, row)
  const silent = owners.filter((owner) => unknown.has(owner))
  const quiet = owners
    .flatMap((owner) => {
      const report = reports.get(owner)
      if (!report) return []
      const { lastHandledAt, paused } = report.endpoint
      const ms = lastHandledAt === null ? Infinity : now.getTime() - Date.parse(lastHandledAt)
      return ms > QUIET_MS || paused ? [{ owner, ms, paused }] : []
    })
    .toSorted((a, b) => b.ms - a.ms)
  const [first] = quiet
  const why = first?.paused
    ? `: ${first.owner} is paused`
    : first
      ? `: ${first.owner} has handled nothing${first.ms === Infinity ? ' yet' : ` for ${span(first.ms)}`}`
      : silent.length > 0
        ? `: ${listed(silent)} cannot be asked`
        : ''
  return `${late} ${late === 1 ? 'instance waits' : 'instances wait'} in ${state} longer than usual (95 of 100 leave it within ${span(p95Ms!)})${why}.`
}
