// Says whether nothing was lost, nothing happened twice and nothing stayed half done. Plain SQL and
// HTTP: it shares no code with what it judges.
import pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QueueState } from '../support/rabbitmq.ts'
import type { Answer, Api } from '../support/api.ts'
import { ledgerFaults, type LedgerEntry } from '../support/stripe-stand-in.ts'
import { Patience } from '../support/patience.ts'
import { until } from '../support/until.ts'

const SERVICES = ['order', 'stock', 'payment']
/** Between two looks, ms. */
const LOOK_MS = 100
/** When nothing has moved for so long, ms, and nothing is on its way, nothing will. */
const STUCK_MS = 2000

/** Each finds what is wrong; an empty answer is the right one. */
const RULES: Record<string, string> = {
  'every order ended': `
    select order_id from order_service.orders o left
      join order_service.saga s on s.saga_id = o.order_id
    where o.status not in ('Completed', 'Failed') or s.state is null
      or s.state not in ('Completed', 'Failed.settled')`,
  'saga and order agree': `
    select saga_id from order_service.saga s left
      join order_service.orders o on o.order_id = s.saga_id
    where split_part(s.state, '.', 1) is distinct from o.status`,
  'Completed: reserved, paid once, nothing given back': `
    select order_id from order_service.orders o left
      join stock_service.reservations r using (order_id) left
      join payment_service.payments p using (order_id)
    where o.status = 'Completed'
      and (r.status is distinct from 'Reserved' or p.status is distinct from 'Completed'
        or p.amount is distinct from o.total or p.refunded_amount <> 0)`,
  'Failed: nothing held, no money kept': `
    select order_id from order_service.orders o left
      join stock_service.reservations r using (order_id) left
      join payment_service.payments p using (order_id)
    where o.status = 'Failed'
      and (r.status = 'Reserved' or p.status in ('Pending', 'Completed', 'Refunding',
        'RefundRefused') or (p.status = 'Refunded' and p.refunded_amount <> p.amount))`,
  'what is reserved is sold': `
    select product_id from stock_service.products p left join (
      select l.product_id, sum(l.quantity) as units from order_service.order_lines l
        join order_service.orders o using (order_id) where o.status = 'Completed' group by 1
    ) sold using (product_id) where p.reserved <> coalesce(sold.units, 0) or p.on_hand < 0`,
  'nothing without its order': `
    select order_id from stock_service.reservations where order_id not in (select order_id
      from order_service.orders)
    union all select order_id from payment_service.payments where order_id not in (select order_id from order_service.orders)`,
  'no deadlocks': `select deadlocks from pg_stat_database where datname = current_database() and deadlocks > 0`,
  'outboxes empty': each('outbox', 'id::text'),
  'nothing counts as begun': each('unfinished', 'message_id::text')
}

/** Rules that take more than the database to judge. */
const FURTHER_RULES = [
  'each event moved its saga once',
  'the next orders end',
  'stock conserved',
  'what was answered is kept',
  'one order a key',
  'dead letters: the poison, each once',
  'queues empty',
  'each history replays',
  'the gateway took money once, for what was sold'
] as const

// What was deferred is recorded as it comes, and once more as it is taken. What was forged moves
// its saga once too, beside the event that it looks like.
const MOVED_TWICE = `
  select saga_id as id from order_service.saga_history where note is distinct from 'deferred'
    group by saga_id, message_id having message_id is not null and count(*) > 1
  union all select saga_id from order_service.saga_history where event in ('OrderCreatedEvent', 'StockReservedEvent', 'StockNotReservedEvent', 'PaymentCompletedEvent', 'PaymentFailedEvent')
    and note is distinct from 'deferred' and (message_id = any($1::uuid[])) is not true
      group by saga_id, event having count(*) > 1`

/** Not a rule about what is, but about when. */
export const COMES_TO_REST = 'everything comes to rest'

export const RULE_NAMES: readonly string[] = [...Object.keys(RULES), ...FURTHER_RULES]

/** From that table of each service. */
function each(table: string, what: string): string {
  return SERVICES.map((service) => `select ${what} from ${service}_service.${table}`).join(
    ' union all '
  )
}

/** Everything that moves when something happens; equal twice, nothing happened in between. */
const PROGRESS = `
  select (select count(*) from order_service.saga_history) + (select sum(version)
    from order_service.saga) as moves,
    (select count(*) from order_service.saga where state not in ('Completed', 'Failed.settled')) as open,
    (select count(*) from payment_service.payments where next_attempt_at is not null) as asking,
    (select count(*) from (${each('outbox', 'id')}) as rows) as sending,
    (select count(*) from order_service.saga where next_timer_at < now() + interval '15 seconds') as timers`

export interface Evidence {
  databaseUrl: string
  api: Api
  /** Absent: there is no broker. */
  queues?: () => Promise<QueueState[]>
  /** The shop's, and how many units of each were put in. */
  products: readonly string[]
  putIn: number
  /** Orders that were answered with 202. */
  accepted: ReadonlySet<string>
  /** Orders placed when all worked again. */
  late?: readonly string[]
  /** What was answered to each idempotency key. */
  byKey: ReadonlyMap<string, ReadonlySet<string>>
  /** Ids of messages that nobody can read. */
  poison?: ReadonlySet<string>
  /** Ids of events that somebody else than their service has sent. */
  forged?: ReadonlySet<string>
  /** What the payment gateway says it did; absent: it was not asked. */
  ledger?: () => LedgerEntry[]
  /** How long what is under way may take, ms. */
  patience: number
  /** Rules of this fault beside those of all. */
  rules?: Readonly<Record<string, string>>
}

export interface Verdict {
  orders: number
  completed: number
  /** Names of the rules that do not hold, with how much and an example. */
  broken: string[]
}

/** Waits until nothing moves any more, then judges. */
export async function judge(evidence: Evidence): Promise<Verdict> {
  const client = new pg.Client({ connectionString: evidence.databaseUrl })
  await client.connect()
  try {
    const broken = await quiet(client, evidence)
    for (const [rule, sql] of Object.entries({ ...RULES, ...evidence.rules })) {
      const { rows } = await client.query<Record<string, unknown>>(sql)
      expectNone(
        broken,
        rule,
        rows.map((row) => String(Object.values(row)[0]))
      )
    }
    for (const [rule, wrong] of Object.entries(await furtherRules(client, evidence)))
      expectNone(broken, rule, wrong)
    const { rows } = await client.query<{ orders: number; completed: number }>(
      `
        select count(*)::integer as orders,
          (count(*) filter (where status = 'Completed'))::integer as completed
          from order_service.orders`
    )
    return { ...rows[0]!, broken }
  } finally {
    await client.end()
  }
}

function expectNone(broken: string[], rule: string, wrong: readonly string[]): void {
  if (wrong.length > 0) broken.push(`${rule}: not so for ${wrong.length}, e.g. ${wrong[0]}`)
}

/**
 * Waits until all has ended, or what has not ended no longer moves. Returns what is wrong when
 * patience ends first.
 */
async function quiet(client: pg.Client, { queues, patience }: Evidence): Promise<string[]> {
  const end = new Patience(patience)
  let last = ''
  let since = Date.now()
  for (;;) {
    const { rows } =
      await client.query<Record<'moves' | 'open' | 'asking' | 'sending' | 'timers', string>>(
        PROGRESS
      )
    const { open, asking, sending, timers } = rows[0]!
    const picture = JSON.stringify(rows[0])
    if (picture !== last || Number(asking) + Number(sending) + Number(timers) > 0)
      since = Date.now()
    last = picture
    const mayRest =
      Number(asking) + Number(sending) + Number(open) === 0 || Date.now() - since > STUCK_MS
    // Costs more than the query, so it is asked last.
    if (mayRest && (await queues?.())?.every(({ messages }) => messages === 0) !== false) return []
    if (end.isOver()) return [`${COMES_TO_REST}: not so within ${String(end)}: ${picture}`]
    await sleep(LOOK_MS)
  }
}

async function furtherRules(
  client: pg.Client,
  {
    api,
    queues,
    products,
    putIn,
    accepted,
    late = [],
    byKey,
    poison = new Set(),
    forged = new Set(),
    ledger
  }: Evidence
): Promise<Record<(typeof FURTHER_RULES)[number], string[]>> {
  const orders = await client.query<{ orderId: string; status: string; total: number | null }>(
    'select order_id as "orderId", status, total::float8 as total from order_service.orders'
  )
  const ids = async (sql: string, values: unknown[] = []) =>
    (await client.query<{ id: string }>(sql, values)).rows.map(({ id }) => id)
  const settled = await client.query<{ id: string; amount: number }>(
    'select order_id as id, amount::float8 as amount from payment_service.payments where settled_why is not null'
  )
  return {
    'each event moved its saga once': await ids(MOVED_TWICE, [[...forged]]),
    'the next orders end': await ids(
      `
        select saga_id as id from order_service.saga where saga_id = any($1)
          and state not in ('Completed', 'Failed.settled')`,
      [late]
    ),
    'stock conserved': await ids(
      'select product_id as id from stock_service.products where on_hand + reserved <> $1 and product_id = any($2)',
      [putIn, products]
    ),
    'what was answered is kept': await ids(
      'select id from unnest($1::uuid[]) as id where id not in (select order_id from order_service.orders)',
      [[...accepted]]
    ),
    'one order a key': [
      ...[...byKey].flatMap(([key, answered]) => (answered.size === 1 ? [] : [key])),
      // Each order here is a customer's only one.
      ...(await ids(
        'select customer_id as id from order_service.orders group by 1 having count(*) > 1'
      ))
    ],
    'dead letters: the poison, each once': await ids(
      `select concat_ws(', ', coalesce(poison.id, letter.message_id, 'without an id'), max(why)) as id from unnest($1::text[]) as poison (id)
        full join (${each('dead_letter', `message_id, concat_ws(' ', endpoint, message_type, status, exception, reason) as why`)}) as letter on letter.message_id = poison.id
      group by poison.id, letter.message_id having count(poison.id) <> 1
        or count(letter.message_id) <> 1`,
      [[...poison]]
    ),
    'queues empty': ((await queues?.()) ?? [])
      .filter(({ messages }) => messages > 0)
      .map(({ name, messages }) => `${name} (${messages})`),
    'each history replays': await unfaithful(
      api,
      await ids('select saga_id as id from order_service.saga')
    ),
    'the gateway took money once, for what was sold': ledger
      ? ledgerFaults(
          ledger(),
          orders.rows,
          new Map(settled.rows.map(({ id, amount }) => [id, amount]))
        )
      : []
  }
}

/**
 * Asks again while the service says that it cannot answer now: one of its connections may still
 * have to find out that it's dead.
 */
function answer(api: Api, path: string): Promise<Answer> {
  return until(`${path} is answered`, async () => {
    const found = await api.call('GET', path)
    return found.status !== 503 && found
  })
}

/** Sagas whose recorded events, told again to the machine, lead elsewhere. */
async function unfaithful(api: Api, sagaIds: readonly string[]): Promise<string[]> {
  const waiting = [...sagaIds]
  const found: string[] = []
  const reader = async () => {
    for (let id = waiting.pop(); id; id = waiting.pop()) {
      const { status, body } = await answer(api, `/sagas/${id}/replay`)
      if (status !== 200 || body.consistent !== true)
        found.push(`${id} (${status} ${JSON.stringify(body)})`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, reader))
  return found
}
