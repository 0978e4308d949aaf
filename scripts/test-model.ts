// `npm run test:model -- [--runs N] [--seed S]`: random cases on the whole system, held to a
// reference; with `--replay file` one case, with `--mutants [--only text,text]` the same on broken
// copies of the product, each of which must be told. Exit code 0 when all is well, 1 when a case
// went wrong or a mutant survived, 2 when it could not be run.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startPostgres } from '../test/support/postgres.ts'
import { sentences, type ModelCase } from '../test/model/case.ts'
import { hunt, mutants, type Mutant } from '../test/model/mutants.ts'
import { describe, search } from '../test/model/search.ts'
import { World } from '../test/model/world.ts'

/** Between two words on how far it is, ms. */
const PROGRESS_MS = 10_000
/** Of each mutant. */
const MUTANT_RUNS = '500'

type CreateDatabase = () => Promise<string>

try {
  process.exitCode = await main()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 2
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string' },
      seed: { type: 'string', default: String(Math.ceil(Math.random() * 2 ** 30)) },
      replay: { type: 'string' },
      mutants: { type: 'boolean', default: false },
      only: { type: 'string', default: '' }
    }
  })
  const seed = whole('--seed', values.seed)
  const runs = whole('--runs', values.runs ?? (values.mutants ? MUTANT_RUNS : '2000'))
  if (values.mutants)
    return hunted(
      mutants.filter(({ name }) => values.only.split(',').some((part) => name.includes(part))),
      runs,
      seed
    )
  const played =
    values.replay === undefined
      ? undefined
      : (JSON.parse(readFileSync(values.replay, 'utf8')) as ModelCase)
  const postgres = await startPostgres()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void postgres.stop().finally(() => process.exit(2)))
  try {
    const createDatabase = () => postgres.createDatabase('model')
    return await (played ? replayed(played, createDatabase) : searched(runs, seed, createDatabase))
  } finally {
    await postgres.stop()
  }
}

async function replayed(played: ModelCase, createDatabase: CreateDatabase): Promise<number> {
  for (const line of sentences(played)) console.log(`  ${line}`)
  const world = await World.open(await createDatabase())
  try {
    const faults = await world.play(played)
    console.log(faults.length > 0 ? faults.join('\n') : 'Every order ended as it should')
    return faults.length > 0 ? 1 : 0
  } finally {
    await world.close()
  }
}

async function searched(
  runs: number,
  seed: number,
  createDatabase: CreateDatabase
): Promise<number> {
  console.log(`Seed ${seed}`)
  const began = Date.now()
  const seconds = () => ((Date.now() - began) / 1000).toFixed(0)
  let told = began
  const found = await search({
    runs,
    seed,
    createDatabase,
    progress(done) {
      if (Date.now() - told < PROGRESS_MS) return
      told = Date.now()
      console.log(`${done} runs, ${seconds()} s`)
    },
    failed: (faults) => console.log(`A case went wrong, and is made smaller: ${faults.join('; ')}`)
  })
  console.log(
    found ? describe(found) : `${runs} runs in ${seconds()} s: every order ended as it should`
  )
  return found ? 1 : 0
}

async function hunted(chosen: readonly Mutant[], runs: number, seed: number): Promise<number> {
  console.log(`Seed ${seed}`)
  let survived = 0
  for (const mutant of chosen) {
    const { name, told, run, seconds } = await hunt(mutant, runs, seed)
    if (run === undefined) survived++
    console.log(
      `\n${name}: ${run === undefined ? 'SURVIVED' : `told by run ${run}`}, ${seconds.toFixed(0)} s\n${told}`
    )
  }
  console.log(`${chosen.length - survived} of ${chosen.length} mutants told`)
  return survived > 0 ? 1 : 0
}

function whole(name: string, text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 1)
    throw new Error(`${name} must be a whole number from 1, not ${text}`)
  return number
}
