// Lines of `name role sha256 [expires]`: what is written down of a key opens nothing.
import { createHash, randomBytes } from 'node:crypto'
import { chmod, chown, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'
import type { Roles } from './roles.ts'

/** Which roles a file may name. */
export type KnownRoles = Pick<Roles, 'mustKnow'>

/** For who looks after a file, and not after what its roles may do. */
export const ANY_ROLE: KnownRoles = { mustKnow() {} }

export interface StoredKey {
  readonly name: string
  readonly role: string
  readonly sha256: Buffer
  /** It opens nothing from then on. */
  readonly expires?: Date
}

/** A file of keys that cannot be used; the message names file and line, never what a line holds. */
export class InvalidKeyFile extends SagaboxError {
  override readonly name = 'InvalidKeyFile'
  override readonly code = 'INVALID_KEY_FILE'
}

/** Bytes: some 10,000 keys. */
const MAX_FILE_BYTES = 1024 * 1024
const PREFIX = 'sgb_'
const KEY_BYTES = 32
const KEY = /^sgb_[A-Za-z0-9_-]{43}$/
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/

/** A new key, and its digest for the file. */
export function newKey(): { key: string; sha256: Buffer } {
  const key = PREFIX + randomBytes(KEY_BYTES).toString('base64url')
  return { key, sha256: digestOf(key) }
}

/** Whether a key may be called so. */
export function isKeyName(text: string): boolean {
  return NAME.test(text)
}

/** Whether a text has the form of a key. */
export function isKey(text: string): boolean {
  return KEY.test(text)
}

export function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

/**
 * Reads a file of keys.
 * @throws InvalidKeyFile naming file and line when it is not there, open to others, not whole, or
 * has a line that is none
 */
export async function readKeyFile(path: string, roles: KnownRoles): Promise<StoredKey[]> {
  const refuse = (what: string): never => {
    throw new InvalidKeyFile(`${path}: ${what}`)
  }
  let text: string
  try {
    const { mode, size } = await stat(path)
    if ((mode & 0o007) !== 0)
      refuse(
        `everybody on this machine may read or write it (mode ${(mode & 0o777).toString(8)}); expected chmod o= ${path}`
      )
    if (size > MAX_FILE_BYTES) refuse(`it has ${size} bytes; expected at most ${MAX_FILE_BYTES}`)
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof InvalidKeyFile) throw error
    return refuse(
      `it cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}); make one with: sagabox keys create --file ${path} --name me --role admin`
    )
  }
  if (text !== '' && !text.endsWith('\n'))
    refuse('its last line has no end, as if it were still being written; expected a line break')
  const keys = text.split('\n').flatMap((line, index) => {
    const content = line.trim()
    if (content === '' || content.startsWith('#')) return []
    try {
      return [parseLine(content, roles)]
    } catch (error) {
      return refuse(`line ${index + 1}: ${(error as Error).message}`)
    }
  })
  const names = keys.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) refuse(`two keys are named ${twice}; expected one line a name`)
  return keys
}

/** @throws Error saying what was expected; what the line holds is not repeated */
function parseLine(line: string, roles: KnownRoles): StoredKey {
  const [name = '', role = '', sha256 = '', expires, ...rest] = line.split(/\s+/)
  if (KEY.test(line) || [name, role, sha256].some((part) => KEY.test(part)))
    throw new Error('it holds a key itself; expected its SHA-256, as sagabox keys create writes it')
  if (!NAME.test(name)) throw new Error('expected a name of letters, digits and ._@-, at most 64')
  roles.mustKnow(role)
  if (!/^[0-9a-f]{64}$/i.test(sha256))
    throw new Error('expected the SHA-256 of a key, 64 hex digits')
  if (rest.length > 0) throw new Error('expected name, role, SHA-256 and perhaps an end, no more')
  if (expires === undefined) return { name, role, sha256: Buffer.from(sha256, 'hex') }
  const end = new Date(expires)
  if (!/^\d{4}-\d{2}-\d{2}/.test(expires) || Number.isNaN(end.getTime()))
    throw new Error('expected the time at which it ends as 2027-01-31 or 2027-01-31T12:00:00Z')
  return { name, role, sha256: Buffer.from(sha256, 'hex'), expires: end }
}

/**
 * Adds a line. Whoever reads meanwhile sees the old file or the new one.
 * @throws InvalidKeyFile when the file is there and cannot be used, the name is taken, or somebody
 * else changes it at this moment
 */
export function addKey(path: string, roles: KnownRoles, added: StoredKey): Promise<void> {
  return alone(path, () => add(path, roles, added))
}

async function add(path: string, roles: KnownRoles, added: StoredKey): Promise<void> {
  const text = await textOf(path, roles)
  const keys = text === '' ? [] : await readKeyFile(path, roles)
  if (!NAME.test(added.name))
    throw new InvalidKeyFile('expected a name of letters, digits and ._@-, at most 64')
  if (keys.some(({ name }) => name === added.name))
    throw new InvalidKeyFile(
      `${path}: a key is named ${added.name} already; revoke it first, or take another name`
    )
  roles.mustKnow(added.role)
  const end = added.expires === undefined ? '' : ` ${added.expires.toISOString()}`
  await replace(path, `${text}${added.name} ${added.role} ${added.sha256.toString('hex')}${end}\n`)
}

/**
 * Takes a key's line out.
 * @throws InvalidKeyFile when there is none of that name, or somebody else changes the file at this
 * moment
 */
export function removeKey(path: string, roles: KnownRoles, name: string): Promise<void> {
  return alone(path, () => remove(path, roles, name))
}

async function remove(path: string, roles: KnownRoles, name: string): Promise<void> {
  await readKeyFile(path, roles)
  const text = await readFile(path, 'utf8')
  const lines = text.split('\n')
  const kept = lines.filter((line) => line.trim().split(/\s+/)[0] !== name)
  if (kept.length === lines.length)
    throw new InvalidKeyFile(`${path}: no key is named ${name}; sagabox keys list shows them`)
  await replace(path, kept.join('\n'))
}

/** Two that read, change and write at once would lose one of the changes: a revocation perhaps. */
async function alone(path: string, change: () => Promise<void>): Promise<void> {
  const lock = `${path}.lock`
  try {
    await (await open(lock, 'wx', 0o600)).close()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new InvalidKeyFile(
      code === 'EEXIST'
        ? `${path}: somebody else is changing it; if nobody is, delete ${lock}`
        : `${path}: it cannot be written beside (${code}); expected a folder that is there and may be written to`
    )
  }
  try {
    await change()
  } finally {
    await rm(lock, { force: true })
  }
}

async function textOf(path: string, roles: KnownRoles): Promise<string> {
  try {
    await stat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
  await readKeyFile(path, roles)
  return readFile(path, 'utf8')
}

async function replace(path: string, text: string): Promise<void> {
  const next = `${path}.${process.pid}.new`
  try {
    await writeFile(next, text, { mode: 0o600, flag: 'wx' })
    const before = await stat(path).catch(() => undefined)
    await chmod(next, before ? before.mode & 0o770 : 0o600)
    // Whoever reads the old one must be able to read this: a revocation that is not read is none.
    if (before) await keepOwner(next, before)
    await rename(next, path)
  } finally {
    await rm(next, { force: true })
  }
}

/** @throws InvalidKeyFile when another user's file cannot be left to them */
async function keepOwner(next: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  try {
    await chown(next, uid, gid)
  } catch (error) {
    throw new InvalidKeyFile(
      `the file belongs to user ${uid} and group ${gid}, which this user may not give to a new one (${(error as NodeJS.ErrnoException).code}); nothing was changed: run the command as that user`
    )
  }
}
