// `npm run bench`: see README.md in this folder.
import { parseArgs } from 'node:util'
import { compare, median, type Run } from './compare.ts'
import { CONTENDERS } from './contenders.ts'
import { startServers } from './servers.ts'

const { values } = parseArgs({
  options: { only: { type: 'string' }, rounds: { type: 'string', default: '3' }, scale: { type: 'string', default: '1' } }
})
const only = values.only?.split(',')
const contenders = CONTENDERS.filter(({ name }) => !only || only.includes(name))
const servers = await startServers()
try {
  const runs = await compare(servers, { contenders, rounds: Number(values.rounds), scale: Number(values.scale), report: (run) => console.log(line(run)) })
  console.log('medians')
  for (const { name } of contenders) {
    const own = runs.filter(({ contender }) => contender === name)
    const of = (figure: (run: Run) => number) => median(own.map(figure))
    console.log(
      `${name.padEnd(16)} ${of((run) => run.ordersPerSecond).toFixed(0).padStart(5)} orders/s  cpu ms/order node ${of((run) => run.cpu.node).toFixed(2)} pg ${of((run) => run.cpu.postgres).toFixed(2)} rmq ${of((run) => run.cpu.rabbitmq).toFixed(2)}  p50 ${of((run) => run.latency!.p50).toFixed(1)} p99 ${of((run) => run.latency!.p99).toFixed(1)}`
    )
  }
} finally {
  await servers.stop()
}
process.exit(0)

function line({ contender, round, ordersPerSecond, postsPerSecond, cpu, latency, rssMb, broken }: Run): string {
  return `${contender.padEnd(16)} #${round} ${ordersPerSecond.toFixed(0).padStart(5)} orders/s (${postsPerSecond.toFixed(0)} posts/s)  cpu ms/order: node ${cpu.node.toFixed(2)} pg ${cpu.postgres.toFixed(2)} rmq ${cpu.rabbitmq.toFixed(2)}  ${latency ? `p50 ${latency.p50.toFixed(1)} p95 ${latency.p95.toFixed(1)} p99 ${latency.p99.toFixed(1)}` : ''}  rss ${rssMb.toFixed(0)} MB  ${broken.length > 0 ? `BROKEN ${broken.join('; ')}` : 'ok'}`
}
