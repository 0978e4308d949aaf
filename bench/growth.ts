// Sagabox as things grow: old rows, a transaction that somebody holds, one product that all want,
// copies of the services, and the memory of a process that lives long. Every scenario measures its
// own base in the same run: read the ratios.
import { heldTransaction } from './growth/held-transaction.ts'
import { hotProduct } from './growth/hot-product.ts'
import { instances } from './growth/instances.ts'
import { memory } from './growth/memory.ts'
import { oldRows } from './growth/old-rows.ts'
import type { GrowthResult, Report } from './growth/result.ts'
import type { Servers } from './servers.ts'

export type { GrowthResult } from './growth/result.ts'

export const SCENARIOS: Record<
  string,
  (servers: Servers, scale: number, report: Report) => Promise<void>
> = {
  'old-rows': oldRows,
  'held-transaction': heldTransaction,
  'hot-product': hotProduct,
  instances,
  memory
}

/**
 * @param scale 1 for sizes that mean something, which takes over an hour for all; less for a quick
 * look
 * @param report told each figure as it is there; what happens in between is told on stderr
 */
export async function growth(
  servers: Servers,
  scenario: string,
  scale: number,
  report: (line: GrowthResult) => void
): Promise<GrowthResult[]> {
  const run = SCENARIOS[scenario]
  if (!run)
    throw new Error(
      `Unknown scenario ${scenario}: expected one of ${Object.keys(SCENARIOS).join(', ')}`
    )
  const results: GrowthResult[] = []
  await run(servers, scale, (line) => {
    results.push(line)
    report(line)
  })
  return results
}
