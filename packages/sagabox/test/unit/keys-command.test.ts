// `sagabox keys`: what it prints, what the file holds afterwards, and what it refuses.
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import t, { type Test } from 'tap'
import { Keys } from '../../src/access/keys.ts'
import { Roles } from '../../src/access/roles.ts'
import { run } from '../../src/cli/run.ts'
import { Terminal } from '../../src/cli/terminal.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'

async function runKeys(args: readonly string[], environment: Record<string, string> = {}) {
  const said = { out: '', err: '' }
  const to = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        said[name] += String(chunk)
        done()
      }
    })
  const interrupted = new AbortController().signal
  const terminal = new Terminal({ environment, interrupted, out: to('out'), err: to('err') })
  return { code: await run(['keys', ...args], terminal), ...said }
}

async function newFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

t.test('a key is printed once, opens until it is revoked, and is in no file', async (t) => {
  const folder = await newFolder(t)
  const file = join(folder, 'keys')
  const made = await runKeys(['create', '--file', file, '--name', 'ci', '--role', 'operator'])
  t.match(made, { code: 0, out: /^sgb_[\w-]{43}\n$/, err: /ci, operator/ })
  const key = made.out.trim()
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.notOk((await readFile(file, 'utf8')).includes(key))
  const keys = await Keys.open(file, new Roles(), keptLog())
  t.teardown(() => keys.close())
  t.match(keys.find(key), { actor: { name: 'ci', roles: ['operator'] } })

  const environment = { AUTH_KEYS_FILE: file }
  const second = await runKeys(
    ['create', '--name', 'me', '--role', 'admin', '--expires', '2999-01-31', '--json'],
    environment
  )
  t.match(JSON.parse(second.out), {
    name: 'me',
    role: 'admin',
    expires: '2999-01-31T00:00:00.000Z'
  })
  const listed = await runKeys(['list'], environment)
  t.match(listed, {
    code: 0,
    out: /^NAME +ROLE +UNTIL *\nci +operator +- *\nme +admin +2999-01-31T/
  })
  t.match(await runKeys(['revoke', '--name', 'ci'], environment), {
    code: 0,
    out: 'ci is revoked\n'
  })
  await keys.read()
  t.same(keys.find(key), { problem: 'unknown' })
  t.same(
    JSON.parse((await runKeys(['list', '--json'], environment)).out).map(
      ({ name }: { name: string }) => name
    ),
    ['me']
  )
  t.same(await readdir(folder), ['keys'], 'nothing else is left there')
})

t.test('a key that ends is listed as over when it is', async (t) => {
  const file = join(await newFolder(t), 'keys')
  await writeFile(file, `old viewer ${'0'.repeat(64)} 2020-01-01\n`, { mode: 0o600 })
  t.match(await runKeys(['list', '--file', file]), { code: 0, out: /2020-01-01T00:00:00Z, over/ })
  const made = await runKeys(
    ['create', '--file', file, '--name', 'a', '--role', 'viewer', '--expires', '90d', '--json'],
    {}
  )
  const left = new Date(JSON.parse(made.out).expires).getTime() - Date.now()
  t.ok(left > 89.9 * 86_400_000 && left <= 90 * 86_400_000)
})

t.test('the application’s own roles come from its module', async (t) => {
  const folder = await newFolder(t)
  const file = join(folder, 'keys')
  const app = join(folder, 'app.mjs')
  await writeFile(app, `export const roles = { courier: ['parcel:read'] }\n`)
  const of = (role: string, ...more: string[]) =>
    runKeys(['create', '--file', file, '--name', role, '--role', role, ...more])
  t.match(await of('courier', '--app', app), { code: 0 })
  t.match(await of('viewer'), { code: 0 }, 'a file may name roles that are not known here')
  t.match(await of('boss', '--app', app), { code: 2, err: /no role "boss".*courier/ })
})

t.test('what cannot be meant is refused, and changes nothing', async (t) => {
  const folder = await newFolder(t)
  const file = join(folder, 'keys')
  const create = (...args: string[]) => ['create', '--file', file, ...args]
  for (const [args, expected] of [
    [['list'], /Expected --file FILE, or AUTH_KEYS_FILE/],
    [create('--role', 'admin'), /Expected --name NAME/],
    [create('--name', 'a'), /Expected --role ROLE/],
    [create('--name', 'a b', '--role', 'admin'), /expected letters, digits/],
    [create('--name', 'a\nroot admin', '--role', 'admin'), /expected letters, digits/],
    [create('--name', 'a', '--role', 'admin', '--expires', '2027-02-31'), /--expires is/],
    [create('--name', 'a', '--role', 'admin', '--expires', '2020-01-31'), /which is over/],
    [create('--name', 'a', '--role', 'admin', '--expires', '0d'), /--expires is 0d/],
    [create('--name', 'a', '--role', 'admin', '--expires', 'tomorrow'), /expected days/]
  ] as const)
    t.match(await runKeys(args), { code: 2, out: '', err: expected }, args.join(' '))
  t.match(await runKeys(['list', '--file', file]), { code: 3, err: /ENOENT/ })
  t.match(await runKeys(['revoke', '--file', file, '--name', 'a']), { code: 3 })
  t.match(await runKeys(['create', '--file', join(file, 'x'), '--name', 'a', '--role', 'admin']), {
    code: 3,
    err: /expected a folder/
  })
  t.same(await readdir(folder), [])

  await runKeys(create('--name', 'a', '--role', 'admin'))
  const before = await readFile(file, 'utf8')
  t.match(await runKeys(create('--name', 'a', '--role', 'viewer')), { code: 1, err: /already/ })
  t.match(await runKeys(['revoke', '--file', file, '--name', 'b']), { code: 1, err: /no key/ })
  await writeFile(`${file}.lock`, '')
  t.match(await runKeys(create('--name', 'c', '--role', 'viewer')), {
    code: 3,
    err: /somebody else is changing it; if nobody is, delete .*keys\.lock/
  })
  t.match(await runKeys(['revoke', '--file', file, '--name', 'a']), { code: 3 })
  await rm(`${file}.lock`)
  await chmod(file, 0o644)
  t.match(await runKeys(create('--name', 'c', '--role', 'viewer')), { code: 3, err: /chmod o=/ })
  t.equal(await readFile(file, 'utf8'), before)
})
