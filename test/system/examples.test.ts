import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('the tests of the example pass', (t) => {
  const { status, stdout } = node('--test', '--test-reporter=spec', 'docs/examples/parcel-test.ts')
  t.equal(status, 0, stdout)
  t.match(stdout, /pass 4/)
  t.end()
})

t.test('the example prints what the pages say that it prints', (t) => {
  const { status, stdout, stderr } = node('docs/examples/run-parcel.ts')
  t.equal(status, 0, stderr)
  for (const page of ['README.md', 'docs/tutorial/first-saga.md']) {
    const [, printed] =
      /<!-- output of docs\/examples\/run-parcel\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
        readFileSync(join(root, page), 'utf8')
      )!
    t.equal(stdout.replaceAll(/ +$/gm, ''), printed, page)
  }
  t.end()
})

t.test('the gym reminds, cancels, answers and pauses as the pages say', (t) => {
  const tests = node('--test', '--test-reporter=spec', 'docs/examples/gym-test.ts')
  t.equal(tests.status, 0, tests.stdout)
  t.match(tests.stdout, /pass 2/)
  const { status, stdout, stderr } = node('docs/examples/run-gym.ts', t.testdir())
  t.equal(status, 0, stderr)
  const [, printed] = /<!-- output of docs\/examples\/run-gym\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
    readFileSync(join(root, 'docs/how-to/ask-and-wait.md'), 'utf8')
  )!
  t.equal(stdout, printed)
  t.end()
})

/** As the pages say: against the build. */
function node(...args: string[]) {
  return spawnSync(process.execPath, ['--import=tsx', ...args], { cwd: root, encoding: 'utf8' })
}
