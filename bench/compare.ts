// Every contender on the same load, one after the other, several rounds.
import { startContender, type Contender } from './contenders.ts'
import { checkInvariants } from './invariants.ts'
import { closedLoop, openLoop } from './load.ts'
import type { Servers } from './servers.ts'
import { cpuMs, machineTicks, rssMb } from './usage.ts'

export interface Run {
  contender: string
  round: number
  orders: number
  ordersPerSecond: number
  postsPerSecond: number
  /** CPU ms an order. */
  cpu: { node: number; postgres: number; rabbitmq: number }
  rssMb: number
  /** POST to the committed end, ms, at a steady 50 orders/s. */
  latency: { p50: number; p95: number; p99: number }
  /** Share of the machine's CPU time that a hypervisor gave to others meanwhile. */
  stolen: { load: number; latency: number }
  broken: string[]
}

export interface CompareOptions {
  contenders: readonly Contender[]
  rounds: number
  /** Share of each contender's orders: 1 for all, less for a quick look. */
  scale: number
  report(run: Run): void
}

export async function compare(
  servers: Servers,
  { contenders, rounds, scale, report }: CompareOptions
): Promise<Run[]> {
  const runs: Run[] = []
  for (let round = 1; round <= rounds; round++) {
    // Forth and back: what else the machine does comes back in turns, too, and would always meet
    // the same contender.
    for (const contender of round % 2 === 1 ? contenders : contenders.toReversed()) {
      const run = await measure(servers, contender, round, scale)
      runs.push(run)
      report(run)
    }
  }
  return runs
}

async function measure(
  servers: Servers,
  contender: Contender,
  round: number,
  scale: number
): Promise<Run> {
  const { databaseUrl, rabbitmqUrl, drop } = await servers.fresh(contender.name)
  const running = await startContender(contender, databaseUrl, rabbitmqUrl)
  try {
    const orders = Math.max(100, Math.round(contender.orders * scale))
    await closedLoop(running.urls, databaseUrl, Math.round(orders / 5), 1000 + round)
    const [began, before] = [machineTicks(), cpuOf(servers, running.pids)]
    const { postedMs, endedMs } = await closedLoop(running.urls, databaseUrl, orders, round)
    const [loaded, after] = [machineTicks(), cpuOf(servers, running.pids)]
    const latencies = await openLoop(
      running.urls[0]!,
      databaseUrl,
      50,
      Math.round(500 * Math.min(1, scale * 2)),
      2000 + round
    )
    const stolen = {
      load: stolenBetween(began, loaded),
      latency: stolenBetween(loaded, machineTicks())
    }
    const { broken } = await checkInvariants(databaseUrl)
    return {
      contender: contender.name,
      round,
      orders,
      ordersPerSecond: (orders * 1000) / endedMs,
      postsPerSecond: (orders * 1000) / postedMs,
      cpu: {
        node: (after.node - before.node) / orders,
        postgres: (after.postgres - before.postgres) / orders,
        rabbitmq: (after.rabbitmq - before.rabbitmq) / orders
      },
      rssMb: running.pids.reduce((sum, pid) => sum + rssMb(pid), 0),
      latency: {
        p50: percentile(latencies, 50),
        p95: percentile(latencies, 95),
        p99: percentile(latencies, 99)
      },
      stolen,
      broken
    }
  } finally {
    await running.stop()
    await drop()
  }
}

/** CPU ms used so far by a contender's processes and by the servers. */
export function cpuOf({ postgres, rabbitmq }: Servers, pids: readonly number[]) {
  return {
    node: pids.reduce((sum, pid) => sum + cpuMs(pid), 0),
    postgres: cpuMs(postgres.pid),
    rabbitmq: cpuMs(rabbitmq.pid)
  }
}

type Ticks = ReturnType<typeof machineTicks>

function stolenBetween(before: Ticks, after: Ticks): number {
  return (after.stolen - before.stolen) / (after.all - before.all)
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)]!
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return (
    (sorted[Math.floor((sorted.length - 1) / 2)]! + sorted[Math.ceil((sorted.length - 1) / 2)]!) / 2
  )
}
