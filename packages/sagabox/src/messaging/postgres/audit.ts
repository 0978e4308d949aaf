import type { OldRows } from './old-rows.ts'
import { statement, storableText, write, type Tx } from './sql.ts'

/** Days that actions are kept, and refusals, of which strangers can cause any number. */
const DONE_DAYS = 365
const REFUSED_DAYS = 30

/** Characters that are kept of what whoever asks may have chosen. */
const LONGEST_NAME = 200
const LONGEST_TEXT = 500
const MOST_ROLES = 20

/** What somebody did, or was refused. */
export interface Deed {
  /** As people read it. */
  actor: string
  /** How it is known who that is: `key`, `oidc`, `anonymous`; `several` for a row of many. */
  kind: string
  roles: readonly string[]
  /** The permission that it takes. */
  action: string
  /** On what: `dead letter 12`. */
  target: string
  reason: string | null
  outcome: 'done' | 'refused'
  /** Of the answer. */
  status: number
  requestId: string
  /** How many it stands for; 1 when not given. */
  times?: number
}

/**
 * Writes down who does what, in the transaction that does it.
 * @param target where that is known only then
 */
export type Audit = (tx: Tx, target?: string) => void

/** For what is done by nobody's order, or written down elsewhere. */
export const UNAUDITED: Audit = () => {}

const INSERT = statement(`
  insert into audit (actor, kind, roles, action, target, reason, outcome, status, request_id, times)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`)

/** Writes a deed down in the open transaction; when that cannot be done, the commit fails. */
export function writeDown(tx: Tx, deed: Deed): void {
  const { kind, action, outcome, status, times = 1 } = deed
  void write(tx, INSERT, [
    shortened(deed.actor, LONGEST_NAME),
    kind,
    deed.roles.slice(0, MOST_ROLES).map((role) => shortened(role, LONGEST_NAME)),
    action,
    shortened(deed.target, LONGEST_TEXT),
    deed.reason === null ? null : shortened(deed.reason, LONGEST_TEXT),
    outcome,
    status,
    shortened(deed.requestId, LONGEST_NAME),
    times
  ])
}

function shortened(text: string, longest: number): string {
  return storableText(text.slice(0, longest))
}

const BATCH = 1000

/** Rows of the audit whose time is over. */
export const OLD_AUDIT_ROWS: readonly OldRows[] = [
  {
    what: 'refusals of the audit',
    days: REFUSED_DAYS,
    delete: `
      delete from audit where id = any(array(
        select id from audit where outcome = 'refused' and at < now() - $1 * interval '1 day'
        order by at limit ${BATCH} for update skip locked))`
  },
  {
    what: 'actions of the audit',
    days: DONE_DAYS,
    delete: `
      delete from audit where id = any(array(
        select id from audit where at < now() - $1 * interval '1 day'
        order by at limit ${BATCH} for update skip locked))`
  }
]
