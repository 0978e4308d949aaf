// One product in every order, against the load that spreads over all of them.
import type { Servers } from '../servers.ts'
import {
  contenderNamed,
  describeRounds,
  details,
  medians,
  progress,
  ratioTo,
  ROUNDS,
  scaledOrders,
  type Report
} from './result.ts'
import { withSites, type Load } from './site.ts'

const ORDERS = 10_000

export async function hotProduct(servers: Servers, scale: number, report: Report): Promise<void> {
  const contender = contenderNamed('embedded')
  const orders = scaledOrders(ORDERS, scale)
  await withSites(servers, [{ contender }, { contender }], async (sites) => {
    const loads = sites.map((): Load[] => [])
    // Round 0 only warms up.
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [index, site] of sites.entries()) {
        const load = await site.load(
          round === 0 ? scaledOrders(orders, 0.3) : orders,
          1000 + round,
          index === 1
        )
        if (round > 0) loads[index]!.push(load)
      }
      if (round > 0)
        progress(
          `hot-product round ${round} of ${ROUNDS}: ${loads.map((rounds) => rounds.at(-1)!.ordersPerSecond.toFixed(0)).join(', ')} orders/s`
        )
    }
    for (const [index, site] of sites.entries()) {
      const { broken, failed } = await site.check()
      report({
        name: index === 0 ? 'hot-product, spread' : 'hot-product, one in every order',
        contender: 'embedded',
        ...medians(loads[index]!),
        ...(index > 0 && { ratio: ratioTo(loads[0]!, loads[index]!) }),
        detail: details(describeRounds(loads[index]!), failed),
        broken
      })
    }
  })
}
