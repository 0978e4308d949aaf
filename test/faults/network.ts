import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../support/until.ts'
import type { Fault, Scene } from './fault.ts'
import type { Proxy } from './proxy.ts'

/** What a network does: to the database's line, and to the broker's. */
function onTheNetwork(
  what: string,
  times: number,
  disturb: (proxy: Proxy, scene: Scene) => Promise<void>
): Fault[] {
  return (['database', 'broker'] as const).map((to) => ({
    name: `${what} between services and ${to}`,
    transports: to === 'database' ? (['memory', 'rabbitmq'] as const) : (['rabbitmq'] as const),
    site: { proxied: true },
    async inject(scene) {
      const proxy = to === 'database' ? scene.site.databaseProxy! : scene.site.brokerProxy!
      for (let time = 1; time <= times; time++) {
        await scene.shop.answered(15 * time)
        await disturb(proxy, scene)
        proxy.heal()
      }
      return times
    }
  }))
}

export const networkFaults: Fault[] = [
  ...onTheNetwork('black hole of 15 s', 1, async (proxy) => {
    proxy.stall()
    await sleep(15_000)
  }),
  // What was under way is lost for good, not late.
  ...onTheNetwork('black hole of 15 s, then cut', 1, async (proxy) => {
    proxy.stall()
    await sleep(15_000)
    proxy.cut()
  }),
  // Only a timeout tells.
  ...onTheNetwork('connections that fall silent for ever', 1, (proxy) => proxy.abandon()),
  ...onTheNetwork('connections reset', 10, async (proxy, { random }) => {
    proxy.cut()
    await sleep(100 + 500 * random())
  }),
  ...onTheNetwork('answers lost for 3 s', 2, async (proxy) => {
    proxy.loseAnswers()
    await sleep(3000)
  }),
  ...onTheNetwork('100 to 500 ms a packet for 5 s', 1, async (proxy, { random }) => {
    proxy.slow(() => 100 + 400 * random())
    await sleep(5000)
  }),
  {
    name: 'answers to COMMIT lost',
    transports: ['memory', 'rabbitmq'],
    site: { proxied: true },
    async inject({ site, shop }) {
      await shop.answered(15)
      // The name of the prepared statement, as the protocol carries it.
      site.databaseProxy!.loseAnswersTo('\0commit\0', 12)
      await until('the answers are lost', async () => site.databaseProxy!.answersToLose === 0)
      site.databaseProxy!.heal()
      return 12
    }
  }
]
