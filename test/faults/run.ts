// `npm run test:faults`: does everything to the running product that must not hurt it, and prints
// what held; then breaks the product on purpose, and prints what told. --only killed,broker
// faults and mutants whose names hold one of these --seed 7               the same random choices
// again
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/postgres.ts'
import { startRabbitMQ } from '../support/rabbitmq.ts'
import type { Scope } from '../support/program.ts'
import { Bank } from './bank.ts'
import { play, randomBy } from './fault.ts'
import { faults } from './faults.ts'
import { hunt, mutants, type Mutant } from './mutants.ts'

/** How long all that a fault has held up may take, ms. */
const PATIENCE = 120_000

const { values } = parseArgs({ options: { only: { type: 'string' }, seed: { type: 'string' } } })
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const wanted = (values.only ?? '').split(',').map((part) => part.trim())
const chosen = <T extends { name: string }>(all: readonly T[], describe = ({ name }: T) => name) =>
  all.filter((one) => wanted.some((part) => describe(one).includes(part)))

const began = Date.now()
const postgres = await startPostgres()
const rabbitmq = await startRabbitMQ()
process.env.TEST_DATABASE_URL = postgres.url
process.env.TEST_RABBITMQ_URL = rabbitmq.url
process.env.TEST_RABBITMQ_MANAGEMENT_URL = rabbitmq.managementUrl

const bank = new Bank({ teardown: (cleanup) => process.once('exit', cleanup) })
let bad = 0
const lines: string[] = []
console.log(`seed ${seed}`)
for (const fault of chosen(faults)) {
  for (const transport of fault.transports) {
    const title = `${fault.name} (${transport})`
    const outcome = await scoped((scope) =>
      play(scope, fault, { bank, transport, random: randomBy(seed), patience: PATIENCE })
    )
    if (outcome instanceof Error)
      report(false, title, outcome.message, [
        fault.name,
        transport,
        '',
        '',
        '',
        `the run failed: ${outcome.message}`
      ])
    else {
      const { times, orders, seconds, broken } = outcome
      const verdict = broken.length === 0 ? 'all hold' : broken.join('; ')
      report(broken.length === 0, title, verdict, [
        fault.name,
        transport,
        times,
        orders,
        seconds.toFixed(1),
        verdict
      ])
    }
  }
}
table(['fault', 'transport', 'times', 'orders', 'seconds', 'invariants'])

for (const mutant of chosen(mutants, titleOf)) {
  const caught = await scoped((scope) => hunt(scope, bank, mutant, randomBy(seed)))
  const verdict =
    caught instanceof Error
      ? `the run failed: ${caught.message}`
      : (caught.by ?? `SURVIVED; broken: ${caught.broken.join('; ') || 'nothing'}`)
  const good = !(caught instanceof Error) && caught.by !== undefined
  report(good, titleOf(mutant), verdict, [
    mutant.name,
    mutant.fault,
    mutant.transport,
    caught instanceof Error ? '' : caught.seconds.toFixed(1),
    verdict
  ])
}
table(['mutant', 'fault', 'transport', 'seconds', 'caught by'])

await rabbitmq.stop()
await postgres.stop()
console.log(
  `\n${((Date.now() - began) / 1000).toFixed(0)} s in all, seed ${seed}: ${bad === 0 ? 'all as it must be' : `${bad} not as it must be`}`
)
process.exit(bad > 0 ? 1 : 0)

function titleOf({ name }: Mutant): string {
  return `mutant that ${name}`
}

/** Runs work and tears down what it has set up, in the opposite order. */
async function scoped<R>(work: (scope: Scope) => Promise<R>): Promise<R | Error> {
  const cleanups: (() => unknown)[] = []
  try {
    return await work({ teardown: (cleanup) => cleanups.push(cleanup) })
  } catch (error) {
    return error as Error
  } finally {
    for (const cleanup of cleanups.toReversed()) await cleanup()
  }
}

function report(
  good: boolean,
  title: string,
  verdict: string,
  cells: readonly (string | number)[]
): void {
  if (!good) bad++
  lines.push(`| ${cells.join(' | ')} |`.replaceAll('\n', ' '))
  console.log(
    `${good ? 'ok  ' : 'FAIL'} ${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${title}: ${verdict}`
  )
}

function table(columns: readonly string[]): void {
  if (lines.length > 0)
    console.log(
      `\n| ${columns.join(' | ')} |\n|${columns.map(() => '---|').join('')}\n${lines.join('\n')}\n`
    )
  lines.length = 0
}
