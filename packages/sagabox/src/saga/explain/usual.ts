import type { Database } from '../../messaging/postgres/database.ts'

/** How long instances usually stay in a state. */
export interface Usual {
  p50Ms: number
  p95Ms: number
  /** Of so many stays; a few say little. */
  of: number
}

/** Instances, the newest, and steps of each, from which the usual is told. */
const INSTANCES = 1000
const STEPS_EACH = 200
/** For so long an answer is good enough for the next who asks, ms. */
const KEPT_MS = 30_000

const USUAL = `
  with newest as (select saga_id from saga where saga = $1 order by saga_id desc
    limit ${INSTANCES}),
  stays as (
    select step.to_state as state, step.recorded_at as came,
      lead(step.recorded_at) over (partition by step.saga_id order by step.sequence) as went
    from newest cross join lateral (
      select saga_id, sequence, from_state, to_state, recorded_at from saga_history
      where saga = $1 and saga_id = newest.saga_id order by sequence limit ${STEPS_EACH}) as step
    where step.from_state is distinct from step.to_state)
  select state, count(*)::integer as of,
    percentile_cont(array[0.5, 0.95]) within group (order by
      (extract(epoch from went - came) * 1000)::float8) as percentiles
  from stays where went is not null group by state`

/** Stays in each state of the last thousand instances, by their ids; asked for again after 30 s. */
export class UsualStays {
  readonly #database: Database
  readonly #saga: string
  #known: Promise<ReadonlyMap<string, Usual>> | undefined
  #knownAt = -Infinity

  constructor(database: Database, saga: string) {
    this.#database = database
    this.#saga = saga
  }

  /** By state; one that nobody has left yet is missing. */
  async byState(): Promise<ReadonlyMap<string, Usual>> {
    if (!this.#known || performance.now() - this.#knownAt > KEPT_MS) {
      this.#knownAt = performance.now()
      const asked = (this.#known = this.#read())
      asked.catch(() => {
        if (this.#known === asked) this.#known = undefined
      })
    }
    return this.#known
  }

  async #read(): Promise<ReadonlyMap<string, Usual>> {
    const rows: { state: string; of: number; percentiles: [number, number] }[] =
      await this.#database.rows(USUAL, [this.#saga])
    return new Map(
      rows.map(({ state, of, percentiles: [p50, p95] }) => [
        state,
        { p50Ms: Math.round(p50), p95Ms: Math.round(p95), of }
      ])
    )
  }
}
