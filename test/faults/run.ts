// `npm run test:faults`: injects each fault into the running product, and prints what held.
import { parseArgs } from 'node:util'
import { startPostgres } from '../fixtures/postgres.ts'
import { startRabbitMQ } from '../fixtures/rabbitmq.ts'
import { play, randomBy } from './fault.ts'
import { allCrashPoints, crashPoints } from './crash-points.ts'
import { deadServers, messageFaults, networkFaults, processFaults } from './outages.ts'

const { values } = parseArgs({ options: { only: { type: 'string' }, seed: { type: 'string' } } })
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const wanted = values.only?.split(',').map((name) => name.trim())
const chosen = ({ name }: { name: string }) => !wanted || wanted.some((part) => name.includes(part))

const postgres = await startPostgres()
const rabbitmq = await startRabbitMQ()
process.env.TEST_DATABASE_URL = postgres.url
process.env.TEST_RABBITMQ_URL = rabbitmq.url
process.env.TEST_RABBITMQ_MANAGEMENT_URL = rabbitmq.managementUrl

for (const fault of [...crashPoints, allCrashPoints, ...deadServers, ...networkFaults, ...processFaults, ...messageFaults].filter(chosen)) for (const transport of fault.transports) {
  const scope: (() => unknown)[] = []
  try {
    const o = await play({ teardown: (c) => scope.push(c) }, fault, { transport, random: randomBy(seed), patience: 60_000 })
    console.log(fault.name, transport, o)
  } catch (error) { console.log(fault.name, transport, error) }
  for (const c of scope.toReversed()) await c()
}
await rabbitmq.stop(); await postgres.stop(); process.exit(0)
