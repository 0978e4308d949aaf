import type { Log } from '../async/log.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { run, statement } from '../postgres/sql.ts'

/** A batch that takes longer than this, ms, may be waiting for somebody's lock. */
export const SLOW_MS = 1500
/** Blockers remembered as told. */
const MOST_TOLD = 100

// Those at the root: a session that itself waits for a lock is not to blame.
const FIND = statement(`
  select distinct blocker.pid, blocker.usename as "user", blocker.application_name as application,
    host(blocker.client_addr) as address, blocker.state,
    blocker.xact_start::text as since, left(blocker.query, 100) as query
  from pg_stat_activity as waiting, unnest(pg_blocking_pids(waiting.pid)) as holder (pid),
    pg_stat_activity as blocker
  where waiting.application_name = current_setting('application_name')
    and waiting.datname = current_database() and waiting.wait_event_type = 'Lock'
    and blocker.pid = holder.pid and blocker.wait_event_type is distinct from 'Lock'`)

interface Blocker {
  pid: number
  user: string | null
  application: string | null
  address: string | null
  state: string | null
  /** When its transaction began. */
  since: string | null
  /** The beginning of its last statement. */
  query: string | null
}

/** Says who holds the locks that a service waits for, each of them once. */
export class Blockers {
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #told = new Set<string>()

  constructor(outbox: Outbox, log: Log) {
    this.#outbox = outbox
    this.#log = log
  }

  /** Looks while something waits. */
  async tell(): Promise<void> {
    try {
      const found = await this.#outbox.transaction((tx) =>
        run<Blocker & Record<string, unknown>>(tx, FIND, [])
      )
      for (const blocker of found) {
        const key = `${blocker.pid} ${blocker.since}`
        if (this.#told.has(key)) continue
        this.#told.add(key)
        if (this.#told.size > MOST_TOLD) this.#told.delete(this.#told.values().next().value!)
        this.#log.warn(
          { blocker },
          'A session holds a lock that messages wait for: those that need it wait aside until it ends, or is ended by pg_terminate_backend'
        )
      }
    } catch (error) {
      this.#log.debug({ err: error }, 'Who holds the lock could not be found out')
    }
  }
}
