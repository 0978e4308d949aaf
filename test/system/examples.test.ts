import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.test('the tests of the example pass', (t) => {
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--import=tsx', '--test', '--test-reporter=spec', 'docs/examples/parcel-test.ts'],
    { cwd: fileURLToPath(new URL('../..', import.meta.url)), encoding: 'utf8' }
  )
  t.equal(status, 0, stdout)
  t.match(stdout, /pass 4/)
  t.end()
})
