// Holds both buildings to their arrows: rooms one way, no cycles, one file for each library that
// must stay replaceable. The system in src/ sees the library in packages/sagabox through its doors
// alone. Prints each violation as `file: sentence`. Own, because dependency-cruiser needs the
// compiler API that TypeScript 7 does not have.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The library's doors that its command line uses as others do. */
const DOORS = ['index.ts', 'testing.ts', 'embedded.ts']

/**
 * What the files of a room may import besides their own room: rooms, with all inside them, or
 * single files. Rooms without a slash before them hold the files directly in that folder.
 */
const BUILDINGS = {
  src: {
    rooms: {
      contracts: [],
      saga: ['contracts'],
      order: ['saga', 'contracts'],
      stock: ['contracts'],
      payment: ['contracts', 'payment/stripe/gateway.ts'],
      'payment/stripe': ['payment', 'contracts']
    },
    // They compose the process, and no room imports them.
    top: 'everything',
    doors: true
  },
  'packages/sagabox/src': {
    rooms: {
      'messaging/errors': [],
      'messaging/async': ['messaging/errors'],
      'messaging/message': ['messaging/errors', 'messaging/async'],
      // A transaction sends messages, and so names their type.
      'messaging/postgres': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'quick-ways.ts'
      ],
      'messaging/transport': ['messaging/errors', 'messaging/async', 'messaging/message'],
      'messaging/rabbitmq': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/transport',
        'quick-ways.ts'
      ],
      'messaging/outbox': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/postgres',
        'messaging/transport'
      ],
      'messaging/inbox': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/postgres',
        'messaging/transport',
        'messaging/outbox'
      ],
      'messaging/dead-letters': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/postgres',
        'messaging/transport',
        'messaging/outbox',
        'messaging/inbox'
      ],
      'messaging/request': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/transport'
      ],
      'messaging/endpoint': [
        'messaging/errors',
        'messaging/async',
        'messaging/message',
        'messaging/postgres',
        'messaging/transport',
        'messaging/outbox',
        'messaging/inbox',
        'messaging/dead-letters'
      ],
      'messaging/trace': [
        'messaging/message',
        'messaging/postgres',
        'messaging/transport',
        'messaging/dead-letters'
      ],
      saga: ['messaging/message', 'messaging/postgres', 'messaging/errors'],
      // Sugar: what a user could have written.
      'saga/steps': ['saga', 'messaging/message'],
      'saga/machine': [
        'saga',
        'messaging/message',
        'messaging/postgres',
        'messaging/errors',
        'quick-ways.ts'
      ],
      'saga/store': [
        'saga',
        'saga/machine',
        'messaging/message',
        'messaging/postgres',
        'messaging/errors'
      ],
      'saga/run': ['saga', 'saga/machine', 'saga/store', 'messaging'],
      'saga/inspect': ['saga', 'saga/machine', 'saga/store', 'saga/run', 'messaging'],
      'saga/picture': ['saga', 'saga/machine'],
      'saga/explain': [
        'saga',
        'saga/machine',
        'saga/store',
        'saga/run',
        'saga/inspect',
        'messaging'
      ],
      access: ['http', 'messaging/errors', 'messaging/async', 'cannot-start.ts'],
      http: [
        'saga',
        'saga/machine',
        'saga/store',
        'saga/run',
        'saga/inspect',
        'saga/explain',
        'saga/picture',
        'messaging'
      ],
      console: ['http', 'messaging/errors'],
      service: [
        'access',
        'console',
        'http',
        'saga',
        'saga/machine',
        'saga/store',
        'saga/run',
        'saga/inspect',
        'saga/explain',
        'saga/picture',
        'messaging',
        'cannot-start.ts',
        'quick-ways.ts',
        // Imported when a database of its own is asked for.
        'embedded/postgres.ts'
      ],
      testing: ['saga', 'saga/machine', 'saga/store', 'saga/run', 'saga/inspect', 'messaging'],
      embedded: ['cannot-start.ts', 'messaging/postgres/without-shell.ts'],
      doctor: ['service', 'saga', 'messaging'],
      // What users have: the doors, and HTTP. What looks at databases and brokers is in doctor.
      cli: [
        ...DOORS,
        'access/key-file.ts',
        'access/roles.ts',
        'doctor',
        'messaging/errors',
        'messaging/postgres/migrate.ts',
        'messaging/postgres/migrations.ts',
        'messaging/postgres/problem.ts',
        'messaging/rabbitmq/compare.ts',
        'messaging/rabbitmq/hand-over.ts',
        'service/migrations.ts'
      ]
    },
    // The doors: one a path of `exports`, imported by nobody inside.
    top: 'doors',
    doors: false
  }
}
/** Optional peers of the library, and the one file that each is for. */
const ORMS = { typeorm: 'typeorm.ts', kysely: 'kysely.ts', 'drizzle-orm': 'drizzle.ts' }
/** Files directly in the library's src that are no doors. */
const NO_DOORS = ['cannot-start.ts', 'quick-ways.ts']

const root = resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)))
const violations = Object.entries(BUILDINGS).flatMap(([folder, rules]) => check(folder, rules))
for (const violation of violations) console.log(violation)
if (violations.length > 0) process.exitCode = 1

function readSources(folder) {
  if (!existsSync(folder)) throw new Error(`${folder} does not exist, so nothing was checked.`)
  const files = readdirSync(folder, { recursive: true })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts'))
  if (files.length === 0)
    throw new Error(`${folder} holds no TypeScript file, so nothing was checked.`)
  return new Map(
    files.map((file) => {
      const code = withoutComments(readFileSync(join(folder, file), 'utf8'))
      return [file, { code, imports: importsOf(code) }]
    })
  )
}

function withoutComments(code) {
  return code.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

function importsOf(code) {
  const statement = /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm
  const sideEffect = /^\s*import\s*['"]([^'"]+)['"]/gm
  const call = /\b(?:import|require)\(\s*['"]([^'"]+)['"]/g
  return [statement, sideEffect, call].flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => match[1])
  )
}

function check(folder, { rooms, top, doors }) {
  const sources = readSources(join(root, folder))
  const isLibrary = top === 'doors'
  const open = doors ? doorsOf('packages/sagabox') : new Set()
  const found = []
  const report = (file, sentence) => found.push(`${folder}/${file}: ${sentence}`)
  const graph = new Map()
  const rascalFiles = []

  for (const [file, { code, imports }] of sources) {
    const room = posix.dirname(file)
    const targets = []
    graph.set(file, targets)
    if (posix.basename(file) === 'index.ts' && !(isLibrary && room === '.'))
      report(file, 'is a barrel; import the file that defines the thing.')
    if (room !== '.' && !rooms[room])
      report(file, `is in the folder ${room}, which has no rule in scripts/check-imports.mjs.`)
    if (isLibrary && /\bprocess\s*\.\s*env\b|\bprocess\s*\[\s*['"]env/.test(code)) {
      if (!/^(embedded|cli)\//.test(file))
        report(file, 'reads process.env; settings are given to the library by its callers.')
    }
    for (const specifier of imports) {
      if (!specifier.startsWith('.')) {
        const name = packageOf(specifier)
        if (name === 'rascal') rascalFiles.push(file)
        if (name === 'amqplib' && room !== 'messaging/rabbitmq')
          report(file, 'imports amqplib; only messaging/rabbitmq knows AMQP.')
        const door = ORMS[name]
        if (door && isLibrary && file !== door)
          report(file, `imports ${name}; only the door ${door} may, which needs it.`)
        if (name === 'config' && file !== 'config.ts')
          report(file, 'imports the config package; only src/config.ts reads settings.')
        if (name === 'sagabox' && isLibrary)
          report(
            file,
            `imports ${specifier}; inside the library the file that defines the thing is imported.`
          )
        if (name === 'sagabox' && doors && !open.has(specifier))
          report(
            file,
            `imports ${specifier}, which is no door of the library; expected one of ${[...open].join(', ')}.`
          )
        continue
      }
      const target = targetOf(file, specifier, sources)
      if (target.startsWith('../'))
        report(file, `imports ${specifier}, which is outside ${folder}.`)
      else if (!sources.has(target)) report(file, `imports ${specifier}, which does not exist.`)
      else {
        targets.push(target)
        if (!isAllowed(file, target, rooms, isLibrary))
          report(file, `must not import ${folder}/${target}.`)
      }
    }
  }
  const rascal = [...new Set(rascalFiles)]
  if (rascal.length > 1) {
    for (const file of rascal)
      report(file, `imports rascal; only one file may, and these do: ${rascal.join(', ')}.`)
  }
  for (const cycle of cyclesIn(graph))
    report(cycle[0], `is in an import cycle: ${cycle.join(' -> ')}.`)
  return found
}

/** `sagabox`, `sagabox/engine`, … as the package's exports name them. */
function doorsOf(folder) {
  const { name, exports } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
  return new Set(
    Object.keys(exports)
      .filter((path) => !path.endsWith('.json'))
      .map((path) => posix.join(name, path))
  )
}

function packageOf(specifier) {
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]
}

function targetOf(file, specifier, sources) {
  const path = posix.normalize(posix.join(posix.dirname(file), specifier))
  const source = path.replace(/\.js$/, '.ts')
  return sources.has(source) ? source : path
}

function isAllowed(file, target, rooms, isLibrary) {
  const [from, to] = [posix.dirname(file), posix.dirname(target)]
  if (target === 'main.ts') return false
  if (to === '.' && isLibrary && !NO_DOORS.includes(target) && from !== 'cli') return false
  if (from === '.' || from === to) return true
  return (rooms[from] ?? []).some(
    (allowed) =>
      allowed === to ||
      allowed === target ||
      (allowed === 'messaging' && to.startsWith('messaging/'))
  )
}

function cyclesIn(graph) {
  const cycles = []
  const done = new Set()
  const path = []
  function visit(file) {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file])
      return
    }
    if (done.has(file)) return
    path.push(file)
    for (const target of new Set(graph.get(file))) visit(target)
    path.pop()
    done.add(file)
  }
  for (const file of graph.keys()) visit(file)
  return cycles
}
