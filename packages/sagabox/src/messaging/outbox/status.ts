import type { Database } from '../postgres/database.ts'

/** Rows are counted up to here: at three million of them a count took longer than a query may. */
const COUNTED = 100_000
/** And up to here for each destination that takes nothing; destinations in an answer. */
const COUNTED_EACH = 10_000
const DESTINATIONS = 100

export interface OutboxStatus {
  /** Committed and not yet sent; not what is to be sent later. */
  pending: number
  /** There are more than `pending` says. */
  atLeast: boolean
  /** Of these, not due yet: a message put off, or one that no queue took. */
  postponed: number
  oldestAgeSeconds: number
  /** Messages to be sent later, counted up to 100,000. */
  scheduled: number
  /** When the first of them is due. */
  nextDueAt: string | null
  /** The process that sends; null when none does. */
  leader: { application: string; address: string | null; since: string } | null
  /** What the newest row met that is put off. */
  lastError: string | null
  /** What is put off, by destination. */
  putOff: PutOff[]
}

export interface PutOff {
  destination: string
  rows: number
  /** There are more than `rows` says. */
  atLeast: boolean
  /** What the oldest of them met. */
  reason: string | null
  oldestAgeSeconds: number
}

/**
 * All by index, and no further than it counts. Rows that go straight through are in none but the
 * primary key.
 */
const STATUS = `
  with recursive destinations (destination, n) as (
    (select destination, 1 from outbox where put_off is not null order by destination, id limit 1)
    union all
    select next.destination, n + 1 from destinations, lateral (
      select outbox.destination from outbox
      where put_off is not null and outbox.destination > destinations.destination
      order by outbox.destination, id limit 1) as next
    where n < ${DESTINATIONS}
  ), put_off as (
    select destination, counted, first.last_error as reason, last.id as last_id, last.last_error,
      extract(epoch from now() - first.created_at)::float8 as age
    from destinations,
      lateral (select count(*)::integer as counted from (
        select from outbox where put_off is not null
          and outbox.destination = destinations.destination
        limit ${COUNTED_EACH + 1}) as counted_rows) as counts,
      lateral (select last_error, created_at from outbox
        where put_off is not null and outbox.destination = destinations.destination
        order by id limit 1) as first,
      lateral (select id, last_error from outbox
        where put_off is not null and outbox.destination = destinations.destination
        order by id desc limit 1) as last
  )
  select
    (select count(*)::integer from (
      select from outbox order by id limit ${COUNTED + 1}) as counted_rows) as pending,
    (select count(*)::integer from (
      select from outbox where due_at > now() order by due_at limit ${COUNTED + 1}) as counted_rows)
      as postponed,
    (select count(*)::integer from (
      select from outbox_scheduled limit ${COUNTED}) as counted_rows) as scheduled,
    (select due_at from outbox_scheduled order by due_at limit 1) as "nextDueAt",
    coalesce((select extract(epoch from now() - created_at) from outbox order by id
      limit 1), 0)::float8
      as "oldestAgeSeconds",
    (select last_error from put_off where last_error is not null order by last_id desc limit 1)
      as "lastError",
    coalesce((select jsonb_agg(
      jsonb_build_object('destination', destination, 'rows', least(counted, ${COUNTED_EACH}),
        'atLeast', counted > ${COUNTED_EACH}, 'reason', reason, 'oldestAgeSeconds', age)
      order by counted desc, destination) from put_off), '[]') as "putOff",
    (select jsonb_build_object(
        'application', application_name, 'address', host(client_addr), 'since', backend_start)
      from pg_locks join pg_stat_activity using (pid)
      where locktype = 'advisory' and granted and application_name <> ''
        and database = (select oid from pg_database where datname = current_database())
        and classid = (hashtext('sagabox.relay')::bigint & 4294967295)::oid
        and objid = (hashtext($1)::bigint & 4294967295)::oid limit 1) as leader`

/**
 * What has been committed and not yet sent. A leader is told from when its connection has a name:
 * connections and locks are not looked
 * at in one moment, and of one that has just come the name may be missing.
 */
export async function outboxStatus(database: Database, schema: string): Promise<OutboxStatus> {
  const rows: (Omit<OutboxStatus, 'nextDueAt'> & { nextDueAt: Date | null })[] =
    await database.rows(STATUS, [schema])
  const row = rows[0]!
  const { pending, postponed, nextDueAt } = row
  return {
    ...row,
    nextDueAt: nextDueAt === null ? null : new Date(nextDueAt).toISOString(),
    pending: Math.min(pending, COUNTED),
    atLeast: pending > COUNTED,
    postponed: Math.min(postponed, COUNTED)
  }
}
