// The closed loop beside finished orders that nobody asks for any more.
import type { Servers } from '../servers.ts'
import { holdOldOrders, makeOldOrders, type OldOrders } from './old-orders.ts'
import {
  contenderNamed,
  describeRounds,
  details,
  medians,
  progress,
  ratioTo,
  ROUNDS,
  scaledOrders,
  thousands,
  type Report
} from './result.ts'
import { withSites, type Load, type Site, type SiteOptions } from './site.ts'

/** Finished orders at scale 1; the first is the base. */
const SIZES = [0, 1_000_000, 10_000_000]
const ORDERS = 10_000
/** What people ask at night. Each of the last three looks for what there is not. */
const QUESTIONS = [
  '/sagas/summary',
  '/sagas?stuck=true',
  '/orders?status=Failed',
  '/orders?status=Suspend',
  '/sagas?state=Failed.refunding',
  '/sagas/export?state=Suspend'
]

export async function oldRows(servers: Servers, scale: number, report: Report): Promise<void> {
  const contender = contenderNamed('embedded')
  const old = new Map<number, OldOrders>()
  const options = SIZES.map((size): SiteOptions => {
    const wanted = Math.round(size * scale)
    if (wanted === 0) return { contender }
    return {
      contender,
      fill: async (databaseUrl) => void old.set(size, await makeOldOrders(databaseUrl, wanted)),
      opened: holdOldOrders
    }
  })
  const orders = scaledOrders(ORDERS, Math.min(1, scale))
  await withSites(servers, options, async (sites) => {
    for (const site of sites) await site.load(scaledOrders(orders, 0.3), 1000)
    const loads = sites.map((): Load[] => [])
    for (let round = 1; round <= ROUNDS; round++) {
      for (const [index, site] of sites.entries())
        loads[index]!.push(await site.load(orders, round))
      progress(
        `old-rows round ${round} of ${ROUNDS}: ${loads.map((rounds) => rounds.at(-1)!.ordersPerSecond.toFixed(0)).join(', ')} orders/s`
      )
    }
    for (const [index, site] of sites.entries()) {
      const made = old.get(SIZES[index]!)
      const answers = await ask(site)
      const { broken, failed } = await site.check()
      report({
        name: `old-rows, ${thousands(made?.made ?? 0)} old orders`,
        contender: 'embedded',
        ...medians(loads[index]!),
        ...(index > 0 && { ratio: ratioTo(loads[0]!, loads[index]!) }),
        detail: details(describeRounds(loads[index]!), made && describe(made), answers, failed),
        broken
      })
    }
  })
}

/** How long the answers take: asked once, and again. */
async function ask(site: Site): Promise<string> {
  const answers: string[] = []
  for (const path of QUESTIONS) {
    const [first, again] = [await site.ask(path), await site.ask(path)]
    answers.push(
      `${path} ${first.ms.toFixed(0)} and ${again.ms.toFixed(0)} ms${again.status === 200 ? '' : ` (${again.status})`}`
    )
  }
  return answers.join(', ')
}

function describe({ made, seconds, bytesPerOrder, capped }: OldOrders): string {
  return `${((made * bytesPerOrder) / 1e9).toFixed(1)} GB (${bytesPerOrder.toFixed(0)} bytes an order) made in ${seconds.toFixed(0)} s${capped ? `; ${capped}` : ''}`
}
