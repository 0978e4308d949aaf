// Finds Chromium for the tests of the console, or gets it: on Debian, when root, from the
// distribution's package.
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const missing =
  'The tests of the console need Chromium: install it (Debian: `sudo apt-get install chromium`), or name its ' +
  'program in CHROMIUM.'
const NAMES = ['chromium', 'chromium-browser', 'google-chrome']

/** The path of Chromium, installed first where that is possible. */
export function ensureChromium() {
  const found = findChromium()
  if (found) return found
  if (process.platform !== 'linux' || process.getuid() !== 0 || !existsSync('/usr/bin/apt-get'))
    throw new Error(missing)
  console.error('sagabox: installing chromium with apt-get (about a minute) …')
  for (const args of [['update'], ['install', '--yes', '--no-install-recommends', 'chromium']])
    spawnSync('apt-get', ['--quiet', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    })
  const installed = findChromium()
  if (!installed) throw new Error(missing)
  return installed
}

function findChromium() {
  const named = process.env.CHROMIUM
  if (named) {
    if (isExecutable(named)) return named
    throw new Error(`CHROMIUM is ${named}, which is not an executable file.`)
  }
  return (process.env.PATH ?? '')
    .split(delimiter)
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .find(isExecutable)
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
