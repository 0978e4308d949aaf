// What runs before npm start and npm test, on a checkout of its own with a compiler that only
// copies.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { ROOT } from '../support/program.ts'
import { until } from '../support/until.ts'

const COMPILER = `require('node:fs').cpSync('src', 'dist', { recursive: true })`
/** tap adds NODE_OPTIONS of its own. */
const PLAIN_NODE = 'unset NODE_OPTIONS; exec "$0" "$@"'
const isRoot = process.getuid?.() === 0

interface Checkout {
  folder: string
  write(file: string, text: string, changed?: Date): Promise<void>
  read(file: string): Promise<string>
  prepare(options?: {
    env?: Record<string, string>
    uid?: number
  }): Promise<{ code: number | null; said: string }>
}

async function checkout(t: Test): Promise<Checkout> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-prepare-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const read = (file: string) => readFile(join(folder, file), 'utf8')
  async function write(file: string, text: string, changed?: Date) {
    await mkdir(dirname(join(folder, file)), { recursive: true })
    await writeFile(join(folder, file), text)
    if (changed) await utimes(join(folder, file), changed, changed)
  }
  const lock = {
    name: 'x',
    lockfileVersion: 3,
    packages: {
      '': { name: 'x', dependencies: { letters: '1.0.0' } },
      'node_modules/letters': { version: '1.0.0', integrity: 'sha512-a' }
    }
  }
  for (const name of ['prepare.mjs', 'preparing-lock.mjs', 'node-version.cjs'])
    await cp(join(ROOT, 'scripts', name), join(folder, 'scripts', name))
  await write(
    'package.json',
    '{ "name": "x", "type": "module", "dependencies": { "letters": "1.0.0" } }'
  )
  await write('package-lock.json', JSON.stringify(lock))
  await write('node_modules/.package-lock.json', JSON.stringify(lock))
  await write('node_modules/letters/package.json', '{}')
  await write('node_modules/typescript/bin/tsc', COMPILER)
  await write('node_modules/typescript/package.json', '{}')
  await write('tsconfig.json', '{}')
  await write('src/main.js', 'old code')
  await write('migrations/order/1-orders.sql', 'old')
  return {
    folder,
    write,
    read,
    async prepare({ env = {}, uid } = {}) {
      const child = spawn(
        'sh',
        ['-c', PLAIN_NODE, process.execPath, 'scripts/prepare.mjs', 'build'],
        {
          cwd: folder,
          env: { ...process.env, ...env },
          uid,
          gid: uid,
          stdio: ['ignore', 'pipe', 'pipe']
        }
      )
      let said = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (said += data))
      const [code] = await once(child, 'close')
      return { code, said }
    }
  }
}

t.test('what is built is decided by content: an archive has old files', async (t) => {
  const { write, read, prepare } = await checkout(t)
  t.match(await prepare(), { code: 0, said: /^sagabox: built dist\/ in [\d.]+ s\n$/ })
  t.same(await prepare(), { code: 0, said: '' }, 'nothing to do')

  const longAgo = new Date('2001-01-01')
  await write('src/main.js', 'new code', longAgo)
  await write('migrations/order/2-more.sql', 'new', longAgo)
  t.match(await prepare(), { said: /built/ })
  t.equal(await read('dist/main.js'), 'new code')
  t.same(
    Object.keys((JSON.parse(await read('dist/build.json')) as { migrations: object }).migrations),
    ['migrations/order/1-orders.sql', 'migrations/order/2-more.sql']
  )

  for (const file of ['src/main.js', 'migrations/order/2-more.sql', 'tsconfig.json'])
    await write(file, await read(file), new Date(Date.now() + 60_000))
  t.same(await prepare(), { code: 0, said: '' }, 'touched, and the same')
  await write('migrations/order/2-more.sql', 'newer', longAgo)
  t.match(await prepare(), { said: /built/ }, 'a migration alone')
  await write('dist/build.json', '{ half')
  t.match(await prepare(), { said: /built/ }, 'a build whose end nobody wrote')
})

t.test(
  'dependencies are decided by content, too, and installed by npm whoever starts',
  async (t) => {
    const { folder, write, prepare } = await checkout(t)
    await write('package.json', '{ "name": "x", "type": "module" }')
    await write(
      'package-lock.json',
      '{ "name": "x", "lockfileVersion": 3, "packages": { "": { "name": "x" } } }'
    )
    const installed = (packages: object) =>
      write('node_modules/.package-lock.json', JSON.stringify({ packages }))
    await installed({})
    await prepare()
    t.same(await prepare(), { code: 0, said: '' })

    await installed({ 'node_modules/other': { version: '1.0.0', os: ['sunos'] } })
    const { said } = await prepare({
      env: { npm_execpath: '/usr/lib/node_modules/yarn/bin/yarn.js' }
    })
    t.match(
      said,
      /^sagabox: started by yarn; the dependencies are locked for npm, which installs them\nsagabox: installing the locked dependencies/m
    )
    t.notOk(
      await stat(join(folder, 'node_modules/typescript')).catch(() => undefined),
      'npm ci has begun anew'
    )
  }
)

t.test('a package that is gone or another is installed anew', async (t) => {
  const { folder, write, prepare } = await checkout(t)
  // Neither can be had here: that it is asked for is what counts.
  const env = {
    npm_config_registry: 'http://127.0.0.1:1/',
    npm_config_fetch_retries: '0',
    npm_config_cache: join(folder, '.npm')
  }
  await rm(join(folder, 'node_modules/letters'), { recursive: true })
  t.match(await prepare({ env }), {
    code: 1,
    said: /installing the locked dependencies.*npm ci failed \(see above\)\. It needs the registry of npm/s
  })
  await write(
    'node_modules/.package-lock.json',
    JSON.stringify({
      packages: { 'node_modules/letters': { version: '1.0.0', integrity: 'sha512-b' } }
    })
  )
  await write('node_modules/letters/package.json', '{}')
  t.match(await prepare({ env }), { code: 1, said: /installing the locked dependencies/ })
})

t.test('one at a time, and a lock of somebody who is gone holds nobody up', async (t) => {
  const { folder, write, prepare } = await checkout(t)
  const lock = (owner: object) => write('.preparing', JSON.stringify(owner))
  const space = spawnSync('readlink', ['/proc/self/ns/pid'], { encoding: 'utf8' }).stdout.trim()

  // In a container the pid of a killed start comes again, and may be one's own.
  const again = spawn(
    'sh',
    [
      '-c',
      PLAIN_NODE,
      process.execPath,
      '-e',
      `
    require('node:fs').writeFileSync('.preparing', JSON.stringify({ pid: process.pid, host: ${JSON.stringify(hostname())}, space: ${JSON.stringify(space)}, started: 'of another' }))
    process.argv[1] = ${JSON.stringify(join(folder, 'scripts/prepare.mjs'))}; process.argv[2] = 'build'
    import(process.argv[1])`
    ],
    { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] }
  )
  let said = ''
  again.stderr.on('data', (data) => (said += data))
  t.same(await once(again, 'close'), [0, null])
  t.match(said, /^sagabox: built/)

  await write('src/main.js', 'newer')
  await lock({ pid: 999_999_999, host: hostname(), space, started: 'long ago' })
  t.match(await prepare(), { code: 0, said: /^sagabox: built/ })

  // Another container's: its processes cannot be looked up, and its lock is being touched.
  await write('src/main.js', 'newest')
  await lock({ pid: 7, host: 'elsewhere', space: 'pid:[1]', started: 'then' })
  const waiting = prepare()
  let beats = 0
  const beat = setInterval(
    () =>
      void utimes(join(folder, '.preparing'), new Date(), new Date(1e12 + 1000 * beats++)).catch(
        () => {}
      ),
    20
  )
  await until('it has waited for a while', async () => beats > 50)
  clearInterval(beat)
  await rm(join(folder, '.preparing'))
  t.match(await waiting, {
    code: 0,
    said: new RegExp(
      `^sagabox: waiting for process 7 on elsewhere, which prepares this checkout … \\(if there is no such process: rm ${join(folder, '.preparing')}\\)\nsagabox: built`
    )
  })
})

t.test('a lock that nobody touches any more is nobody’s', async (t) => {
  const { folder, write } = await checkout(t)
  const { alone } = (await import(join(ROOT, 'scripts/preparing-lock.mjs'))) as {
    alone(
      root: string,
      work: () => unknown,
      say: (line: string) => void,
      silentMs: number
    ): Promise<unknown>
  }
  await write(
    '.preparing',
    JSON.stringify({ pid: 7, host: 'elsewhere', space: 'pid:[1]', started: 'then' })
  )
  await write('.preparing.takeover', '')
  const order: string[] = []
  const work = (name: string) => async () => {
    order.push(`${name} begins`)
    await new Promise((resolve) => setImmediate(resolve))
    order.push(`${name} ends`)
  }
  await Promise.all(['one', 'two', 'three'].map((name) => alone(folder, work(name), () => {}, 300)))
  for (let index = 0; index < order.length; index += 2)
    t.equal(order[index]!.replace('begins', 'ends'), order[index + 1], 'one at a time')
  t.equal(order.length, 6)
})

t.test('a checkout that cannot be written', async (t) => {
  const { folder, write, prepare } = await checkout(t)
  const uid = isRoot ? 65_534 : undefined
  await prepare()
  await chmod(folder, 0o555)
  t.teardown(() => chmod(folder, 0o755))
  t.same(
    await prepare({ uid }),
    { code: 0, said: '' },
    'is no reason to complain when there is nothing to do'
  )
  await write('src/main.js', 'newer')
  t.match(await prepare({ uid }), {
    code: 1,
    said: /^sagabox: dist\/ must be made anew, and .* cannot be written \(EACCES: .*\)\. Run `npm ci && npm run build` there as somebody who may\.\n$/
  })
})
