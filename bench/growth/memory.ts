// What the one-process product keeps in memory as orders pass through it.
import type { Servers } from '../servers.ts'
import { rssMb } from '../usage.ts'
import {
  contenderNamed,
  details,
  progress,
  scaledOrders,
  thousands,
  type GrowthContender,
  type Report
} from './result.ts'
import { together, withSite, type Load } from './site.ts'

const CONTENDERS: readonly GrowthContender[] = ['embedded', 'rabbitmq-1']
const WARM_UP = 10_000
const SAMPLE_EVERY = 5000
const SAMPLES = 20

/** Slopes are given per so many orders. */
const PER = 10_000

export async function memory(servers: Servers, scale: number, report: Report): Promise<void> {
  const every = scaledOrders(SAMPLE_EVERY, scale)
  for (const name of CONTENDERS) {
    await withSite(servers, { contender: contenderNamed(name) }, async (site) => {
      const rss = () => site.pids.reduce((sum, pid) => sum + rssMb(pid), 0)
      const started = rss()
      await site.load(scaledOrders(WARM_UP, scale), 1000)
      const samples = [rss()]
      const loads: Load[] = []
      for (let sample = 1; sample <= SAMPLES; sample++) {
        loads.push(await site.load(every, sample))
        samples.push(rss())
        if (sample % 4 === 0)
          progress(
            `memory, ${name}: ${samples.at(-1)!.toFixed(0)} MB after ${thousands(sample * every)} orders`
          )
      }
      const { ordersPerSecond, cpuMsPerOrder } = together(loads)
      const half = Math.floor(samples.length / 2)
      const slopes = [samples, samples.slice(half)].map((values) =>
        ((slope(values) * PER) / every).toFixed(2)
      )
      const { broken, failed } = await site.check()
      report({
        name: `memory, ${thousands(every * SAMPLES)} orders`,
        contender: name,
        ordersPerSecond,
        cpuMsPerOrder,
        detail: details(
          `RSS MB: ${started.toFixed(0)} started, ${samples[0]!.toFixed(0)} first (after the warm-up), ${samples.at(-1)!.toFixed(0)} last, slope ${slopes[0]} per ${thousands(PER)} orders (second half ${slopes[1]}); every ${thousands(every)}: ${samples.map((mb) => mb.toFixed(0)).join(' ')}`,
          failed
        ),
        broken
      })
    })
  }
}

/** Least squares, per step. */
function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const covariance = values.reduce(
    (sum, value, index) => sum + (index - middle) * (value - mean),
    0
  )
  return covariance / values.reduce((sum, _, index) => sum + (index - middle) ** 2, 0)
}
