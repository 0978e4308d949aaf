// More copies of every service, a process each, on RabbitMQ. Each measurement has its own database
// and processes: idle copies of another case would hold connections and memory.
import type { Contender } from '../contenders.ts'
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
import { withSite, type Load } from './site.ts'

/** The first is the base. */
const COPIES = [1, 2, 4]
const ORDERS = 10_000

export async function instances(servers: Servers, scale: number, report: Report): Promise<void> {
  const orders = scaledOrders(ORDERS, scale)
  const loads = COPIES.map((): Load[] => [])
  const broken = COPIES.map((): string[] => [])
  const failed = COPIES.map((): string[] => [])
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [index, copies] of COPIES.entries()) {
      await withSite(servers, { contender: copied(copies) }, async (site) => {
        // Every copy has to warm up.
        await site.load(scaledOrders(orders, 0.3 * copies), 1000 + round)
        const load = await site.load(orders, round)
        loads[index]!.push(load)
        const verdict = await site.check()
        broken[index]!.push(...verdict.broken.map((what) => `round ${round}: ${what}`))
        if (verdict.failed) failed[index]!.push(`round ${round}: ${verdict.failed}`)
        progress(
          `instances, ${copies} of each, round ${round} of ${ROUNDS}: ${load.ordersPerSecond.toFixed(0)} orders/s`
        )
      })
    }
  }
  for (const [index, copies] of COPIES.entries()) {
    report({
      name: `instances, ${copies} of each service`,
      contender: 'rabbitmq-3',
      ...medians(loads[index]!),
      ...(index > 0 && { ratio: ratioTo(loads[0]!, loads[index]!) }),
      detail: details(describeRounds(loads[index]!), `${copies * 3} processes`, ...failed[index]!),
      broken: broken[index]!
    })
  }
}

function copied(copies: number): Contender {
  const one = contenderNamed('rabbitmq-3')
  return {
    ...one,
    name: `${one.name}x${copies}`,
    processes: Array.from({ length: copies }, () => one.processes).flat()
  }
}
