import { spawn, type ChildProcess } from 'node:child_process'
import { on, once } from 'node:events'
import { watch } from 'node:fs'
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile
} from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import t, { type Test } from 'tap'
import { FolderInUseError, lockFolder, processInfo } from '../../src/embedded/lock.ts'
import { limitLog, startEmbeddedPostgres, type ServerLog } from '../../src/embedded/postgres.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { TYPESCRIPT } from '../../../../test/support/program.ts'
import { until } from '../../../../test/support/until.ts'

const quiet: ServerLog = { info() {}, error() {} }
const root = process.getuid?.() === 0
// Side by side: most of a test's time is waiting for an initdb.
t.jobs = 4

async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-test-'))
  await chmod(folder, 0o711)
  // An orphaned initdb may still be writing.
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

async function start(t: Test, dataDir: string, log = quiet) {
  const server = await startEmbeddedPostgres({ dataDir, log })
  t.teardown(() => server.stop())
  return server
}

async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end().catch(() => {}))
  return client
}

async function one(t: Test, url: string, statement: string): Promise<unknown> {
  const client = await connect(t, url)
  const { rows } = await client.query({ text: statement, rowMode: 'array' })
  await client.end()
  return rows[0]?.[0]
}

/**
 * A node process of its own group, as a shell starts one, that starts a server, prints its url and
 * runs `then`.
 */
function sagabox(
  t: Test,
  dataDir: string,
  then = 'process.stdin.resume()',
  env: Record<string, string> = {}
) {
  const program = `
    import { startEmbeddedPostgres } from ${JSON.stringify(new URL('../../src/embedded/postgres.ts', import.meta.url).href)}
    import pg from 'pg'
    const log = { info() {}, error: console.error }
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, log })
    console.log(server.url)
    ${then}`
  const child = spawn(process.execPath, [TYPESCRIPT, '--input-type=module', '-e', program], {
    detached: true,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'inherit']
  })
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) await kill(child)
    const orphan = await postmaster(dataDir).catch(() => undefined)
    if (orphan) process.kill(orphan, 'SIGQUIT')
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return { child, line: async () => (await lines.next()).value as string }
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
}

const postmaster = async (dataDir: string) =>
  Number.parseInt(await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8'), 10)

t.test('the server is not told the secrets of whoever starts it', async (t) => {
  const secrets = {
    STRIPE_SECRET_KEY: 'sk_live_1',
    RABBITMQ_URL: 'amqp://a:secret@b/',
    PGHOST: 'x'
  }
  Object.assign(process.env, secrets)
  t.teardown(() => Object.keys(secrets).forEach((name) => delete process.env[name]))
  const dataDir = await temporaryFolder(t)
  await start(t, dataDir)
  const environ = await readFile(`/proc/${await postmaster(dataDir)}/environ`, 'utf8')
  const names = environ.split('\0').map((line) => line.split('=', 1)[0])
  t.ok(names.includes('PATH'))
  t.same(
    Object.keys(secrets).filter((name) => names.includes(name)),
    []
  )
})

t.test('data stays from one start to the next', async (t) => {
  const dataDir = join(await temporaryFolder(t), 'a folder', 'to be created')
  const first = await start(t, dataDir)
  t.match(first.url, /^postgres:\/\/sagabox:[\w-]{32}@127\.0\.0\.1:\d+\/sagabox$/)
  await one(t, first.url, 'create table kept as select 42 as answer')
  await Promise.all([first.stop(), first.stop()])
  await first.stop()
  t.notOk((await readdir(dataDir)).includes('sagabox.lock'))

  const second = await start(t, dataDir)
  t.equal(await one(t, second.url, 'select answer from kept'), 42)
  for (const [setting, value] of Object.entries({
    server_encoding: 'UTF8',
    fsync: 'on',
    synchronous_commit: 'on',
    unix_socket_directories: '',
    listen_addresses: '127.0.0.1'
  })) {
    t.equal(await one(t, second.url, `show ${setting}`), value, setting)
  }
  t.equal(
    await one(
      t,
      second.url,
      'select datlocale from pg_database where datname = current_database()'
    ),
    'C.UTF-8'
  )
  t.equal((await stat(join(dataDir, 'postgres/sagabox-password'))).mode & 0o777, 0o600)
  await t.rejects(
    one(t, second.url.replace(/:[\w-]{32}@/, ':wrong@'), 'select 1'),
    /password authentication failed/
  )
})

t.test('kill -9 leaves a server behind; the next start ends it and has its data', async (t) => {
  const dataDir = await temporaryFolder(t)
  const { child, line } = sagabox(t, dataDir)
  const url = await line()
  await one(t, url, 'create table kept as select 42 as answer')
  const client = await connect(t, url)
  await client.query('begin')
  await client.query('insert into kept values (43)')
  await kill(child)
  t.equal(await one(t, url, 'select count(*)::int from kept'), 1, 'the server is still there')

  const said: string[] = []
  const pid = await postmaster(dataDir)
  const server = await start(t, dataDir, { ...quiet, info: (message) => void said.push(message) })
  t.match(said, [new RegExp(`process ${pid}.* left behind`)])
  t.equal(await processInfo(pid), undefined)
  t.equal(
    await one(t, server.url, "select string_agg(answer::text, ',') from kept"),
    '42',
    'what was committed, and no more'
  )
})

t.test('a folder is for one Sagabox at a time', async (t) => {
  const dataDir = await temporaryFolder(t)
  const { child, line } = sagabox(t, dataDir)
  const url = await line()
  const refused = await startEmbeddedPostgres({ dataDir, log: quiet }).catch(
    (error: unknown) => error
  )
  t.type(refused, FolderInUseError)
  t.match(refused, {
    message: `data folder ${dataDir} is in use by another Sagabox (process ${child.pid})`
  })
  t.equal(await one(t, url, 'select 1'), 1, 'the first is not disturbed')
  await kill(child)
  await start(t, dataDir)
  await t.rejects(
    startEmbeddedPostgres({ dataDir, log: quiet }),
    { message: `process ${process.pid}` },
    'also in one process'
  )
})

t.test('a lock is taken over when its process is gone, by one only', async (t) => {
  const folder = await temporaryFolder(t)
  const lock = join(folder, 'sagabox.lock')
  for (const [what, left] of Object.entries({
    'a pid that another process has now': JSON.stringify({ pid: process.pid, started: 'long ago' }),
    'a pid that nobody has': JSON.stringify({ pid: 2 ** 30, started: 'long ago' }),
    'an empty file, as a power failure leaves': ''
  })) {
    await writeFile(lock, left)
    await writeFile(`${lock}.takeover`, left)
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder)))
    const taken = results.filter((result) => result.status === 'fulfilled')
    t.equal(taken.length, 1, what)
    await taken[0]?.value()
    t.strictSame(await readdir(folder), [])
  }
})

t.test('an interrupted initdb does not block the next start', async (t) => {
  const dataDir = await temporaryFolder(t)
  const watcher = watch(dataDir)
  const { child } = sagabox(t, dataDir)
  for await (const [, name] of on(watcher, 'change')) {
    if (name.startsWith('postgres.new-')) break
  }
  watcher.close()
  await kill(child)
  t.match(await readdir(dataDir), [/./])
  t.notOk((await readdir(dataDir)).includes('postgres'))
  const server = await start(t, dataDir)
  t.equal(await one(t, server.url, 'select 1'), 1)
})

t.test('Ctrl-C leaves the server to us', async (t) => {
  const { child, line } = sagabox(
    t,
    await temporaryFolder(t),
    `
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    process.once('SIGINT', async () => {
      const { rows } = await client.query("select pg_sleep(0.2), 'finished' as work")
      console.log(rows[0].work)
      await client.end()
      await server.stop()
      console.log('stopped')
    })
    console.log('ready')
    process.stdin.resume().unref()
    setInterval(() => {}, 1e6).unref()`
  )
  await line()
  t.equal(await line(), 'ready')
  process.kill(-child.pid!, 'SIGINT')
  t.equal(await line(), 'finished')
  t.equal(await line(), 'stopped')
})

t.test('the server ends with a process that exits without stopping it', async (t) => {
  const { child, line } = sagabox(
    t,
    await temporaryFolder(t),
    'process.stdin.once("data", () => process.exit())'
  )
  const client = await connect(t, await line())
  const ended = new Promise((resolve) => client.once('end', resolve))
  child.stdin.write('\n')
  await ended
})

t.test(
  'a server that ends by itself is reported with its last words, and can be started again',
  async (t) => {
    const dataDir = await temporaryFolder(t)
    let reported: (message: string) => void
    const report = new Promise<string>((resolve) => (reported = resolve))
    const server = await start(t, dataDir, { ...quiet, error: (message) => reported(message) })
    // A server does not keep its process alive, so something else has to while we wait.
    const work = setInterval(() => {}, 60_000)
    process.kill(await postmaster(dataDir), 'SIGKILL')
    t.match(await report, /ended by itself \(SIGKILL\).*\n.*database system is ready/s)
    clearInterval(work)
    await server.stop()

    // Its pid is another process's by now, which is none of our business.
    const other = spawn(process.execPath, ['-e', 'process.stdin.resume()'], {
      stdio: ['pipe', 'ignore', 'ignore']
    })
    t.teardown(() => other.kill())
    const pidFile = join(dataDir, 'postgres/postmaster.pid')
    await writeFile(pidFile, (await readFile(pidFile, 'utf8')).replace(/^\d+/, `${other.pid}`))
    const again = await start(t, dataDir)
    t.equal(await one(t, again.url, 'select 1'), 1)
    t.equal(other.exitCode ?? other.signalCode, null)
  }
)

t.test('a server that cannot start is reported at once, with its last words', async (t) => {
  const dataDir = await temporaryFolder(t)
  await (await start(t, dataDir)).stop()
  const control = join(dataDir, 'postgres/global/pg_control')
  await rename(control, `${control}.away`)
  await t.rejects(
    startEmbeddedPostgres({ dataDir, log: quiet }),
    /did not start: it ended at once\n.*could not (find|open)/s
  )
  await rename(`${control}.away`, control)
  await start(t, dataDir)
})

t.test('a log that has grown large is begun anew, and the server goes on with it', async (t) => {
  const dataDir = await temporaryFolder(t)
  const { url } = await start(t, dataDir)
  const log = join(dataDir, 'postgres.log')
  const complain = (word: string) => one(t, url, `select ${word}`).catch(() => {})
  const holds = (file: string, word: string) =>
    until(`${word} is in ${file}`, async () =>
      (await readFile(file, 'utf8').catch(() => '')).includes(word)
    )
  await complain('large')
  await holds(log, 'large')
  await limitLog(log, 2 ** 20)
  await holds(log, 'large')
  await limitLog(log, 10)
  await holds(`${log}.1`, 'large')
  await complain('small')
  await holds(log, 'small')
  const text = await readFile(log, 'utf8')
  t.notMatch(text, /large|\0/, 'cut, and written from its start')
})

t.test('the server and its first client do not listen to the shell', async (t) => {
  const shell = {
    PGOPTIONS: '-c default_transaction_read_only=on',
    PGDATA: '/nowhere',
    PGPORT: '1',
    PGTZ: 'Mars/Olympus',
    PGSSLMODE: 'verify-full',
    LC_ALL: 'xx_YY.UTF-8',
    LANG: 'xx_YY',
    TZ: 'Mars/Olympus'
  }
  const { line } = sagabox(
    t,
    await temporaryFolder(t),
    'await server.stop(); process.exit()',
    shell
  )
  t.match(await line(), /^postgres:/)
})

t.test('another port is tried when one is taken', async (t) => {
  const taken = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const spare = createServer().listen(0, '127.0.0.1')
  await once(spare, 'listening')
  const free = (spare.address() as AddressInfo).port
  await new Promise((resolve) => spare.close(resolve))

  const ports = [port, port, free]
  const server = await startEmbeddedPostgres({
    dataDir: await temporaryFolder(t),
    log: quiet,
    choosePort: async () => ports.shift()!
  })
  t.teardown(() => server.stop())
  t.equal(Number(new URL(server.url).port), free)
})

const asRoot = async (t: Test) => {
  const closed = join(await temporaryFolder(t), 'closed')
  await mkdir(closed, { mode: 0o700 })
  const server = await start(t, join(closed, 'data'))
  t.equal(await one(t, server.url, 'select 1'), 1)
}

const asOthers = async (t: Test) => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o500)
  const dataDir = join(folder, 'data')
  await t.rejects(startEmbeddedPostgres({ dataDir, log: quiet }), {
    message: `cannot use the data folder ${dataDir}`
  })
}

// Which of the two can be shown depends on who runs the tests.
if (root) t.test('root: a folder that only root can reach will do', asRoot)
else t.test('others: a folder that cannot be written to is named', asOthers)

t.test('databases for tests are empty and apart', async (t) => {
  const { createDatabase } = await postgresForTests()
  const [first, second] = await Promise.all([createDatabase('Orders & more'), createDatabase()])
  await one(t, first, 'create table mine ()')
  await one(t, second, 'create table mine ()')
  t.match(first, /\/orders_more_\w{12}$/)
})
