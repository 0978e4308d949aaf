import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Run } from '../bench/compare.ts'
import { summaryTable } from '../bench/report.ts'
import { createShop, stockShelves } from '../bench/shop.ts'
import { postgresForTests } from './fixtures/postgres.ts'

// The peers, which are not installed here, run on it.
t.test('the shop can be made without the product’s messaging', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  await createShop(databaseUrl)
  await stockShelves(databaseUrl)
})

// Whether the bench works, not how fast anything is.
t.test('the bench measures the product and the floor, and finds the invariants kept', async (t) => {
  const root = fileURLToPath(new URL('..', import.meta.url))
  const bench = spawn(process.execPath, ['--import=tsx', 'bench/run.ts', 'compare', '--only', 'embedded,floor-1', '--rounds', '1', '--scale', '0.01'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => bench.kill())
  let output = ''
  bench.stdout.on('data', (text: Buffer) => (output += text.toString()))
  const [exitCode] = await once(bench, 'close')
  t.equal(exitCode, 0)
  t.match(output, /embedded +#1 +\d+ orders\/s .* invariants hold/)
  t.match(output, /embedded .* stolen \d+ \/ \d+ %/, 'and says what a hypervisor took')
  t.match(output, /floor-1 +#1 +\d+ orders\/s .* invariants hold/)
  t.match(output, /\| Sagabox, embedded default \|/, 'and a table at the end')
})

t.test('a ratio to the floor is the median of the rounds, each beside the floor of its own', async (t) => {
  const runs = [
    run('rabbitmq-1', 1, 300),
    run('floor-1', 1, 1000),
    run('rabbitmq-1', 2, 900),
    run('floor-1', 2, 2000),
    run('floor-1', 3, 1100),
    run('rabbitmq-1', 3, 1000)
  ]
  const row = summaryTable(runs).split('\n').find((line) => line.includes('Sagabox on RabbitMQ, one process |'))!
  // The rounds say 0.30, 0.45 and 0.91; medians by themselves would say 0.82, each run beside each floor 0.50.
  t.match(row, '| 0.45 / 1.00 / 1.00 / 1.00 |')
  t.match(row, '**900** (300–1000)')
})

function run(contender: string, round: number, ordersPerSecond: number): Run {
  return {
    contender,
    round,
    orders: 100,
    ordersPerSecond,
    postsPerSecond: ordersPerSecond,
    cpu: { node: 1, postgres: 1, rabbitmq: 1 },
    rssMb: 100,
    latency: { p50: 10, p95: 20, p99: 30 },
    stolen: { load: 0, latency: 0 },
    broken: []
  }
}
