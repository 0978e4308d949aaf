// What runs the tests.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { ROOT } from '../support/program.ts'

t.test('a file that hangs ends itself alone, and a folder is searched to its ground', async (t) => {
  // Where tap is found, and as no test of ours is named.
  const folder = await mkdtemp(join(ROOT, 'test/support/runner-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const hangs = `import t from 'tap'; t.test('hangs', async () => { setInterval(() => {}, 1000); await new Promise(() => {}) })`
  for (const name of ['hangs-1', 'hangs-2']) await writeFile(join(folder, `${name}.ts`), hangs)
  for (const name of ['passes-1', 'passes-2'])
    await writeFile(join(folder, `${name}.ts`), `import t from 'tap'; t.pass()`)
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('TAP'))
  )
  const files = (await readdir(folder)).toSorted().map((name) => join(folder, name))
  const run = spawn(
    process.execPath,
    ['--conditions=source', '--import=tsx', 'scripts/test.ts', '--timeout=3', ...files],
    {
      cwd: ROOT,
      env: { ...environment, TEST_DATABASE_URL: 'none', TEST_RABBITMQ_URL: 'none' },
      stdio: ['ignore', 'pipe', 'ignore']
    }
  )
  let said = ''
  run.stdout.on('data', (data) => (said += data))
  const [code] = await once(run, 'close')
  t.equal(code, 1)
  for (const name of ['hangs-1', 'hangs-2'])
    t.match(said, new RegExp(`^FAIL test/support/runner-\\w+/${name}\\.ts`, 'm'))
  for (const name of ['passes-1', 'passes-2'])
    t.match(said, new RegExp(`^ok {3}test/support/runner-\\w+/${name}\\.ts`, 'm'))
  t.match(said, /^tap ended its run before \d of the files; they run now$/m)
  t.match(said, /^2 passed, 2 failed$/m)
})
