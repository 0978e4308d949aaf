import type { Log } from '../../messaging/async/log.ts'
import { Loop } from '../../messaging/async/loop.ts'
import type { Worker } from '../../messaging/async/worker.ts'
import type { Outbox } from '../../messaging/outbox/outbox.ts'
import { UNAUDITED, type Audit } from '../../messaging/postgres/audit.ts'
import { boundedText } from '../../messaging/postgres/bounded.ts'
import type { Database } from '../../messaging/postgres/database.ts'
import { ask, isConflict, isUnavailable, type Tx } from '../../messaging/postgres/sql.ts'
import { endsOf } from '../machine/states.ts'
import { answer } from './by-hand.ts'
import type { SagaHost } from './host.ts'
import { allVersions } from './versions.ts'

/** Instances of one job; others that fit need another. */
export const MOST_INSTANCES = 10_000
/** Instances that are looked through for those that fit. */
const WINDOW = 100_000
/** After so many instances a job waits until it is known how they went. */
const STEPS = [1, 6, 26]
/** Instances a second, once the steps are over. */
const PER_SECOND = 20
/** A command that was sent again has moved its instance within so long, or has failed, seconds. */
const PATIENCE_SECONDS = 60
/** How often a running job is looked at, and how soon another process takes one over, ms. */
const TICK_MS = 250
const POLL_MS = 5000
/** Of what failed, as many are shown, and characters of each. */
const SHOWN = 20
const LONGEST_ERROR = 500

export type JobAction = 'retry' | 'cancel'

/** Which instances: all that are given must fit. */
export interface JobFilter {
  /** A state, or one around it. */
  state?: string
  stuck?: boolean
  /** UUIDs. */
  ids?: string[]
}

export interface JobRequest {
  action: JobAction
  filter: JobFilter
  /** Why, for the histories. */
  reason: string
  by?: string | undefined
  /** It stops when so many have failed, 1 or more. */
  stopAfterFailures: number
}

export interface SagaJob {
  id: number
  action: JobAction
  filter: JobFilter
  reason: string
  by: string | null
  stopAfterFailures: number
  state: 'running' | 'done' | 'stopped'
  stoppedWhy: string | null
  /** Instances of this step: 1, 5, 20, and then all the rest. */
  step: '1' | '5' | '20' | 'rest'
  total: number
  /** More fitted than it has. */
  atLeast: boolean
  /** Whose turn has not come. */
  waiting: number
  /** Their commands were sent again, and they have not moved yet. */
  underWay: number
  moved: number
  failed: number
  /** The first that failed. */
  failures: { sagaId: string; error: string }[]
  startedAt: string
  endedAt: string | null
}

type Row = Omit<SagaJob, 'step' | 'startedAt' | 'endedAt'> & {
  startedAt: Date
  endedAt: Date | null
}

const JOB = `
  select id::float8 as id, action, filter, reason, by, stop_after_failures as "stopAfterFailures",
    state, stopped_why as "stoppedWhy", at_least as "atLeast", started_at as "startedAt",
    ended_at as "endedAt", counts.*,
    coalesce((select jsonb_agg(jsonb_build_object('sagaId', saga_id, 'error', error)) from (
      select saga_id, error from saga_job_item where job_id = job.id and outcome = 'failed'
      order by at, saga_id limit ${SHOWN}) as first), '[]') as failures
  from saga_job as job cross join lateral (
    select count(*)::integer as total,
      count(*) filter (where outcome is null)::integer as waiting,
      count(*) filter (where outcome = 'underWay')::integer as "underWay",
      count(*) filter (where outcome = 'moved')::integer as moved,
      count(*) filter (where outcome = 'failed')::integer as failed
    from saga_job_item where job_id = job.id) as counts`

// Those with a timer, those that are stuck, and others among the newest.
const FITTING = `
  select saga_id from (
    (select saga_id, state, stuck_since from saga
      where saga || '' = $1 and next_timer_at is not null limit ${WINDOW})
    union
    (select saga_id, state, stuck_since from saga
      where saga || '' = $1 and stuck_since is not null limit ${WINDOW})
    union
    (select saga_id, state, stuck_since from saga where saga = $1
      order by saga_id desc limit ${WINDOW})
  ) as looked_at
  where state <> all($2::text[]) and ($3::text is null or state = $3 or starts_with(state, $3 || '.'))
    and (not $4::boolean or stuck_since is not null)
  order by saga_id limit ${MOST_INSTANCES + 1}`
const NAMED = `
  select saga_id from saga where saga = $1 and saga_id = any($5::uuid[]) and state <> all($2::text[])
    and ($3::text is null or state = $3 or starts_with(state, $3 || '.'))
    and (not $4::boolean or stuck_since is not null)
  order by saga_id`

const SETTLE = `
  update saga_job_item as item set
    outcome = case when saga.state <> item.state then 'moved'
      else 'failed' end,
    error = case when saga.state <> item.state then null
      else left(coalesce(saga.last_error ->> 'message', 'it has not moved within ${PATIENCE_SECONDS} s'),
        ${LONGEST_ERROR}) end
  from saga
  where item.job_id = $1 and item.outcome = 'underWay' and saga.saga = $2
    and saga.saga_id = item.saga_id
    and (saga.state <> item.state
      or (saga.last_error ->> 'at')::timestamptz > item.at
      or item.at < now() - interval '${PATIENCE_SECONDS} seconds')`

/** Does to many instances what a person would do to each, a few first: what fails ends it. */
export class SagaJobs implements Worker {
  readonly #host: SagaHost
  readonly #database: Database
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #began: () => void
  readonly #loop: Loop
  /** States of all versions in which an instance waits for nothing. */
  readonly #ends: string[]

  /** @param began told when a job has begun: the loop that carries it out may be another's */
  constructor(host: SagaHost, database: Database, outbox: Outbox, log: Log, began?: () => void) {
    this.#host = host
    this.#ends = allVersions(host.definition).flatMap(endsOf)
    this.#database = database
    this.#outbox = outbox
    this.#log = log
    this.#began = began ?? (() => this.wake())
    this.#loop = new Loop({
      round: async () => ((await this.runOnce()) ? TICK_MS : POLL_MS),
      failed: (error) =>
        log.warn(
          { err: error, saga: host.definition.name },
          'A job could not be carried on; trying again'
        ),
      minMs: 500,
      maxMs: 10_000
    })
  }

  /** Chooses the instances that fit now, and begins. Returns the id to follow it by. */
  async begin(request: JobRequest, audited: Audit = UNAUDITED): Promise<number> {
    const { action, filter, reason, by, stopAfterFailures } = request
    const { name } = this.#host.definition
    const id = await this.#outbox.transaction(async (tx) => {
      const fitting = await this.#fitting(tx, filter)
      const [row]: { id: number }[] = await ask(
        tx,
        `insert into saga_job (saga, action, filter, reason, by, stop_after_failures, at_least)
         values ($1, $2, $3, $4, $5, $6, $7) returning id::float8 as id`,
        [
          name,
          action,
          JSON.stringify(filter),
          reason,
          by ?? null,
          stopAfterFailures,
          fitting.length > MOST_INSTANCES
        ]
      )
      await ask(tx, 'insert into saga_job_item (job_id, saga_id) select $1, unnest($2::uuid[])', [
        row!.id,
        fitting.slice(0, MOST_INSTANCES)
      ])
      audited(tx, `${name} saga job ${row!.id}`)
      return row!.id
    })
    this.#began()
    return id
  }

  async get(id: number): Promise<SagaJob | undefined> {
    const [row]: Row[] = await this.#database.rows(`${JOB} where job.id = $1 and job.saga = $2`, [
      id,
      this.#host.definition.name
    ])
    return row && jobOf(row)
  }

  /** Newest first. */
  async list(limit: number): Promise<SagaJob[]> {
    const rows: Row[] = await this.#database.rows(
      `${JOB} where job.saga = $1 order by job.id desc limit $2`,
      [this.#host.definition.name, limit]
    )
    return rows.map(jobOf)
  }

  /** Ends a running job; what was done stays done. @returns whether it was running */
  async end(id: number, why: string, audited: Audit = UNAUDITED): Promise<boolean> {
    return this.#outbox.transaction(async (tx) => {
      const ended = await ask(
        tx,
        `update saga_job set state = 'stopped', stopped_why = $3, ended_at = now()
         where id = $1 and saga = $2 and state = 'running' returning id`,
        [id, this.#host.definition.name, why]
      )
      if (ended.length > 0) audited(tx)
      return ended.length > 0
    })
  }

  start(): void {
    this.#loop.start()
  }

  /** There is a job to look at. */
  wake(): void {
    this.#loop.wake()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** Moves every running job on. Returns whether there is one. */
  async runOnce(): Promise<boolean> {
    const running: { id: number }[] = await this.#database.rows(
      `select id::float8 as id from saga_job where saga = $1 and state = 'running' order by id`,
      [this.#host.definition.name]
    )
    for (const { id } of running) await this.#moveOn(id)
    return running.length > 0
  }

  /** As many instances as are due, one after the other, each in a transaction of its own. */
  async #moveOn(id: number): Promise<void> {
    const most = Math.max(1, Math.floor((PER_SECOND * TICK_MS) / 1000))
    for (let done = 0; done < most && !this.#loop.stopping; done++) {
      let current: string | undefined
      try {
        const goesOn = await this.#outbox.transaction((tx) =>
          this.#step(tx, id, (sagaId) => (current = sagaId))
        )
        if (!goesOn) return
      } catch (error) {
        if (current === undefined || isConflict(error) || isUnavailable(error)) throw error
        await this.#failed(id, current, error as Error)
      }
    }
  }

  /** Does it to the next instance, when its turn has come. @returns whether another may be due */
  async #step(tx: Tx, id: number, chosen: (sagaId: string) => void): Promise<boolean> {
    const { name } = this.#host.definition
    // Another process may be at it; whoever has the row goes on with the job alone.
    const [job]: Row[] = await ask(
      tx,
      `select id::float8 as id, action, reason, by, stop_after_failures as "stopAfterFailures"
       from saga_job where id = $1 and state = 'running' for update skip locked`,
      [id]
    )
    if (!job) return false
    await ask(tx, SETTLE, [id, name])
    const [counts]: Row[] = await ask(tx, `${JOB} where job.id = $1`, [id])
    const { waiting, underWay, moved, failed } = counts!
    if (failed >= job.stopAfterFailures) {
      await endJob(tx, id, 'stopped', `${failed} of the first ${failed + moved} failed`)
      return false
    }
    if (waiting === 0) {
      if (underWay === 0) await endJob(tx, id, 'done', null)
      return false
    }
    const gate = STEPS.find((end) => end > moved + failed)
    if (gate !== undefined && underWay + moved + failed >= gate) return false
    const [item]: { sagaId: string }[] = await ask(
      tx,
      `select saga_id as "sagaId" from saga_job_item where job_id = $1 and outcome is null
       order by saga_id limit 1`,
      [id]
    )
    chosen(item!.sagaId)
    await this.#do(tx, job, item!.sagaId)
    return true
  }

  async #do(tx: Tx, { id, action, reason, by }: Row, sagaId: string): Promise<void> {
    const byHand = { reason, ...(by !== null && { by }) }
    if (action === 'cancel') {
      const event = this.#host.definition.cancelBy!
      const moved = await answer(this.#host, tx, sagaId, { event, ...byHand })
      if (!moved) return note(tx, id, sagaId, 'failed', 'it is not there any more')
      this.#outbox.add(tx, moved.messages)
      return note(tx, id, sagaId, 'moved', null)
    }
    const move = await this.#host.retry(tx, sagaId, byHand)
    if (!move) return note(tx, id, sagaId, 'failed', 'it is not there any more')
    // It has got on by itself since it was chosen.
    if (move.messages.length === 0 && this.#ends.includes(move.state))
      return note(tx, id, sagaId, 'moved', null)
    if (move.messages.length === 0)
      return note(
        tx,
        id,
        sagaId,
        'failed',
        `in ${move.state} it waits for the answer to no command`
      )
    this.#outbox.add(tx, move.messages)
    return note(tx, id, sagaId, 'underWay', null)
  }

  async #failed(id: number, sagaId: string, error: Error): Promise<void> {
    this.#log.debug({ err: error, job: id, sagaId }, 'A job could not do it to an instance')
    await this.#outbox.transaction((tx) =>
      note(tx, id, sagaId, 'failed', boundedText(error.message, LONGEST_ERROR))
    )
  }

  async #fitting(tx: Tx, { state, stuck = false, ids }: JobFilter): Promise<string[]> {
    const values = [
      this.#host.definition.name,
      this.#ends,
      state ?? null,
      stuck,
      ...(ids ? [ids] : [])
    ]
    const rows: { saga_id: string }[] = await ask(tx, ids ? NAMED : FITTING, values)
    return rows.map(({ saga_id: sagaId }) => sagaId)
  }
}

async function endJob(tx: Tx, id: number, state: 'done' | 'stopped', why: string | null) {
  await ask(
    tx,
    'update saga_job set state = $2, stopped_why = $3, ended_at = now() where id = $1',
    [id, state, why]
  )
}

async function note(
  tx: Tx,
  id: number,
  sagaId: string,
  outcome: 'underWay' | 'moved' | 'failed',
  error: string | null
): Promise<void> {
  await ask(
    tx,
    `update saga_job_item as item set outcome = $3, error = $4, at = now(), state = saga.state
     from (select 1) as one left join saga on saga.saga_id = $2 and saga.saga = (
       select job.saga from saga_job as job where job.id = $1)
     where item.job_id = $1 and item.saga_id = $2 and item.outcome is null`,
    [id, sagaId, outcome, error]
  )
}

function jobOf(row: Row): SagaJob {
  const begun = row.total - row.waiting
  const index = STEPS.findIndex((end) => end > row.moved + row.failed || end > begun)
  return {
    ...row,
    step: (['1', '5', '20'] as const)[index] ?? 'rest',
    startedAt: row.startedAt.toISOString(),
    endedAt: row.endedAt?.toISOString() ?? null
  }
}
