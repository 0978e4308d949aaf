import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('the tests of the examples pass', (t) => {
  for (const file of ['docs/examples/parcel-test.ts', 'docs/examples/trip-test.ts']) {
    const { status, stdout } = node('--test', '--test-reporter=spec', file)
    t.equal(status, 0, stdout)
    t.match(stdout, /pass 4/)
  }
  t.end()
})

t.test('the examples print what the pages say that they print', (t) => {
  const printedOn = {
    'docs/examples/run-parcel.ts': ['README.md', 'docs/tutorial/first-saga.md'],
    'docs/examples/run-trip.ts': ['docs/how-to/write-a-saga-in-steps.md']
  }
  for (const [program, pages] of Object.entries(printedOn)) {
    const { status, stdout, stderr } = node(program)
    t.equal(status, 0, stderr)
    for (const page of pages) t.equal(stdout.replaceAll(/ +$/gm, ''), outputOn(page, program), page)
  }
  t.end()
})

function outputOn(page: string, program: string): string {
  const [, printed] = readFileSync(join(root, page), 'utf8').split(
    `<!-- output of ${program} -->\n\`\`\`\n`
  )
  const [, output] = /^\$ .*\n([^`]*)```/.exec(printed!)!
  return output!
}

/** As the pages say: against the build. */
function node(...args: string[]) {
  return spawnSync(process.execPath, ['--import=tsx', ...args], { cwd: root, encoding: 'utf8' })
}
