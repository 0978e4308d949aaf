import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
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
  t.match(output, /floor-1 +#1 +\d+ orders\/s .* invariants hold/)
  t.match(output, /\| Sagabox, embedded default \|/, 'and a table at the end')
})
