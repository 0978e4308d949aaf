import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { postgresForTests } from './fixtures/postgres.ts'
import type { ModelCase } from './model/case.ts'
import { describe, search } from './model/search.ts'
import { World } from './model/world.ts'

const RUNS = 150

t.setTimeout(240_000)

t.test('cases that found something go well', async (t) => {
  const world = await World.open(await (await postgresForTests()).createDatabase(t.name))
  t.teardown(() => world.close())
  for (const name of readdirSync(new URL('model/cases/', import.meta.url))) {
    t.same(await world.play(JSON.parse(readFileSync(new URL(`model/cases/${name}`, import.meta.url), 'utf8')) as ModelCase), [], name)
  }
})

t.test('whatever happens in whatever order, every order ends as anybody would expect', async (t) => {
  const seed = Number(process.env['MODEL_SEED'] ?? Math.ceil(Math.random() * 2 ** 30))
  t.comment(`MODEL_SEED=${seed}`)
  const { createDatabase } = await postgresForTests()
  const found = await search({ runs: RUNS, seed, createDatabase: () => createDatabase(t.name), progress() {}, failed: (faults) => t.comment(`is made smaller: ${faults.join('; ')}`) })
  t.equal(found && describe(found), undefined)
})
