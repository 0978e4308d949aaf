import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  access,
  constants,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  writeFile
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { CannotStart } from '../cannot-start.ts'
import type { PostgresPrograms } from './programs.ts'

/** The database's only user. */
export const USER = 'sagabox'
const PASSWORD_FILE = 'sagabox-password'
/** A new database takes 40 MB, its next two segments of WAL 32, and a start some more. */
const NEEDED_MB = 100

/**
 * A longer path is too long for PostgreSQL, which has 1024 bytes for each of the files it names.
 */
const LONGEST_PATH = 900

/**
 * Creates the folder for everything the server keeps, when missing.
 * @returns its one true path
 * @throws {CannotStart} naming DATA_DIR when it is no folder, when this user cannot write to it, or
 * the data in it is another user's
 */
export async function openFolder(dataDir: string): Promise<string> {
  try {
    await makeFolder(dataDir)
    await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
    const folder = await realpath(dataDir)
    const bytes = Buffer.byteLength(folder)
    if (bytes > LONGEST_PATH)
      throw new Error(`its path has ${bytes} bytes, and PostgreSQL takes ${LONGEST_PATH}`)
    const { uid } = await stat(join(folder, 'postgres')).catch(() => ({ uid: undefined }))
    const me = process.getuid?.()
    if (uid !== undefined && me && uid !== me)
      throw new Error(`its data belongs to the user with uid ${uid}`)
    return folder
  } catch (cause) {
    throw new CannotStart(
      `DATA_DIR: Sagabox cannot use the data folder ${dataDir} as this user: ${(cause as Error).message}. Start it as root or as the folder's owner, or set DATA_DIR to another folder.`,
      { cause }
    )
  }
}

/**
 * One folder after the other: on a file system that makes none, such as /proc, Node's recursive
 * mkdir tries for ever.
 */
async function makeFolder(path: string): Promise<void> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    return undefined
  })
  if (found?.isDirectory()) return
  if (found) throw new Error(`${path} is not a folder`)
  await makeFolder(dirname(path))
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    // Another process was quicker.
    if (error.code !== 'EEXIST') throw error
  })
}

/**
 * Words about a file system with little room, as what fails there seldom says so itself; else
 * nothing.
 */
export async function roomIn(folder: string): Promise<string> {
  const room = await statfs(folder).catch(() => undefined)
  if (!room) return ''
  const { bavail, bsize, ffree, files } = room
  const megabytes = Math.floor((bavail * bsize) / 2 ** 20)
  if (megabytes < NEEDED_MB)
    return `. The file system of DATA_DIR (${folder}) has ${megabytes} MB left; PostgreSQL needs ${NEEDED_MB} to start.`
  return files > 0 && ffree === 0
    ? `. The file system of DATA_DIR (${folder}) has no inodes left.`
    : ''
}

/**
 * Creates the data by initdb when it is missing, under another name at first: `data` is complete or
 * absent, whenever this process is killed. The caller holds the folder's lock.
 * @returns the password of the user `USER`, which was made up for this data and is kept in it
 */
export async function prepareData(
  folder: string,
  data: string,
  programs: PostgresPrograms,
  log: { info(message: string): void }
): Promise<string> {
  for (const name of await readdir(folder)) {
    // The initdb of a killed start may still be writing to it; what remains goes at the next start.
    if (name.startsWith('postgres.new-'))
      await rm(join(folder, name), { recursive: true, force: true }).catch(() => {})
  }
  if (!(await exists(join(data, 'PG_VERSION')))) await initialise(folder, data, programs, log)
  return (await readFile(join(data, PASSWORD_FILE), 'utf8')).trim()
}

async function initialise(
  folder: string,
  data: string,
  programs: PostgresPrograms,
  log: { info(message: string): void }
): Promise<void> {
  log.info(`Creating a PostgreSQL database in ${data}`)
  const fresh = await mkdtemp(join(folder, 'postgres.new-'))
  const passwordFile = `${fresh}.password`
  try {
    await writeFile(passwordFile, randomBytes(24).toString('base64url'), { mode: 0o600 })
    await programs.give(fresh)
    await programs.give(passwordFile)
    const { file, args, options } = programs.command('initdb', [
      `--pgdata=${fresh}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      // PostgreSQL's own C.UTF-8: the same on every machine, so that no index depends on an
      // operating system's locales.
      '--encoding=UTF8',
      '--no-locale',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8'
    ])
    await promisify(execFile)(file, args, options as object)
    await rename(passwordFile, join(fresh, PASSWORD_FILE))
    await rename(fresh, data)
    await syncFolder(folder)
  } finally {
    await rm(passwordFile, { force: true })
    await rm(fresh, { recursive: true, force: true })
  }
}

/** Makes a rename survive a power failure; Windows cannot open folders. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false
  )
