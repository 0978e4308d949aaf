// The parts of Sagabox by themselves, each beside the least that would do the same. Parts run in
// this process, loaded by tsx, which costs them nothing once warm but does not make them the
// production build either: read the ratios, not the figures. Baselines run in the same process in
// turn with them. POST /orders is the exception: processes of their own.
import { endpointMessages } from './components/endpoint.ts'
import { commitToHandler } from './components/latency.ts'
import { postedOrders } from './components/orders.ts'
import { outboxRows } from './components/outbox.ts'
import type { Carrier, ComponentResult } from './components/result.ts'
import { sagaSteps, sagaTransitions } from './components/saga.ts'
import type { Servers } from './servers.ts'

export type { ComponentResult } from './components/result.ts'

const CARRIERS: readonly Carrier[] = ['memory', 'rabbitmq']

type Bench = (
  servers: Servers,
  scale: number,
  report: (line: ComponentResult) => void
) => Promise<void>

const BENCHES: Record<string, Bench> = {
  async outbox(servers, scale, report) {
    for (const carrier of CARRIERS) report(await outboxRows(servers, carrier, scale))
  },
  async endpoint(servers, scale, report) {
    for (const carrier of CARRIERS) await endpointMessages(servers, carrier, scale, report)
  },
  async saga(servers, scale, report) {
    report(await sagaTransitions(servers, scale))
    report(await sagaSteps(scale))
  },
  async orders(servers, scale, report) {
    report(await postedOrders(servers, scale))
  },
  async latency(servers, scale, report) {
    for (const carrier of CARRIERS) await commitToHandler(servers, carrier, scale, report)
  }
}

/**
 * @param scale 1 for a few seconds each, less for a quick look
 * @param report told each figure as it is there
 * @param only names of the benches to run; all when absent
 */
export async function components(
  servers: Servers,
  scale: number,
  report: (line: ComponentResult) => void,
  only: readonly string[] = Object.keys(BENCHES)
): Promise<ComponentResult[]> {
  const results: ComponentResult[] = []
  for (const [name, bench] of Object.entries(BENCHES)) {
    if (!only.includes(name)) continue
    await bench(servers, scale, (line) => {
      results.push(line)
      report(line)
    })
  }
  return results
}
