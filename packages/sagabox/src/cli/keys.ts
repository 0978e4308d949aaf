import { existsSync } from 'node:fs'
import {
  addKey,
  ANY_ROLE,
  InvalidKeyFile,
  isKeyName,
  newKey,
  readKeyFile,
  removeKey,
  type StoredKey
} from '../access/key-file.ts'
import { Roles, UnknownRole } from '../access/roles.ts'
import { appFile, foundApp, loadApp } from './app-module.ts'
import {
  EXIT,
  NotDone,
  NotReachable,
  WrongUsage,
  type Call,
  type Command,
  type Group,
  type Option
} from './command.ts'
import { clean, table } from './text.ts'

const FILE_OPTION: Readonly<Record<string, Option>> = {
  file: { value: 'FILE', help: 'of keys; AUTH_KEYS_FILE when not given' }
}
const DAY_MS = 24 * 60 * 60 * 1000

const create: Command = {
  summary:
    'Make a key and print it, once: the file keeps its SHA-256 alone. A file that is not there is ' +
    'made, for its owner alone. Servers read it again within a second',
  options: {
    ...FILE_OPTION,
    name: { value: 'NAME', help: 'whose it is, as logs and histories will call them' },
    role: {
      value: 'ROLE',
      help: 'what they may do: monitor, viewer, operator, admin, or your own'
    },
    expires: { value: 'WHEN', help: 'days such as 90d, or a date: 2027-01-31 (UTC)' },
    app: {
      value: 'FILE',
      help: 'that exports your own roles; sagabox.config.ts or .js, where there is one'
    }
  },
  async run(call) {
    const { options, terminal } = call
    const path = fileOf(call)
    const name = nameOf(call)
    const role = options.text('role')
    if (role === undefined) throw new WrongUsage('which role? Expected --role ROLE')
    const expires = endOf(options.text('expires'), Date.now())
    await mustBeRole(role, options.text('app'))
    const keys = existsSync(path) ? await keysOf(path) : []
    if (keys.some((one) => one.name === name))
      throw new NotDone(`${path}: a key is named ${name} already; revoke it first, or take another`)
    const { key, sha256 } = newKey()
    await addKey(path, ANY_ROLE, { name, role, sha256, expires }).catch(notWritten)
    if (options.has('json')) terminal.json({ name, role, expires, key })
    else {
      terminal.note(`A key for ${name}, ${role}${expires ? `, until ${written(expires)}` : ''}.`)
      terminal.note('Keep it now: it is written down nowhere and shown this once.')
      terminal.print(key)
    }
    return EXIT.ok
  }
}

const list: Command = {
  summary: 'Names, roles and ends of a file’s keys; the keys themselves are in no file',
  options: FILE_OPTION,
  async run(call) {
    const keys = await keysOf(fileOf(call))
    const now = Date.now()
    if (call.options.has('json'))
      call.terminal.json(
        keys.map((key) => ({
          name: key.name,
          role: key.role,
          expires: key.expires ?? null,
          isExpired: isExpired(key, now)
        }))
      )
    else
      call.terminal.print(
        ...table(
          keys,
          [
            { title: 'NAME', of: ({ name }: StoredKey) => clean(name) },
            { title: 'ROLE', of: ({ role }: StoredKey) => clean(role) },
            { title: 'UNTIL', of: (key: StoredKey) => untilOf(key, now) }
          ],
          call.terminal.width
        )
      )
    return EXIT.ok
  }
}

const revoke: Command = {
  summary: 'Take a key out of a file; servers refuse it within a second',
  options: { ...FILE_OPTION, name: { value: 'NAME', help: 'as keys list shows it' } },
  async run(call) {
    const path = fileOf(call)
    const name = nameOf(call)
    if ((await keysOf(path)).every((key) => key.name !== name))
      throw new NotDone(`${path}: no key is named ${name}; sagabox keys list shows them`)
    await removeKey(path, ANY_ROLE, name).catch(notWritten)
    if (call.options.has('json')) call.terminal.json({ name, revoked: true })
    else call.terminal.print(`${name} is revoked`)
    return EXIT.ok
  }
}

export const group: Group = { create, list, revoke }

function fileOf({ options, terminal }: Call): string {
  const path = options.text('file') ?? terminal.setting('AUTH_KEYS_FILE')
  if (path === undefined)
    throw new WrongUsage('which file of keys? Expected --file FILE, or AUTH_KEYS_FILE')
  return path
}

function nameOf({ options }: Call): string {
  const name = options.text('name')
  if (name === undefined) throw new WrongUsage('whose key? Expected --name NAME')
  if (isKeyName(name)) return name
  throw new WrongUsage(
    `--name is ${clean(name)}; expected letters, digits and ._@-, at most 64, a letter or digit first`
  )
}

/** @throws WrongUsage naming the roles that there are */
async function mustBeRole(role: string, given: string | undefined): Promise<void> {
  const file = given === undefined ? foundApp() : appFile(given)
  // The library's own need nobody's module.
  if (new Roles().names.includes(role)) return
  const app = file === undefined ? undefined : await loadApp(file)
  await app?.running?.stop()
  try {
    new Roles(app?.roles).mustKnow(role)
  } catch (error) {
    if (!(error instanceof UnknownRole)) throw error
    throw new WrongUsage(
      `${error.message}. Your own are known by a module that exports roles: ${file ?? '--app FILE'}`
    )
  }
}

/** @throws WrongUsage when it is neither days nor a date to come */
function endOf(text: string | undefined, now: number): Date | undefined {
  if (text === undefined) return undefined
  const [, days] = /^([1-9]\d{0,4})d$/.exec(text) ?? []
  if (days !== undefined) return new Date(now + Number(days) * DAY_MS)
  const end = new Date(text)
  const isDate =
    /^\d{4}-\d{2}-\d{2}$/.test(text) &&
    !Number.isNaN(end.getTime()) &&
    end.toISOString().startsWith(text)
  if (!isDate)
    throw new WrongUsage(`--expires is ${clean(text)}; expected days such as 90d, or 2027-01-31`)
  if (end.getTime() <= now)
    throw new WrongUsage(`--expires is ${text}, which is over; expected a day to come`)
  return end
}

/** @throws NotReachable when the file is not there or cannot be used */
function keysOf(path: string): Promise<StoredKey[]> {
  return readKeyFile(path, ANY_ROLE).catch((error: Error) => {
    if (!(error instanceof InvalidKeyFile)) throw error
    throw new NotReachable(error.message, { cause: error })
  })
}

function notWritten(error: NodeJS.ErrnoException): never {
  if (error instanceof InvalidKeyFile || error.code !== undefined)
    throw new NotReachable(error.message, { cause: error })
  throw error
}

function isExpired({ expires }: StoredKey, now: number): boolean {
  return expires !== undefined && expires.getTime() <= now
}

function untilOf(key: StoredKey, now: number): string {
  if (key.expires === undefined) return '-'
  return written(key.expires) + (isExpired(key, now) ? ', over' : '')
}

function written(time: Date): string {
  return time.toISOString().replace('.000Z', 'Z')
}
