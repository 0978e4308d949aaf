import { shopTopology } from '../../src/shop.ts'
import { startPostgres, type PrivatePostgres } from '../support/postgres.ts'
import { startRabbitMQ, type PrivateBroker } from '../support/rabbitmq.ts'
import type { Fault } from './fault.ts'

/** Servers die, and come back. */
export const serverFaults: Fault[] = [
  {
    name: 'broker killed under load',
    transports: ['rabbitmq'],
    async servers(scope) {
      const broker = await startRabbitMQ()
      scope.teardown(() => broker.stop())
      return { broker }
    },
    async inject({ site, shop }) {
      const broker = site.options.broker as PrivateBroker
      await broker.registered(
        site.brokerUrl!,
        shopTopology().queues.map(({ name }) => name)
      )
      for (let time = 1; time <= 2; time++) {
        await shop.answered(20 * time)
        await broker.restart()
        for (const name of site.names) await site.ready(name)
      }
      return 2
    }
  },
  {
    name: 'PostgreSQL killed under load',
    transports: ['memory', 'rabbitmq'],
    async servers(scope) {
      const database = await startPostgres()
      scope.teardown(() => database.stop())
      return { database }
    },
    async inject({ site, shop }) {
      const database = site.options.database as PrivatePostgres
      for (let time = 1; time <= 3; time++) {
        await shop.answered(20 * time)
        await database.restart()
        for (const name of site.names) await site.ready(name)
      }
      return 3
    }
  }
]
