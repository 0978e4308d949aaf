// Licences of what is installed, by a list of those that may be; then advisories, by npm audit.
// 0: nothing found; 1: something was; what could not be asked is said, and no reason to fail.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Those that ask for no more than to be named. */
export const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC-BY-3.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'Python-2.0',
  'Unlicense'
])

/** Those that also ask for changes of their own files: of tools that nobody is given. */
const OF_TOOLS = new Set(['MPL-2.0'])

/** What those that state none say in a file beside. */
const READ = { 'node_modules/jsonc-simple-parser': 'MIT' }

/** Whether an SPDX expression can be met by what is allowed. */
export function isAllowed(expression) {
  const text = String(expression ?? '').replace(/^\((.*)\)$/, '$1')
  if (text === '' || /[()]/.test(text)) return false
  return text
    .split(' OR ')
    .some((choice) => choice.split(' AND ').every((name) => ALLOWED.has(name.trim())))
}

/** Packages of a lock file whose licence is none of those; `[path, licence]`. */
export function refused(packages, licenceOf) {
  return Object.entries(packages)
    .filter(([path, { link }]) => path.includes('node_modules/') && !link)
    .map(([path, entry]) => [path, licenceOf(path) ?? entry.license, entry.dev === true])
    .filter(([, licence, isTool]) => !isAllowed(licence) && !(isTool && OF_TOOLS.has(licence)))
    .map(([path, licence]) => [path, licence])
}

/** What npm audit says: `{ found }`, or `{ unasked }` with why it could not be asked. */
export function auditOf(output) {
  try {
    const { metadata, message, error } = JSON.parse(output)
    if (metadata) return { found: metadata.vulnerabilities }
    return { unasked: message ?? error?.summary ?? 'it gave no answer' }
  } catch {
    return { unasked: 'it gave no answer' }
  }
}

function main() {
  const root = fileURLToPath(new URL('..', import.meta.url))
  const { packages } = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8'))
  const licenceOf = (path) => {
    const file = `${root}${path}/package.json`
    if (!existsSync(file)) return undefined
    // Old packages have a list of them.
    const { license, licenses } = JSON.parse(readFileSync(file, 'utf8'))
    return license ?? licenses?.[0]?.type ?? READ[path]
  }
  const bad = refused(packages, licenceOf)
  for (const [path, licence] of bad) console.log(`${path}: licence ${licence ?? 'not stated'}`)
  console.log(`Licences: ${Object.keys(packages).length} packages, ${bad.length} not allowed`)
  const { stdout } = spawnSync('npm', ['audit', '--json'], { cwd: root, encoding: 'utf8' })
  const { found, unasked } = auditOf(stdout)
  if (unasked) console.log(`Advisories: not checked, npm audit could not ask: ${unasked}`)
  else
    console.log(
      `Advisories: ${found.total} (${found.critical} critical, ${found.high} high, ${found.moderate} moderate, ${found.low} low)`
    )
  process.exitCode = bad.length > 0 || (found?.total ?? 0) > 0 ? 1 : 0
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
