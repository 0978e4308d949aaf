import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CannotStart } from '../cannot-start.ts'

const run = promisify(execFile)

export interface ProcessInfo {
  /**
   * Says when the process started: with the pid it names one process for ever, as a pid alone does
   * not.
   */
  started: string
  command: string
}

/**
 * Looks a running process up.
 * @param pid its process id
 * @returns undefined when it is gone; a zombie, which only its parent's neglect keeps, is gone
 */
export async function processInfo(pid: number): Promise<ProcessInfo | undefined> {
  try {
    if (process.platform === 'linux') return await fromProc(pid)
    if (process.platform !== 'win32') return await fromPs(pid)
    process.kill(pid, 0)
    return { started: '', command: '' }
  } catch {
    return undefined
  }
}

// Slim container images have no ps.
async function fromProc(pid: number): Promise<ProcessInfo | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  // The second field is the name in brackets and may hold anything, so count from its end: state is
  // field 3, start field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ')
  return { started: `${boot} ${fields[19]}`, command }
}

async function fromPs(pid: number): Promise<ProcessInfo | undefined> {
  const env = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' }
  const { stdout } = await run(
    'ps',
    ['-ww', '-o', 'stat=', '-o', 'lstart=', '-o', 'command=', '-p', `${pid}`],
    { env }
  )
  const [, state, started, command] = /^\s*(\S+)\s+(.{24})\s+(.*)$/m.exec(stdout) ?? []
  if (!state || state.startsWith('Z')) return undefined
  return { started: started!, command: `${command} ` }
}

/** A folder is held by another process that is alive. */
export class FolderInUseError extends CannotStart {
  override readonly name = 'FolderInUseError'
  override readonly code = 'FOLDER_IN_USE_ERROR'
}

/**
 * Makes this process the only one that uses a folder, until it releases it or ends. A lock left
 * behind by a killed process is taken over, also when its pid belongs to another process by now.
 * @param folder an existing folder, writable for this process
 * @returns releases the lock
 * @throws {FolderInUseError} when a living process, this one included, holds it; the message names
 * folder and pid
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const me = await processInfo(process.pid)
  return takeLock(
    folder,
    join(folder, 'sagabox.lock'),
    JSON.stringify({ pid: process.pid, started: me?.started })
  )
}

async function takeLock(folder: string, path: string, mine: string): Promise<() => Promise<void>> {
  // Written apart and linked, so that nobody ever reads half a lock.
  const draft = `${path}.${randomUUID()}`
  await writeFile(draft, mine)
  try {
    while (!(await linked(draft, path))) {
      if ((await holderOf(folder, path)) === 'released') continue
      // Only one process may replace a dead holder's lock: two that both saw it dead would each
      // replace the other's.
      const release = await takeLock(folder, `${path}.takeover`, mine)
      try {
        if ((await holderOf(folder, path)) === 'released') continue
        await rename(draft, path)
        break
      } finally {
        await release()
      }
    }
  } finally {
    await rm(draft, { force: true })
  }
  return () => rm(path, { force: true })
}

async function linked(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  }
}

async function holderOf(folder: string, path: string): Promise<'released' | 'dead'> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    return undefined
  })
  if (text === undefined) return 'released'
  let holder: { pid: number; started: string }
  try {
    holder = JSON.parse(text)
  } catch {
    // A power failure can leave an empty file.
    return 'dead'
  }
  if ((await processInfo(holder.pid))?.started !== holder.started) return 'dead'
  throw new FolderInUseError(
    `The data folder ${folder} is in use by another Sagabox (process ${holder.pid}): stop that one first, or set DATA_DIR to another folder.`
  )
}
