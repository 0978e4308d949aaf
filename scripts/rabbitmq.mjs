// Finds rabbitmq-server for the tests, or gets it: on Debian and Ubuntu, when root, from the
// distribution's package. Run by hand it prints the path.
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const missing =
  'The tests need RabbitMQ: install rabbitmq-server (Debian/Ubuntu: `sudo apt-get install rabbitmq-server`, ' +
  'macOS: `brew install rabbitmq`), or name its start script in RABBITMQ_SERVER, or give a running broker by ' +
  'TEST_RABBITMQ_URL and TEST_RABBITMQ_MANAGEMENT_URL.'

/** The path of rabbitmq-server, or undefined when there is none. */
export function findRabbitMQ() {
  const named = process.env.RABBITMQ_SERVER
  if (named) {
    if (!isExecutable(named))
      throw new Error(`RABBITMQ_SERVER is ${named}, which is not an executable file.`)
    return resolve(named)
  }
  // Debian's /usr/sbin/rabbitmq-server is a wrapper that becomes the user "rabbitmq" and refuses
  // everybody else; the script in /usr/lib runs as whoever starts it, so it is tried first.
  const folders = [
    '/usr/lib/rabbitmq/bin',
    ...(process.env.PATH ?? '').split(delimiter),
    '/opt/homebrew/sbin',
    '/usr/local/sbin',
    '/usr/sbin'
  ]
  return folders.map((folder) => join(folder, 'rabbitmq-server')).find(isExecutable)
}

/** The path of rabbitmq-server, installed first where that is possible. */
export function ensureRabbitMQ() {
  const found = findRabbitMQ()
  if (found) return found
  const canInstall =
    process.platform === 'linux' && process.getuid() === 0 && existsSync('/usr/bin/apt-get')
  if (!canInstall) throw new Error(missing)
  console.error('sagabox: installing rabbitmq-server with apt-get (about a minute) …')
  withoutStartingServices(() => {
    apt('update')
    apt('install', '--yes', '--no-install-recommends', 'rabbitmq-server')
  })
  // Where systemd runs, the package also enables the service for the next boot.
  if (existsSync('/run/systemd/system'))
    spawnSync('systemctl', ['disable', 'rabbitmq-server'], { stdio: 'ignore' })
  const installed = findRabbitMQ()
  if (!installed) throw new Error(missing)
  return installed
}

// A Debian package starts its service when installed, unless policy-rc.d answers 101 ("forbidden").
function withoutStartingServices(install) {
  const policy = '/usr/sbin/policy-rc.d'
  if (existsSync(policy)) return install()
  const remove = () => rmSync(policy, { force: true })
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  process.on('exit', remove)
  try {
    install()
  } finally {
    remove()
    process.off('exit', remove)
  }
}

function apt(...args) {
  const { status, error } = spawnSync('apt-get', ['--quiet', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  })
  if (error || status !== 0)
    throw new Error(`apt-get ${args[0]} failed (${error?.message ?? `exit ${status}`}). ${missing}`)
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // the question was whether it can be run: any reason means no
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(ensureRabbitMQ())
  } catch (error) {
    console.error(error.message)
    process.exit(1)
  }
}
