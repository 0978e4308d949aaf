// From a commit to the handler of another service, ms. Commits are planned at a steady rate and
// never wait for one another; each is measured from the moment its transaction resolved.
import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../compare.ts'
import type { Servers } from '../servers.ts'
import { Tally, type Carrier, type ComponentResult } from './result.ts'
import { BenchPingedEvent, inWorld, pings, RECEIVER, type BenchService } from './world.ts'

/** Messages a second, and for how many seconds at scale 1. */
const RATES = [
  { rate: 10, seconds: 10 },
  { rate: 100, seconds: 5 },
  { rate: 500, seconds: 4 },
  // Behind, transactions queue for the pool, which gives up after 10 s.
  { rate: 2000, seconds: 3 }
]
/** A rate that falls short by more than this share was not held. */
const TOLERANCE = 0.03

interface Measured {
  latencies: number[]
  /** Of commits and of arrivals, a second, from the first to the last. */
  committed: number
  arrived: number
  /** How late the sender began a transaction, ms, 99th percentile. */
  late: number
}

export async function commitToHandler(
  servers: Servers,
  carrier: Carrier,
  scale: number,
  report: (line: ComponentResult) => void
): Promise<void> {
  await inWorld(servers, 'latency', carrier, async (world) => {
    const sender = await world.service('sender')
    const receiver = await world.service(RECEIVER)
    const arrivals = new Map<string, number>()
    let tally = new Tally(0)
    receiver.listen({
      contracts: [BenchPingedEvent],
      async handle(messages) {
        const now = performance.now()
        for (const { messageId } of messages) arrivals.set(messageId, now)
        tally.add(messages.length)
        return []
      }
    })
    sender.startRelay()
    const measure = (rate: number, count: number) => {
      tally = new Tally(count)
      return atRate(sender, arrivals, tally, rate, count)
    }
    await measure(200, 200)
    for (const { rate, seconds } of RATES) {
      const measured = await measure(rate, Math.max(20, Math.round(rate * seconds * scale)))
      for (const percent of [50, 99]) {
        report({
          name: `commit to handler at ${rate} messages/s, p${percent}`,
          transport: carrier,
          figure: percentile(measured.latencies, percent),
          unit: 'ms',
          detail: describe(measured, rate)
        })
      }
    }
  })
}

async function atRate(
  { outbox }: BenchService,
  arrivals: Map<string, number>,
  tally: Tally,
  rate: number,
  count: number
): Promise<Measured> {
  const commit = async () => {
    const [ping] = pings(1)
    await outbox.transaction(async (tx) => outbox.add(tx, [ping!]))
    return { messageId: ping!.messageId, committedAt: performance.now() }
  }
  const commits: ReturnType<typeof commit>[] = []
  const late: number[] = []
  const began = performance.now()
  for (let index = 0; index < count; index++) {
    const plannedAt = began + (index * 1000) / rate
    const early = plannedAt - performance.now()
    if (early > 0) await sleep(early)
    late.push(performance.now() - plannedAt)
    commits.push(commit())
  }
  const committed = await Promise.all(commits)
  await tally.rate()
  const arrivedAt = committed.map(({ messageId }) => arrivals.get(messageId)!)
  return {
    latencies: committed.map(({ committedAt }, index) => arrivedAt[index]! - committedAt),
    committed: rateOf(committed.map(({ committedAt }) => committedAt)),
    arrived: rateOf(arrivedAt),
    late: percentile(late, 99)
  }
}

function rateOf(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b)
  return ((sorted.length - 1) * 1000) / (sorted.at(-1)! - sorted[0]!)
}

function describe({ latencies, committed, arrived, late }: Measured, rate: number): string {
  const held = Math.min(committed, arrived) >= rate * (1 - TOLERANCE)
  const text = held
    ? 'rate held'
    : `RATE NOT HELD: ${committed.toFixed(0)} commits/s, ${arrived.toFixed(0)} arrivals/s`
  return `${latencies.length} messages, ${text}, sender late by ${late.toFixed(1)} ms (p99)`
}
