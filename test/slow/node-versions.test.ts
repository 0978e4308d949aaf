// The library and one journey of an order, on the versions of Node that the image and most users
// have.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ROOT } from '../support/program.ts'

/** What looks at the repository finds the same on every version. */
const OF_THE_REPOSITORY = /^(api|check-dependencies|check-imports|compose|docs|prepare)\.test\.ts$/
const PARTS = [
  'packages/sagabox/test/unit',
  ...readdirSync(join(ROOT, 'test/unit'))
    .filter((name) => name.endsWith('.test.ts') && !OF_THE_REPOSITORY.test(name))
    .map((name) => `test/unit/${name}`),
  'test/system/journey.test.ts'
]

for (const major of [22, 24]) {
  t.test(`Node ${major}`, async (t) => {
    const node = await install(major)
    const environment = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('TAP'))
    )
    const run = spawn(node, ['--conditions=source', '--import=tsx', 'scripts/test.ts', ...PARTS], {
      cwd: ROOT,
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let said = ''
    for (const stream of [run.stdout, run.stderr]) stream.on('data', (data) => (said += data))
    const [code] = await once(run, 'close')
    if (code !== 0) t.comment(said)
    t.equal(code, 0)
    const [, passed] = /^(\d+) passed, 0 failed$/m.exec(said) ?? []
    t.ok(Number(passed) > 500, `${passed} passed`)
  })
}

/** Node as npm has it: its packages hold the program alone. */
async function install(major: number): Promise<string> {
  const folder = join(ROOT, `node_modules/.cache/node-${major}`)
  const name = `node-${process.platform}-${process.arch}`
  const program = join(folder, 'node_modules', name, 'bin/node')
  if (!existsSync(program)) {
    const npm = [
      'install',
      '--no-save',
      '--no-audit',
      '--no-fund',
      '--prefix',
      folder,
      `${name}@${major}`
    ]
    await promisify(execFile)('npm', npm, { cwd: ROOT })
  }
  return program
}
