import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { againstLines, buildOther, withOther } from '../../bench/against.ts'
import type { Run } from '../../bench/compare.ts'
import { CONTENDERS } from '../../bench/contenders.ts'
import { summaryTable } from '../../bench/report.ts'
import { createShop, stockShelves } from '../../bench/shop.ts'
import { postgresForTests } from '../support/postgres.ts'

// The peers, which are not installed here, run on it.
t.test('the shop can be made without the product’s messaging', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  await createShop(databaseUrl)
  await stockShelves(databaseUrl)
})

// Whether the bench works, not how fast anything is.
t.test(
  'the bench measures the product, its other version and the floor, and finds the invariants kept',
  async (t) => {
    const root = fileURLToPath(new URL('../..', import.meta.url))
    const bench = spawn(
      process.execPath,
      [
        '--import=tsx',
        'bench/run.ts',
        'compare',
        '--only',
        'embedded,floor-1',
        '--against',
        root,
        '--rounds',
        '1',
        '--scale',
        '0.01'
      ],
      { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] }
    )
    t.teardown(() => bench.kill())
    let output = ''
    bench.stdout.on('data', (text: Buffer) => (output += text.toString()))
    const [exitCode] = await once(bench, 'close')
    t.equal(exitCode, 0)
    t.match(output, /embedded +#1 +\d+ orders\/s .* invariants hold/)
    t.match(output, /embedded .* stolen \d+ \/ \d+ %/, 'and says what a hypervisor took')
    t.match(output, /floor-1 +#1 +\d+ orders\/s .* invariants hold/)
    t.match(output, /embedded@against +#1 +\d+ orders\/s .* invariants hold/)
    t.match(output, /\| Sagabox, embedded default \|/, 'and a table at the end')
    t.match(output, /\| Sagabox, embedded default, against \|/)
    t.match(
      output,
      /embedded, orders\/s: [\d.]+ \(medians [\d.]+ here, [\d.]+ against\) · pairs [\d.]+ · no difference to be seen in 1 pair/
    )
    t.match(output, /embedded, CPU ms an order: /)
  }
)

t.test(
  'each contender of the product stands beside itself from the other checkout, the others alone',
  async (t) => {
    const names = ['rabbitmq-1', 'floor-1']
    const both = withOther(
      CONTENDERS.filter(({ name }) => names.includes(name)),
      '/elsewhere'
    )
    t.match(both, [
      { name: 'rabbitmq-1', folder: undefined },
      {
        name: 'rabbitmq-1@against',
        folder: '/elsewhere',
        program: ['/elsewhere/dist/main.js'],
        processes: [[]],
        broker: true
      },
      { name: 'floor-1', folder: undefined }
    ])
  }
)

t.test(
  'a difference between two versions is the ratio of medians, said only when hardly by chance',
  async (t) => {
    const ours = [300, 330, 360, 310, 320, 350]
    const theirs = [200, 220, 250, 290, 210, 230]
    const runs = ours.flatMap((figure, index) => [
      run('rabbitmq-1', index + 1, figure),
      run('rabbitmq-1@against', index + 1, theirs[index]!),
      run('floor-1', index + 1, 1000)
    ])
    const [speed, cpu, ...more] = againstLines(runs)
    t.same(more, [], 'the floor is no pair')
    t.equal(
      speed,
      'rabbitmq-1, orders/s: 1.444 (medians 325 here, 225 against) · pairs 1.50 1.50 1.44 1.07 1.52 1.52 · more here in 6 of 6 pairs'
    )
    t.match(cpu, /CPU ms an order: 1.000 .* · no difference to be seen in 6 pairs/)
    t.match(
      againstLines(runs.slice(0, 15))[0],
      /no difference to be seen in 5 pairs/,
      'five could be chance'
    )
  }
)

t.test('what is no checkout is refused', async (t) => {
  t.throws(
    () => buildOther('/nowhere'),
    /--against \/nowhere: expected the folder of another checkout/
  )
})

t.test(
  'a ratio to the floor is the median of the rounds, each beside the floor of its own',
  async (t) => {
    const runs = [
      run('rabbitmq-1', 1, 300),
      run('floor-1', 1, 1000),
      run('rabbitmq-1', 2, 900),
      run('floor-1', 2, 2000),
      run('floor-1', 3, 1100),
      run('rabbitmq-1', 3, 1000)
    ]
    const row = summaryTable(runs)
      .split('\n')
      .find((line) => line.includes('Sagabox on RabbitMQ, one process |'))!
    // The rounds say 0.30, 0.45 and 0.91; medians by themselves would say 0.82, each run beside
    // each floor 0.50.
    t.match(row, '| 0.45 / 1.00 / 1.00 / 1.00 |')
    t.match(row, '**900** (300–1000)')
  }
)

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
