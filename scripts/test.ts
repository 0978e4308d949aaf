// `npm test`: every promise once, in one run. `npm run test:slow`: what proves them again, at
// length. Files or folders given as arguments run alone, without the checks before them.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { relative, resolve as absolute } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../test/support/postgres.ts'
import { createTemplate } from '../test/support/template.ts'
import { startRabbitMQ } from '../test/support/rabbitmq.ts'
import { bundleTypebox } from './typescript-hooks.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const given = process.argv.slice(2)
const options = given.filter((arg) => arg.startsWith('-'))
const named = given.filter((arg) => !arg.startsWith('-') && !['slow', 'all'].includes(arg))
/** Where tests are: those of the library, and those of the system. */
const FOLDERS = ['packages/sagabox/test', 'test']
const parts = given.includes('all')
  ? ['quick', 'slow']
  : [given.includes('slow') ? 'slow' : 'quick']

interface Counts {
  passed: number
  failed: number
  skipped: number
}

// A signal ends the suites, not this process: it still has two servers to stop and a result to
// print.
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => interrupted.abort(new Error(`Ended by ${signal}`)))

const began = Date.now()
const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
if (named.length === 0 && parts.includes('quick')) {
  check('Types', ['typescript/bin/tsc', '-p', 'tsconfig.json'])
  check('Types of the console', ['typescript/bin/tsc', '-p', 'packages/sagabox/console'])
  check('Format', ['oxfmt/bin/oxfmt', '--check'])
  check('Lint', ['oxlint/bin/oxlint', '--type-aware'])
  check('Imports', ['../scripts/check-imports.mjs'])
}
// Some suites run the product as its users do.
check('Build', ['../scripts/prepare.mjs', 'build'])
await suites()
if (process.env['CI'] && counts.skipped > 0) {
  console.error(`${counts.skipped} skipped: in CI nothing may be`)
  counts.failed += counts.skipped
  counts.skipped = 0
}
if (counts.passed === 0 && counts.failed === 0) {
  console.error('No test ran')
  counts.failed = 1
}
console.log(`\n${((Date.now() - began) / 1000).toFixed(0)} s in all`)
console.log(
  `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''}`
)
// The servers' last sockets must not keep a finished run alive.
process.exit(counts.failed > 0 ? 1 : 0)

/** Runs a check by a program of node_modules; its output shows only when it fails. */
function check(title: string, [script, ...args]: [string, ...string[]]): void {
  const start = Date.now()
  const { status, stdout, stderr, error } = spawnSync(
    process.execPath,
    [`${root}node_modules/${script}`, ...args],
    { cwd: root, encoding: 'utf8' }
  )
  if (status !== 0) {
    counts.failed++
    console.error(error ?? stdout + stderr)
  }
  report(status === 0, title, start)
}

async function suites(): Promise<void> {
  const start = Date.now()
  const servers = await Promise.allSettled([database(), broker()])
  const [postgres, rabbitmq] = servers
  try {
    if (postgres.status === 'rejected') throw postgres.reason
    if (rabbitmq.status === 'rejected') throw rabbitmq.reason
    report(true, 'PostgreSQL and RabbitMQ', start)
    await tap({ ...postgres.value.environment, ...rabbitmq.value.environment })
  } catch (error) {
    counts.failed++
    console.error(error)
  } finally {
    for (const server of servers) if (server.status === 'fulfilled') await server.value.stop()
  }
}

interface Server {
  environment: Record<string, string>
  stop(): Promise<void>
}

async function database(): Promise<Server> {
  if (process.env['TEST_DATABASE_URL']) return { environment: {}, stop: async () => {} }
  const { url, stop } = await startPostgres()
  return {
    environment: { TEST_DATABASE_URL: url, TEST_DATABASE_TEMPLATE: await createTemplate(url) },
    stop
  }
}

async function broker(): Promise<Server> {
  if (process.env['TEST_RABBITMQ_URL']) return { environment: {}, stop: async () => {} }
  const { url, managementUrl, stop } = await startRabbitMQ()
  return {
    environment: { TEST_RABBITMQ_URL: url, TEST_RABBITMQ_MANAGEMENT_URL: managementUrl },
    stop
  }
}

/**
 * Runs the suites; a line for each file as it ends, and all that a failing file printed. When a
 * file takes so long that tap ends its run, the others run in another. Files are found here, not by
 * tap, which leaves out folders without a word.
 */
async function tap(environment: Record<string, string>): Promise<void> {
  const cli = `${root}node_modules/tap/dist/esm/run.mjs`
  buildTap(cli)
  await bundleTypebox()
  let left =
    named.length > 0
      ? named.flatMap((path) => testFiles(relative(root, absolute(path))))
      : FOLDERS.flatMap(testFiles).filter((path) =>
          parts.includes(path.includes('/slow/') ? 'slow' : 'quick')
        )
  while (left.length > 0) {
    interrupted.signal.throwIfAborted()
    const ran = await runTap(cli, left, environment)
    const still = left.filter((file) => !ran.has(file))
    if (still.length === left.length) throw new Error(`tap did not run ${left.join(', ')}`)
    if (still.length > 0)
      console.log(`tap ended its run before ${still.length} of the files; they run now`)
    left = still
  }
}

/** The test files of a folder, or the file itself, from the root. */
function testFiles(path: string): string[] {
  const found = statSync(root + path, { throwIfNoEntry: false })
  if (!found) throw new Error(`There is no test ${path}`)
  if (!found.isDirectory()) return [path]
  return readdirSync(root + path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .toSorted()
    .map((name) => `${path}/${name}`)
}

/** One run. Returns the files that it came to. */
async function runTap(
  cli: string,
  files: readonly string[],
  environment: Record<string, string>
): Promise<Set<string>> {
  const runner = spawn(process.execPath, [cli, 'run', '--reporter=tap', ...options, ...files], {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true
  })
  const exited = exitCodeOf(runner)
  // All of its group: told alone, tap would first wait for the files that run.
  const stop = () => process.kill(-runner.pid!, 'SIGTERM')
  interrupted.signal.addEventListener('abort', stop)
  const ran = new Set<string>()
  const before = counts.failed
  let notReached = 0
  let output: string[] = []
  for await (const line of createInterface({ input: runner.stdout })) {
    output.push(line)
    // A skipped file and one that was stopped have no time of their own.
    const [, not, file, remark = ''] = /^(not )?ok \d+ - (.+?)(?: # (.*))?$/.exec(line) ?? []
    const totals = /^# (\{ total: .*\})$/.exec(line)
    // For each file that it did not come to, tap says so when it ends its run.
    if (file === 'timeout!') notReached++
    else if (file) {
      ran.add(file)
      if (not) console.error(output.join('\n'))
      const ms = /^time=([\d.]+)ms/.exec(remark)?.[1]
      report(!not, ms ? file : `${file} ${remark}`.trim(), Date.now() - Number(ms ?? 0))
      output = []
    } else if (totals) add(totals[1]!)
  }
  const exitCode = await exited
  interrupted.signal.removeEventListener('abort', stop)
  interrupted.signal.throwIfAborted()
  counts.failed = Math.max(before, counts.failed - notReached)
  if (exitCode !== 0 && counts.failed === before) {
    console.error(output.join('\n'))
    counts.failed++
  }
  return ran
}

/**
 * tap builds the plug-ins that .taprc chooses into its own package: an install or an edit of .taprc
 * undoes that.
 */
function buildTap(cli: string): void {
  const choice = readFileSync(`${root}.taprc`, 'utf8')
  const stamp = `${root}node_modules/@tapjs/test/test-built/built-for-taprc`
  if (
    existsSync(`${root}.tap/plugins`) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === choice
  )
    return
  const start = Date.now()
  rmSync(`${root}.tap`, { recursive: true, force: true })
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'build'], {
    cwd: root,
    encoding: 'utf8'
  })
  if (status !== 0) throw new Error(`tap could not build its plug-ins:\n${stdout}${stderr}`)
  writeFileSync(stamp, choice)
  report(true, 'tap built', start)
}

/** `{ total: 12, pass: 10, fail: 1, skip: 1 }` as tap ends a run with. */
function add(totals: string): void {
  const of = (name: string) => Number(new RegExp(`${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  counts.passed += of('pass')
  counts.failed += of('fail')
  counts.skipped += of('skip') + of('todo')
}

function exitCodeOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject))
}

function report(good: boolean, title: string, start: number): void {
  console.log(`${good ? 'ok  ' : 'FAIL'} ${title} (${((Date.now() - start) / 1000).toFixed(1)} s)`)
}
