// What is wrong is said in one sentence, before any work, by the product as people run it.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { environmentHints } from '../../src/environment-hints.ts'
import { postgresForTests } from '../support/postgres.ts'
import { copyProduct } from '../support/copy-of-product.ts'
import { Program, ROOT } from '../support/program.ts'
import { until } from '../support/until.ts'

t.jobs = 3

async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-start-'))
  await chmod(folder, 0o711)
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

/** Runs it to its end. */
async function run(
  t: Test,
  env: Record<string, string>,
  args: readonly string[] = [],
  product?: string
) {
  const program = new Program(t, env, args, product)
  const { code } = await program.exited
  return { code, said: program.errors }
}

/** A port of the loopback at which nobody answers, for as long as the test lasts. */
async function deadPort(t: Test): Promise<number> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('an address that cannot be listened on is named before anything is begun', async (t) => {
  const DATA_DIR = join(await temporaryFolder(t), 'data')
  for (const HOST of ['x86_64-conda-linux-gnu', '203.0.113.9', 'http://0.0.0.0', '0.0.0.0:3000']) {
    const { code, said } = await run(t, { HOST, DATA_DIR })
    t.equal(code, 1)
    t.match(
      said,
      new RegExp(
        `^Sagabox cannot start\\.\nHOST: expected an address of this machine, such as 127\\.0\\.0\\.1 or 0\\.0\\.0\\.0, got "${HOST}" \\(E\\w+\\)`
      )
    )
    t.notMatch(said, /\n {4}at /, 'no stack trace')
    t.equal(said.includes('Conda sets HOST'), HOST.includes('conda'))
  }
  const PORT = `${await deadPort(t)}`
  t.match(await run(t, { PORT, DATA_DIR }), {
    code: 1,
    said: `PORT: ${PORT} on 127.0.0.1 is taken by another program; expected a free port`
  })
  await t.rejects(readdir(DATA_DIR), { code: 'ENOENT' }, 'no database was made')
})

t.test(
  'a data folder that cannot be used is named, also where making folders never ends',
  async (t) => {
    const folder = await temporaryFolder(t)
    const file = join(folder, 'a file')
    await writeFile(file, '')
    const long = join(folder, ...Array.from({ length: 10 }, () => 'd'.repeat(100)))
    const cases: Record<string, RegExp> = {
      [file]: /a file is not a folder/,
      [join(file, 'data')]: /ENOTDIR|not a folder/,
      [long]: /its path has 1\d+ bytes, and PostgreSQL takes 900/
    }
    if (process.platform === 'linux') cases['/proc/sagabox'] = /ENOENT/
    for (const [DATA_DIR, reason] of Object.entries(cases)) {
      const { code, said } = await run(t, { DATA_DIR })
      t.equal(code, 1)
      t.ok(
        said.startsWith(
          `Sagabox cannot start.\nDATA_DIR: Sagabox cannot use the data folder ${DATA_DIR}`
        ),
        said
      )
      t.match(said, reason)
      t.notMatch(said, /\n {4}at /, 'no stack trace')
    }
  }
)

t.test('the command line', async (t) => {
  const npmStart = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/start.mjs', ...args], {
      cwd: ROOT,
      encoding: 'utf8'
    })
    return { status, stdout, stderr }
  }
  const product = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/main.js', ...args], {
      cwd: ROOT,
      encoding: 'utf8'
    })
    return { status, stdout, stderr }
  }
  for (const args of [
    ['--help'],
    ['order', '-h'],
    ['--version'],
    ['--port', '3001'],
    ['--', '--bogus'],
    ['orders']
  ]) {
    t.same(
      npmStart(...args),
      product(...args),
      `npm start -- ${args.join(' ')} and dist/main.js say the same`
    )
  }
  t.match(product('--help'), {
    status: 0,
    stdout:
      /^Usage: npm start -- \[service \.\.\.\]\n.*order, stock, payment.*RABBITMQ_URL.*Examples:/s,
    stderr: ''
  })
  t.match(product('--version'), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
  t.match(product('--port', '3001'), {
    status: 2,
    stderr:
      'Sagabox cannot start.\nUnknown option --port: expected --help, --version or names of services. Settings are environment variables: npm start -- --help\n'
  })
  t.match(product('orders'), {
    status: 1,
    stderr:
      'Sagabox cannot start.\nUnknown service orders: expected any of order, stock, payment, console alone, or none for all. More: npm start -- --help\n'
  })
})

t.test('an old Node is named first, by npm start, npm test and the build alike', async (t) => {
  const folder = await temporaryFolder(t)
  const old = join(folder, 'old.cjs')
  const disguise = (version: string) =>
    writeFile(
      old,
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`
    )
  for (const program of ['scripts/start.mjs', 'scripts/prepare.mjs', 'dist/main.js']) {
    for (const version of ['18.20.8', '20.11.1', '22.11.0']) {
      await disguise(version)
      const { status, stderr } = spawnSync(
        process.execPath,
        ['--no-experimental-require-module', '--require', old, program],
        { cwd: ROOT, encoding: 'utf8' }
      )
      t.equal(status, 1)
      t.match(
        stderr,
        `This is Node ${version} (${process.execPath}); expected 20.19 or newer of 20, 22.12 or newer of 22, or a later one`
      )
    }
    const { status, stderr } = spawnSync(process.execPath, [program], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '--no-experimental-require-module' }
    })
    t.equal(status, 1)
    t.match(
      stderr,
      /NODE_OPTIONS.*"--no-experimental-require-module".* turns off require\(\) of modules/
    )
  }
})

t.test('migrations that the code was not built with do not run', async (t) => {
  const folder = await temporaryFolder(t)
  await copyProduct(folder, ['dist', 'packages/sagabox/dist'])
  await rm(join(folder, 'migrations'))
  await cp(join(ROOT, 'migrations'), join(folder, 'migrations'), { recursive: true })
  await writeFile(
    join(folder, 'migrations/order/209901010000-from-a-newer-version.sql'),
    'drop table orders'
  )
  t.match(await run(t, { DATA_DIR: join(folder, 'data') }, [], folder), {
    code: 1,
    said: /^Sagabox cannot start\.\nThe code in .*dist\/ was built with other migrations than those in .*: migrations\/order\/209901010000-from-a-newer-version\.sql is new\. Build it anew: npm run build\n$/
  })
  await rm(join(folder, 'migrations/stock'), { recursive: true })
  t.match(await run(t, {}, [], folder), { code: 1, said: /is (missing|new), and \d more/ })
  await rm(join(folder, 'migrations'), { recursive: true })
  await mkdir(join(folder, 'migrations'))
  t.match(await run(t, {}, [], folder), { code: 1, said: /is missing, and \d+ more/ })
  await cp(join(ROOT, 'migrations'), join(folder, 'migrations'), { recursive: true })
  await rm(join(folder, 'packages/sagabox/migrations'))
  t.match(await run(t, {}, [], folder), {
    code: 1,
    said: /packages\/sagabox\/migrations\/messaging\/.* is missing, and \d+ more/
  })
})

t.test('ready is said when it is ready, and of a part of the services which', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const isReady = ({ msg }: { msg: string }) => msg === 'Sagabox is ready'

  const alone = await Program.start(t, { DATABASE_URL: databaseUrl })
  await until('it says so', async () => alone.logged(isReady).length > 0)
  t.equal((await fetch(`${alone.url}/health/ready`)).status, 200)
  t.match(alone.logged(isReady), [
    { services: ['order', 'stock', 'payment'], addresses: [`127.0.0.1 ${new URL(alone.url).port}`] }
  ])
  t.match(alone.lastWords, /^Sagabox is ready\.$/m)
  await alone.stop('SIGTERM')

  const brokerless = await Program.start(
    t,
    { DATABASE_URL: databaseUrl, RABBITMQ_URL: `amqp://127.0.0.1:${await deadPort(t)}` },
    'order',
    'stock'
  )
  await until('only the broker is missing', async () => {
    const { services } = (await (await fetch(`${brokerless.url}/health/ready`)).json()) as {
      services: Record<string, { database: string; broker: string; relay: string }>
    }
    return Object.values(services).every(
      ({ database, broker, relay }) => database === 'ok' && relay === 'ok' && broker !== 'ok'
    )
  })
  t.same(brokerless.logged(isReady), [])
  t.match(await brokerless.stop('SIGTERM'), { code: 0 })
  t.same(brokerless.logged(isReady), [])
  t.notMatch(brokerless.lastWords, /is ready/)
})

t.test(
  'a process that never reached its database does not say that it is ready when it is stopped',
  async (t) => {
    const program = await Program.start(t, {
      DATABASE_URL: `postgres://ada@127.0.0.1:${await deadPort(t)}/shop`
    })
    await until(
      'it has tried',
      async () => program.logged(({ msg }) => msg.startsWith('Cannot use the database')).length > 0
    )
    t.match(await program.stop('SIGTERM'), { code: 0 })
    t.notMatch(program.lastWords, /is ready|Could not finish/)
  }
)

t.test('variables of other programs decide nothing', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'default.json'), '{ "host": "203.0.113.9" }')
  const program = await Program.start(t, {
    DATABASE_URL: ` ${databaseUrl}\n`,
    LOG_LEVEL: 'info ',
    NODE_ENV: 'production ',
    HOST: '127.0.0.1',
    NODE_CONFIG: '{"port":',
    NODE_CONFIG_DIR: folder,
    NODE_CONFIG_ENV: 'default',
    NODE_APP_INSTANCE: '3',
    NODE_CONFIG_STRICT_MODE: 'true',
    NODE_CONFIG_PARSER: '/nowhere.js',
    RABBIT_URL: 'amqp://mq'
  })
  t.equal(program.errors, '')
  t.match(
    program.logged(({ msg }) => msg.startsWith('RABBIT_URL')),
    [
      {
        level: 40,
        msg: 'RABBIT_URL is set and not read; RABBITMQ_URL is, and it is not set: was that meant?'
      }
    ]
  )
})

t.test('names that are nearly those of settings, and a NODE_ENV that means nothing', async (t) => {
  const hinted = (environment: Record<string, string>) =>
    environmentHints(environment).map((hint) => hint.split(' ')[0])
  t.same(
    hinted({
      RABBIT_URL: 'x',
      DATABASEURL: 'x',
      database_url: 'x',
      PGURL: 'x',
      LOGLEVEL: 'x',
      'DATA-DIR': 'x',
      STRIPE_API_KEY: 'x'
    }),
    ['RABBIT_URL', 'DATABASEURL', 'database_url', 'PGURL', 'LOGLEVEL', 'DATA-DIR', 'STRIPE_API_KEY']
  )
  t.same(
    hinted({
      RABBIT_URL: 'x',
      RABBITMQ_URL: 'x',
      DB_URL: '',
      PATH: 'x',
      HOME: 'x',
      HOSTNAME: 'x',
      XDG_DATA_DIRS: 'x',
      PWD: 'x',
      POST: 'x',
      TEST_DATABASE_URL: 'x',
      npm_config_loglevel: 'x'
    }),
    []
  )
  t.same(environmentHints({ NODE_ENV: 'prod' }), [
    'NODE_ENV: expected production, test, development or none, got "prod"; taken for development'
  ])
  for (const NODE_ENV of ['', 'production', 'production\n', 'test', 'development'])
    t.same(environmentHints({ NODE_ENV }), [])
  t.notMatch(environmentHints({ RABBIT_URL: 'amqp://ada:secret@mq' }).join(), 'secret')
})

t.test(
  'npm start runs the product itself, also where npm leaves out scripts before scripts',
  async (t) => {
    const child = spawn('npm', ['start', '--ignore-scripts', '--silent', '--', '--version'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit']
    })
    let said = ''
    child.stdout.on('data', (data) => (said += data))
    const [code] = await once(child, 'close')
    t.match({ code, said }, { code: 0, said: /^\d+\.\d+\.\d+\n$/ })
  }
)

t.test('MIGRATE=check starts only on tables that are there, and says what to run', async (t) => {
  const DATABASE_URL = await (await postgresForTests()).createDatabase()
  const { code, said } = await run(t, { DATABASE_URL, MIGRATE: 'check' })
  t.equal(code, 1)
  t.match(
    said,
    /^Sagabox cannot start\.\n\d+ migrations of the schema \w+_service are pending: 202611221700-outbox-inbox, .* run `npx sagabox migrate`, or start with MIGRATE=auto/m
  )
  t.notMatch(said, /\n {4}at /, 'no stack trace')
  for (const MIGRATE of ['auto', 'check', 'off']) {
    const program = new Program(t, { DATABASE_URL, MIGRATE }, [])
    await program.listening()
    await program.ready()
    await program.stop('SIGTERM')
  }
})
