// Holds src/ to the import rules of the design: layers one way, no cycles, one file for each library
// that must stay replaceable. Prints each violation as `file: sentence`.
// Own, because dependency-cruiser needs the compiler API that TypeScript 7 does not have.
import { readdirSync, readFileSync } from 'node:fs'
import { posix, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

// What the files of a folder may import besides their own folder. The files directly in src/ compose
// the process: they may import everything (but nobody imports main.ts), and no folder imports them.
const layers = {
  messaging: [],
  http: ['messaging'],
  contracts: ['messaging/message.ts'],
  saga: ['messaging', 'http'],
  testing: ['saga', 'messaging'],
  order: ['saga', 'messaging', 'http', 'contracts'],
  stock: ['saga', 'messaging', 'http', 'contracts'],
  payment: ['saga', 'messaging', 'http', 'contracts'],
}

const root = resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)))
const violations = check(readSources(resolve(root, 'src')))
for (const violation of violations) console.log(violation)
if (violations.length > 0) process.exitCode = 1

function readSources(folder) {
  const files = readdirSync(folder, { recursive: true })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts'))
  if (files.length === 0) throw new Error(`${folder} holds no TypeScript file, so nothing was checked.`)
  return new Map(files.map((file) => {
    const code = withoutComments(readFileSync(resolve(folder, file), 'utf8'))
    return [file, { code, imports: importsOf(code) }]
  }))
}

function withoutComments(code) {
  return code.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

function importsOf(code) {
  const statement = /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm
  const sideEffect = /^\s*import\s*['"]([^'"]+)['"]/gm
  const call = /\b(?:import|require)\(\s*['"]([^'"]+)['"]/g
  return [statement, sideEffect, call].flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]))
}

function check(sources) {
  const found = []
  const report = (file, sentence) => found.push(`src/${file}: ${sentence}`)
  const graph = new Map()
  const rascalFiles = []

  for (const [file, { code, imports }] of sources) {
    const layer = layerOf(file)
    const targets = []
    graph.set(file, targets)
    if (posix.basename(file) === 'index.ts') report(file, 'is a barrel; import the file that defines the thing.')
    if (layer && !layers[layer]) report(file, `is in the folder ${layer}, which has no rule in scripts/check-imports.mjs.`)
    if ((layer === 'messaging' || layer === 'saga') && /\bprocess\s*\.\s*env\b|\bprocess\s*\[\s*['"]env/.test(code)) {
      report(file, 'reads process.env; settings are given to messaging and saga by their callers.')
    }
    for (const specifier of imports) {
      if (!specifier.startsWith('.')) {
        const name = packageOf(specifier)
        if (name === 'rascal') rascalFiles.push(file)
        if (name === 'amqplib' && layer !== 'messaging') report(file, 'imports amqplib; only src/messaging knows AMQP.')
        if (name === 'config' && file !== 'config.ts') report(file, 'imports the config package; only src/config.ts reads settings.')
        continue
      }
      const target = targetOf(file, specifier, sources)
      if (target.startsWith('../')) report(file, `imports ${specifier}, which is outside src.`)
      else if (!sources.has(target)) report(file, `imports ${specifier}, which does not exist.`)
      else {
        targets.push(target)
        if (!isAllowed(file, target)) report(file, `must not import src/${target}.`)
      }
    }
  }
  const rascal = [...new Set(rascalFiles)]
  if (rascal.length > 1) {
    for (const file of rascal) report(file, `imports rascal; only one file may, and these do: ${rascal.join(', ')}.`)
  }
  for (const cycle of cyclesIn(graph)) report(cycle[0], `is in an import cycle: ${cycle.join(' -> ')}.`)
  return found
}

function layerOf(file) {
  return file.includes('/') ? file.split('/')[0] : undefined
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

function isAllowed(file, target) {
  if (target === 'main.ts') return false
  const from = layerOf(file)
  const to = layerOf(target)
  if (from === undefined || from === to) return true
  return (layers[from] ?? []).some((allowed) => allowed === to || allowed === target)
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
