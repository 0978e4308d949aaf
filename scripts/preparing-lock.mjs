// One process at a time prepares a checkout. The lock is a file in the checkout itself, so that
// only those who may write there can hold it, and containers that share the checkout share the
// lock.
import { readFileSync, readlinkSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const BEAT_MS = 2000
/**
 * Where an owner's process cannot be looked up, a lock that nobody has touched for so long is
 * nobody's.
 */
const SILENT_MS = 15_000

/**
 * Runs the work while no other process does the same for this folder.
 * @param say told once whom it waits for, and how to free the lock
 */
export async function alone(root, work, say, silentMs = SILENT_MS) {
  const lock = join(root, '.preparing')
  await take(lock, silentMs, (owner) =>
    say(
      `waiting for ${owner ? `process ${owner.pid} on ${owner.host}` : 'another process'}, which prepares this checkout … ` +
        `(if there is no such process: rm ${lock})`
    )
  )
  const release = () => rmSync(lock, { force: true })
  process.on('exit', release)
  const beat = setInterval(() => touch(lock), BEAT_MS)
  try {
    return await work()
  } finally {
    clearInterval(beat)
    process.off('exit', release)
    release()
  }
}

async function take(lock, silentMs, waiting) {
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    space: pidSpace(),
    started: startOf(process.pid)
  })
  const isAbandoned = watcher(silentMs)
  for (let told = false; !create(lock, mine); await sleep(100)) {
    const found = read(lock)
    if (found === undefined) continue
    if (isAbandoned(lock, found)) {
      replace(lock, found, isAbandoned)
    } else if (!told) {
      told = true
      waiting(ownerIn(found))
    }
  }
}

/**
 * Removes a dead owner's lock. Two that both saw it dead would each remove the other's: one at a
 * time, and it looks again.
 */
function replace(lock, dead, isAbandoned) {
  const guard = `${lock}.takeover`
  if (!create(guard, '')) {
    const found = read(guard)
    if (found !== undefined && isAbandoned(guard, found)) rmSync(guard, { force: true })
    return
  }
  try {
    if (read(lock) === dead) rmSync(lock, { force: true })
  } finally {
    rmSync(guard, { force: true })
  }
}

/** Remembers since when each lock has looked the same, by this process's own clock. */
function watcher(silentMs) {
  const seen = new Map()
  return (path, text) => {
    const owner = ownerIn(text)
    if (owner && owner.host === hostname() && owner.space === pidSpace())
      return startOf(owner.pid) !== owner.started
    const mark = `${text} ${changedAt(path)}`
    const last = seen.get(path)
    if (last === undefined || last.mark !== mark) seen.set(path, { mark, since: performance.now() })
    return performance.now() - seen.get(path).since > silentMs
  }
}

/** Which processes a pid of ours is counted among: a container has its own. */
function pidSpace() {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return '' // not Linux
  }
}

/** When a process started, which with its pid names it for ever; undefined when there is none. */
function startOf(pid) {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      // The name in brackets may hold anything: from its end, state is field 3 and start field 22.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (fields[0] === 'Z' || fields[0] === 'X') return undefined
      return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${fields[19]}`
    } catch {
      return undefined
    }
  }
  if (process.platform !== 'win32') {
    const { stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }
    })
    return stdout?.trim() || undefined
  }
  try {
    process.kill(pid, 0)
    return 'running'
  } catch (error) {
    return error.code === 'EPERM' ? 'running' : undefined
  }
}

function ownerIn(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // it is being written, or power failed
  }
}

function create(path, text) {
  try {
    writeFileSync(path, text, { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    return false
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code !== 'ENOENT') throw error // ENOENT: released just now
    return undefined
  }
}

function changedAt(path) {
  try {
    return statSync(path).mtimeMs
  } catch {
    return undefined // released just now
  }
}

function touch(path) {
  try {
    utimesSync(path, new Date(), new Date())
  } catch {
    // somebody freed it by hand
  }
}
