import type { Database } from '../postgres/database.ts'
import { attemptsIn, redeliveriesIn, replayedIn } from '../dead-letters/headers.ts'
import { typeName, typesNamedIn } from '../message/type-name.ts'
import type { Headers } from '../transport/transport.ts'

/** Ids in one question. */
export const MOST_IDS = 100
/** Rows of the outbox that are looked through for an id, from its old end and from its new. */
const WINDOW = 50_000
/** And for what is about an instance, which reads payloads. */
const ABOUT_WINDOW = 10_000
/** Rows of an answer, of each table. */
const MOST_ROWS = 200
/** Characters of a payload in which its type is looked for: one more than are parsed whole. */
const HEAD = 16 * 1024 + 1
/** Open letters among which those of the same cause are counted. */
const LETTERS_WINDOW = 10_000
/** Of a failure's text, characters. */
const LONGEST_ERROR = 500

/** What is asked of a service. */
export interface TraceQuestion {
  /** Message ids, at most MOST_IDS. */
  readonly ids: readonly string[]
  /** A saga's id: messages of its business transaction that wait or failed, whatever their ids. */
  readonly about?: string | undefined
}

/** Where a service has a message. */
export type SightingState =
  | 'outbox'
  | 'broker'
  | 'scheduled'
  | 'discarded'
  | 'putOff'
  | 'handled'
  | 'deadLetter'

/** One place where a service has a message. */
export interface Sighting {
  messageId: string
  /** Name of its contract; null where only its id is kept. */
  contract: string | null
  /**
   * `outbox`: committed, not sent; `broker`: given to the transport, which has not confirmed it;
   * `scheduled`: to be sent later; `discarded`: a person gave it up; `putOff`: its endpoint failed,
   * and has it again later; `handled`; `deadLetter`.
   */
  state: SightingState
  /** Since when, ISO 8601. */
  at: string
  /** An exchange or a queue; of what was received its endpoint. */
  destination: string
  /** When it is sent, or comes again. */
  dueAt: string | null
  /** Why it is not sent, or could not be handled. */
  error: string | null
  /** Tries to send it, or deliveries that failed. */
  attempts: number
  /** The id of its dead letter. */
  letterId: number | null
  /** Of a letter: waiting, retrying, handled or undone. */
  status: string | null
  /** Of a letter: others that wait with the same type and exception, up to 10,000. */
  sameCause: number
}

interface Row {
  kind: 'outbox' | 'scheduled' | 'discarded' | 'inbox' | 'letter'
  id: string | null
  message_id: string
  type: string | null
  head: string | null
  destination: string
  at: Date
  due_at: Date | null
  attempts: number
  error: string | null
  headers: Headers | null
  status: string | null
  same_cause: number
}

const OUTBOX = `'outbox' as kind, id::text as id, message_id::text as message_id, null as type,
  left(payload, ${HEAD}) as head, destination, created_at as at, due_at, attempts,
  left(last_error, ${LONGEST_ERROR}) as error, headers, put_off as status, 0 as same_cause`

const LETTER = `'letter' as kind, id::text as id, message_id, message_type as type, null as head,
  endpoint as destination, last_seen_at as at, null::timestamptz as due_at, seen as attempts,
  left(exception || ': ' || reason, ${LONGEST_ERROR}) as error, null::jsonb as headers, status,
  (select count(*)::integer from (
    select message_type, exception, id from dead_letter where status in ('waiting', 'retrying')
    order by id desc limit ${LETTERS_WINDOW}) as open
    where open.message_type = letter.message_type and open.exception = letter.exception
      and open.id <> letter.id) as same_cause`

// Nothing here is on the way of a message: what has no index is looked for in a window.
const BY_IDS = `
  (select ${OUTBOX} from (
    (select * from outbox order by id limit ${WINDOW})
    union all
    (select * from outbox where id > coalesce((
      select id from outbox order by id offset ${WINDOW - 1} limit 1), 9223372036854775807)
      order by id desc limit ${WINDOW})) as looked_at
    where message_id = any($1::uuid[]) limit ${MOST_ROWS})
  union all
  (select 'scheduled', null, message_id::text, null, left(payload, ${HEAD}), destination, created_at,
    due_at, 0, null, headers, null, 0
    from (select * from outbox_scheduled order by due_at limit ${WINDOW}) as looked_at
    where message_id = any($1::uuid[]) limit ${MOST_ROWS})
  union all
  (select 'discarded', null, message_id::text, null, left(payload, ${HEAD}), destination,
    discarded_at, null, attempts, left(reason, ${LONGEST_ERROR}), headers, null, 0
    from (select * from outbox_discarded order by id desc limit ${WINDOW}) as looked_at
    where message_id = any($1::uuid[]) limit ${MOST_ROWS})
  union all
  (select 'inbox', null, message_id::text, null, null, endpoint, handled_at, null, 0, null, null,
    null, 0 from inbox where message_id = any($1::uuid[]) limit ${MOST_ROWS})
  union all
  (select ${LETTER} from dead_letter as letter where message_id = any($1::text[])
    limit ${MOST_ROWS})`

const ABOUT = `
  (select ${OUTBOX} from (select * from outbox order by id limit ${ABOUT_WINDOW}) as looked_at
    where strpos(payload, $1) > 0 limit ${MOST_ROWS})
  union all
  (select ${LETTER} from dead_letter as letter where correlation_id = $1
    order by letter.id desc limit ${MOST_ROWS})`

/** What it is about its own queues. */
export interface TraceOptions {
  /** The service's queues: what waits in its outbox for them it has put off itself. */
  queues: readonly string[]
  /** What the relay of this process knows of a row of the outbox: see Relay. */
  relayKnows(rowId: string): 'flying' | 'gone' | undefined
}

/**
 * Where a service has messages: in its outbox, inbox, among its letters. It reads no further than
 * 50,000 rows of the outbox from each end.
 */
export async function traceMessages(
  database: Database,
  { ids, about }: TraceQuestion,
  options: TraceOptions
): Promise<Sighting[]> {
  const rows: Row[] = ids.length > 0 ? await database.rows(BY_IDS, [ids]) : []
  if (about !== undefined) rows.push(...(await database.rows<Row>(ABOUT, [about])))
  const known = new Set<string>()
  return rows.flatMap((row) => {
    const key = `${row.kind} ${row.id ?? `${row.message_id} ${row.destination}`}`
    if (known.has(key)) return []
    known.add(key)
    const isGone = row.kind === 'outbox' && options.relayKnows(row.id!) === 'gone'
    return isGone ? [] : [sightingOf(row, options)]
  })
}

function sightingOf(row: Row, options: TraceOptions): Sighting {
  const headers = row.headers ?? {}
  const putOff = row.kind === 'outbox' && isPutOff(row, headers, options)
  const failure = putOff ? attemptsIn(headers).at(-1) : undefined
  return {
    messageId: row.message_id,
    contract: contractOf(row),
    state: putOff ? 'putOff' : stateOf(row, options),
    at: (putOff && failure ? new Date(failure.at) : row.at).toISOString(),
    destination: row.destination,
    dueAt: row.due_at?.toISOString() ?? null,
    error: failure?.error ?? row.error,
    attempts: putOff ? redeliveriesIn(headers) : row.attempts,
    letterId: row.kind === 'letter' ? Number(row.id) : null,
    status: row.kind === 'letter' ? row.status : null,
    sameCause: row.same_cause
  }
}

/** Its own endpoint has sent it back; what an operator sent back is on its way like any other. */
function isPutOff(
  { destination, status, due_at: dueAt }: Row,
  headers: Headers,
  { queues }: TraceOptions
): boolean {
  return (
    status === null &&
    dueAt !== null &&
    queues.includes(destination) &&
    replayedIn(headers) === undefined
  )
}

function stateOf({ kind, id, status }: Row, { relayKnows }: TraceOptions): SightingState {
  if (kind === 'inbox') return 'handled'
  if (kind === 'letter') return 'deadLetter'
  if (kind !== 'outbox') return kind
  return status === null && relayKnows(id!) === 'flying' ? 'broker' : 'outbox'
}

function contractOf({ type, head }: Row): string | null {
  if (type !== null) return typeName(type)
  const [named] = head === null ? [] : typesNamedIn(Buffer.from(head))
  return named === undefined ? null : typeName(named)
}
