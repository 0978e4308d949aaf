import type { Database } from '../postgres/database.ts'
import type { Sighting } from './trace.ts'

/** How a service is doing, as far as it bears on messages that are waited for. */
export interface EndpointReport {
  /** When any of its endpoints last handled a message, ISO 8601; null: never, or long ago. */
  lastHandledAt: string | null
  /** Messages in its queues, those in hand included; null: its transport cannot tell. */
  queueDepth: number | null
  /** Whether a process sends what is in its outbox. */
  relayLeads: boolean
  /** Why messages do not flow between it and the broker. */
  problem: string | null
  /** Since when and why it takes no messages in the process that answers. */
  paused: { since: string; reason: string } | null
  /** When a message that fails comes again, seconds. */
  redeliverySeconds: number[]
  /** How long its inbox remembers what was handled, days. */
  inboxDays: number
  /** Names of the contracts that it takes. */
  takes: string[]
}

/** What a service knows of some messages, and of itself. */
export interface ServiceReport {
  messages: Sighting[]
  endpoint: EndpointReport
}

const LIFE = `
  select (select handled_at from inbox order by handled_at desc limit 1) as handled,
    exists (
      select from pg_locks where locktype = 'advisory' and granted
        and database = (select oid from pg_database where datname = current_database())
        and classid = (hashtext('sagabox.relay')::bigint & 4294967295)::oid
        and objid = (hashtext($1)::bigint & 4294967295)::oid) as leads`

/** When a service last handled anything, and whether anybody sends what it has committed. */
export async function signsOfLife(
  database: Database,
  schema: string
): Promise<Pick<EndpointReport, 'lastHandledAt' | 'relayLeads'>> {
  const [row]: { handled: Date | null; leads: boolean }[] = await database.rows(LIFE, [schema])
  return { lastHandledAt: row!.handled?.toISOString() ?? null, relayLeads: row!.leads }
}
