import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { runCommand } from '../support/cli.ts'

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

t.test('the operator routes in an app of one’s own answer as the page says', (t) => {
  const { status, stdout, stderr } = node('docs/examples/own-app.ts')
  t.equal(status, 0, stderr)
  const [, printed] = /<!-- output of docs\/examples\/own-app\.ts -->\n```\n\$ .*\n([^`]*)```/.exec(
    readFileSync(join(root, 'docs/how-to/mount-the-operator-routes.md'), 'utf8')
  )!
  t.equal(stdout, printed)
  t.end()
})

t.test('commands that ask nobody print what their page says', async (t) => {
  const page = readFileSync(join(root, 'docs/reference/commands.md'), 'utf8')
  const blocks = [...page.matchAll(/^```\n\$ sagabox (\S+ \S+ --app \S+)\n(.*?)```$/gms)]
  t.equal(blocks.length, 3)
  for (const [, args, printed] of blocks)
    t.match(await runCommand(args!.split(' ')), { code: 0, out: printed! }, args!)
})

/** As the pages say: against the build. */
function node(...args: string[]) {
  return spawnSync(process.execPath, ['--import=tsx', ...args], { cwd: root, encoding: 'utf8' })
}
