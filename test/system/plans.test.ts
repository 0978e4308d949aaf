import pg from 'pg'
import t from 'tap'
import { startSystem } from '../support/system.ts'

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Index Cond'?: string
  'Scan Direction'?: string
  Plans?: Plan[]
}

/** Partial indexes that hold only what waits: read from their beginning. */
const QUEUES = new Set([
  'saga_due',
  'outbox_due',
  'outbox_put_off',
  'payments_waiting',
  'outbox_scheduled_due'
])

// A prepared statement keeps the plan of its first runs, when tables may be small. The plan must
// fit a table of millions.
t.test(
  'no statement of the hot paths reads a whole table, whatever size it was planned for',
  async (t) => {
    const statements = collectStatements()
    t.teardown(statements.restore)
    const { api, databaseUrl } = await startSystem(t, 'memory')
    await api.putProduct('keyboard', 10)
    for (const paymentMethod of ['pm_card_visa', 'pm_card_chargeDeclined', 'pm_sim_lost_response'])
      await api.settled(await api.placeOrder({ paymentMethod }))
    await api.call(
      'POST',
      '/orders',
      {
        customerId: 'ada',
        items: [{ productId: 'keyboard', quantity: 1 }],
        paymentMethod: 'pm_card_visa'
      },
      { 'idempotency-key': 'a' }
    )
    t.ok(statements.found.size >= 25, `${statements.found.size} statements were seen`)
    for (const { text, options } of statements.found.values()) {
      if (text.startsWith('set transaction')) continue
      const client = new pg.Client({ connectionString: databaseUrl, options })
      await client.connect()
      const explained = client.query<{ 'QUERY PLAN': { Plan: Plan }[] }>(
        `explain (generic_plan, format json) ${text}`
      )
      await Promise.allSettled([explained])
      // Left open after an error it would keep this process from ending.
      await client.end()
      const reads = scansOf((await explained).rows[0]!['QUERY PLAN'][0]!.Plan).filter(
        (scan) => !isNarrow(scan)
      )
      t.same(reads, [], text.trim().replaceAll(/\s+/g, ' ').slice(0, 100))
    }
  }
)

function isNarrow(scan: Plan): boolean {
  if (scan['Node Type'] === 'Tid Scan') return true
  // From its newest version, or all that a held transaction keeps are walked over.
  if (scan['Relation Name'] === 'products' && scan['Scan Direction'] !== 'Backward') return false
  // Of one saga may be all the instances there are.
  if (scan['Index Cond'] === '(saga = $1)' && !QUEUES.has(scan['Index Name']!)) return false
  return (
    /^Index (Only )?Scan$/.test(scan['Node Type']) &&
    (scan['Index Cond'] !== undefined || QUEUES.has(scan['Index Name']!))
  )
}

function scansOf(plan: Plan): Plan[] {
  const below = (plan.Plans ?? []).flatMap(scansOf)
  return plan['Node Type'].endsWith('Scan') && plan['Relation Name'] ? [plan, ...below] : below
}

/**
 * Every named statement that any connection of this process runs, with the options of its session.
 */
function collectStatements() {
  const found = new Map<string, { text: string; options: string }>()
  const original = pg.Client.prototype.query
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [config] = args as [{ name?: string; text: string }]
    const { options = '' } = (this as unknown as { connectionParameters: { options?: string } })
      .connectionParameters
    if (config?.name && !/^(begin|commit|rollback)$/.test(config.text))
      found.set(config.text, { text: config.text, options })
    return Reflect.apply(original, this, args)
  } as typeof original
  return { found, restore: () => void (pg.Client.prototype.query = original) }
}
