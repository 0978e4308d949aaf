import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { Access } from '../../src/access/access.ts'
import { isCrossSite } from '../../src/access/cross-site.ts'
import { guard } from '../../src/access/guard.ts'
import { Hosts, isLoopback } from '../../src/access/hosts.ts'
import { addKey, newKey, readKeyFile, removeKey } from '../../src/access/key-file.ts'
import { Keys } from '../../src/access/keys.ts'
import { Roles } from '../../src/access/roles.ts'
import { useProblems } from '../../src/http/problem.ts'
import { until } from '../../../../test/support/until.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'

const CUSTOMER = { customer: ['orders:place'] }
const roles = new Roles({ ...CUSTOMER, operator: ['orders:look'] })

async function folderOf(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

/** A file with a key of each role; the keys by role. */
async function keyFile(t: Test): Promise<{ path: string; keys: Record<string, string> }> {
  const path = join(await folderOf(t), 'keys')
  const keys: Record<string, string> = {}
  for (const role of ['viewer', 'operator', 'admin', 'monitor', 'customer', 'break-glass']) {
    const { key, sha256 } = newKey()
    keys[role] = key
    await addKey(path, roles, { name: `my-${role}`, role, sha256 })
  }
  return { path, keys }
}

t.test('roles: what each may do, an admin everything, nobody what nobody knows', async (t) => {
  t.ok(roles.allow(['viewer'], 'saga:read'))
  t.notOk(roles.allow(['viewer'], 'letter:delete'))
  t.notOk(roles.allow(['viewer'], 'payload:read'))
  t.ok(roles.allow(['operator'], 'payload:read'))
  t.ok(roles.allow(['operator'], 'orders:look'), 'its own and the application’s')
  t.notOk(roles.allow(['operator'], 'letter:delete'))
  t.ok(roles.allow(['admin'], 'orders:place'), 'also what only the application knows')
  t.ok(roles.allow(['break-glass'], 'letter:delete'))
  t.notOk(roles.allow(['root', '__proto__', 'constructor'], 'saga:read'))
  t.notOk(roles.allow([], 'saga:read'))
  t.ok(roles.allow([], 'public'))
  t.notOk(roles.allow(['monitor'], 'saga:read'))
  t.same(roles.thatAllow('letter:delete'), ['admin'])
  t.throws(() => roles.mustKnow('boss'), { code: 'UNKNOWN_ROLE', message: /"boss"/ })
})

t.test(
  'keys: what is written down opens nothing, and a line more or less is at once whole',
  async (t) => {
    const { path, keys } = await keyFile(t)
    const stored = await readKeyFile(path, roles)
    t.equal(stored.length, 6)
    t.same(stored[0]!.role, 'viewer')
    const log = keptLog()
    const opened = await Keys.open(path, roles, log)
    t.teardown(() => opened.close())
    t.match(opened.find(keys['viewer']!), { actor: { name: 'my-viewer', roles: ['viewer'] } })
    t.same(opened.find(stored[0]!.sha256.toString('hex')), { problem: 'unknown' })
    t.same(opened.find(newKey().key), { problem: 'unknown' })
    t.same(opened.find(`${keys['viewer']} `), { problem: 'unknown' })
    t.same(opened.find(''), { problem: 'unknown' })
    await t.rejects(
      addKey(path, roles, { name: 'my-viewer', role: 'admin', sha256: stored[0]!.sha256 }),
      {
        code: 'INVALID_KEY_FILE',
        message: /named my-viewer already/
      }
    )
    await removeKey(path, roles, 'my-viewer')
    await opened.read()
    t.same(opened.find(keys['viewer']!), { problem: 'unknown' }, 'revoked')
    t.match(opened.find(keys['admin']!), { actor: { name: 'my-admin' } })
    await t.rejects(removeKey(path, roles, 'nobody'), { message: /no key is named nobody/ })
  }
)

t.test('a key ends when its line says', async (t) => {
  const path = join(await folderOf(t), 'keys')
  const [past, future] = [newKey(), newKey()]
  await addKey(path, roles, {
    name: 'a',
    role: 'viewer',
    ...past,
    expires: new Date(Date.now() - 1)
  })
  await addKey(path, roles, {
    name: 'b',
    role: 'viewer',
    ...future,
    expires: new Date(Date.now() + 60_000)
  })
  const opened = await Keys.open(path, roles, keptLog())
  t.teardown(() => opened.close())
  t.same(opened.find(past.key), { problem: 'expired' })
  t.match(opened.find(future.key), { actor: { name: 'b' } })
})

t.test(
  'a file that is not as expected is refused with its line, and never with what it holds',
  async (t) => {
    const folder = await folderOf(t)
    const { key, sha256 } = newKey()
    const hex = sha256.toString('hex')
    const cases: [name: string, text: string, expected: RegExp, mode?: number][] = [
      [
        'unknown role',
        `ci boss ${hex}\n`,
        /: line 1: There is no role "boss"; expected one of monitor/
      ],
      ['a key itself', `# mine\nci viewer ${key}\n`, /: line 2: it holds a key itself/],
      ['a key alone', `${key}\n`, /: line 1: it holds a key itself/],
      [
        'half a line',
        `ci viewer ${hex}\nme viewer ${hex.slice(0, 20)}`,
        /its last line has no end/
      ],
      ['half a digest', `ci viewer ${hex.slice(0, 63)}\n`, /: line 1: expected the SHA-256/],
      ['no role', 'ci\n', /: line 1: There is no role ""/],
      ['a name', `c/i viewer ${hex}\n`, /: line 1: expected a name/],
      ['twice', `ci viewer ${hex}\nci admin ${hex}\n`, /two keys are named ci/],
      ['an end', `ci viewer ${hex} tomorrow\n`, /: line 1: expected the time at which it ends/],
      ['too much', `ci viewer ${hex} 2027-01-01 x\n`, /: line 1: expected name, role/],
      [
        'open to all',
        `ci viewer ${hex}\n`,
        /everybody on this machine may read or write it \(mode 644\)/,
        0o644
      ]
    ]
    for (const [name, text, expected, mode = 0o600] of cases) {
      const path = join(folder, name.replaceAll(' ', '-'))
      await writeFile(path, text)
      await chmod(path, mode)
      const error = await readKeyFile(path, roles).then(
        () => undefined,
        (found: Error) => found
      )
      t.match(error?.message, expected, name)
      t.notMatch(error?.message, key.slice(4), `${name}: the key is not repeated`)
      t.match(error?.message, path)
    }
    await t.rejects(readKeyFile(join(folder, 'none'), roles), {
      message: /ENOENT.*sagabox keys create/s
    })
    await t.rejects(Access.open({ keysFile: join(folder, 'twice') }, ['127.0.0.1'], keptLog()), {
      code: 'CANNOT_START',
      message: /AUTH_KEYS_FILE: .*two keys are named ci/
    })
  }
)

t.test('a file that is gone, or half written, leaves the keys before it valid', async (t) => {
  const { path, keys } = await keyFile(t)
  const log = keptLog()
  const opened = await Keys.open(path, roles, log)
  t.teardown(() => opened.close())
  await rename(path, `${path}.away`)
  await opened.read()
  await opened.read()
  t.match(opened.find(keys['viewer']!), { actor: { name: 'my-viewer' } })
  t.equal(
    log.lines.filter(({ message }) => /cannot be read/.test(message)).length,
    1,
    'it is said once'
  )
  await writeFile(path, 'my-viewer vie', { mode: 0o600 })
  await opened.read()
  t.match(opened.find(keys['viewer']!), { actor: { name: 'my-viewer' } })
  await writeFile(path, '# nobody\n', { mode: 0o600 })
  await opened.read()
  t.same(opened.find(keys['viewer']!), { problem: 'unknown' }, 'a whole file without it')
})

t.test('a file that changes is read again by itself', async (t) => {
  const { path, keys } = await keyFile(t)
  const log = keptLog()
  const opened = await Keys.open(path, roles, log)
  t.teardown(() => opened.close())
  await removeKey(path, roles, 'my-viewer')
  await until('the keys are read again', async () =>
    log.lines.some(({ message }) => message === 'Keys read again')
  )
  t.same(opened.find(keys['viewer']!), { problem: 'unknown' })
})

t.test('it never starts reachable and open without being told so', async (t) => {
  for (const host of [
    '0.0.0.0',
    '::',
    '10.1.2.3',
    'shop.example',
    '127.0.0.1.evil.example',
    '2130706433'
  ])
    await t.rejects(
      Access.open({}, ['127.0.0.1', host], keptLog()),
      {
        code: 'CANNOT_START',
        message: /AUTH_KEYS_FILE[^]*AUTH_OIDC_ISSUER[^]*AUTH=none/
      },
      host
    )
  for (const host of ['127.0.0.1', '127.1.2.3', 'localhost', '::1'])
    t.ok((await Access.open({}, [host], keptLog())).isOpen, host)
  t.ok((await Access.open({ none: true }, ['0.0.0.0'], keptLog())).isOpen)
  const { path } = await keyFile(t)
  const access = await Access.open({ keysFile: path, roles: CUSTOMER }, ['0.0.0.0'], keptLog())
  t.teardown(() => access.close())
  t.notOk(access.isOpen)
  await t.rejects(Access.open({ keysFile: path, none: true }, ['0.0.0.0'], keptLog()), {
    message: /expected one or the other/
  })
  t.notOk(isLoopback('127.0.0.1.nip.io'))
})

t.test('hosts: a page can have its own name point here, and no other', (t) => {
  const hosts = new Hosts()
  for (const good of [
    'localhost:3000',
    'LOCALHOST',
    '127.0.0.1:80',
    '[::1]:3000',
    '10.0.0.7',
    'order:3000'
  ])
    t.ok(hosts.isExpected(good), good)
  for (const bad of [
    'evil.example',
    'localhost.evil.example:3000',
    'localhost.',
    'a b',
    '',
    'x:99999999',
    '127.0.0.1.nip.io',
    'a@b',
    'evil.example#localhost',
    '[::1].evil.example'
  ])
    t.notOk(hosts.isExpected(bad), bad)
  const shop = new Hosts('https://Shop.example:8443/shop')
  t.ok(shop.isExpected('shop.example'))
  t.ok(shop.isExpected('SHOP.example:8443'))
  t.notOk(shop.isExpected('shop.example.evil'))
  t.end()
})

t.test('cross-site: what a browser says of a request that may change something', (t) => {
  const host = '127.0.0.1:3000'
  t.ok(isCrossSite('POST', { host, 'sec-fetch-site': 'cross-site' }))
  t.ok(isCrossSite('POST', { host, 'sec-fetch-site': 'same-site' }), 'another port')
  t.ok(isCrossSite('DELETE', { host, origin: 'http://evil.example' }))
  t.ok(isCrossSite('POST', { host, origin: 'http://127.0.0.1:8080' }))
  t.ok(isCrossSite('POST', { host, origin: 'null' }))
  t.notOk(
    isCrossSite('POST', { host, 'sec-fetch-site': 'same-origin', origin: 'http://127.0.0.1:3000' })
  )
  t.notOk(isCrossSite('POST', { host, 'sec-fetch-site': 'none' }), 'typed by a person')
  t.notOk(isCrossSite('POST', { host, origin: 'http://127.0.0.1:3000' }))
  t.notOk(isCrossSite('POST', { host }), 'no browser')
  t.notOk(isCrossSite('GET', { host, 'sec-fetch-site': 'cross-site' }), 'a link')
  t.notOk(
    isCrossSite('POST', { host, 'sec-fetch-site': 'cross-site', origin: 'https://a.b' }, [
      'https://a.b'
    ])
  )
  t.end()
})

async function guarded(t: Test, keysFile?: string) {
  const log = keptLog()
  const access = await Access.open(
    keysFile === undefined ? {} : { keysFile, roles: CUSTOMER },
    ['127.0.0.1'],
    log
  )
  const app = Fastify()
  useProblems(app)
  guard(app, access)
  app.get('/open', { schema: { permission: 'public' } }, () => 'open')
  app.get('/sagas', { schema: { permission: 'saga:read' } }, ({ actor }) => actor.name)
  app.delete('/letters', { schema: { permission: 'letter:delete' } }, () => 'gone')
  app.get('/health', { schema: { permission: 'public' } }, (request) =>
    request.may('health:read') ? 'all' : 'up'
  )
  t.teardown(async () => {
    access.close()
    await app.close()
  })
  const ask = (method: 'GET' | 'DELETE', url: string, key?: string, more: object = {}) =>
    app.inject({
      method,
      url,
      headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }), ...more }
    })
  return { app, ask, log }
}

t.test('guard: without, with a wrong and with the right key', async (t) => {
  const { path, keys } = await keyFile(t)
  const { ask, log } = await guarded(t, path)
  t.equal((await ask('GET', '/open')).statusCode, 200)
  const stranger = await ask('GET', '/sagas')
  t.equal(stranger.statusCode, 401)
  t.equal(stranger.headers['www-authenticate'], 'Bearer realm="sagabox"')
  t.match(stranger.json(), { title: 'Unauthorized', status: 401 })
  t.match((await ask('GET', '/sagas', newKey().key)).json(), {
    status: 401,
    detail: 'This key is not known'
  })
  t.match((await ask('GET', '/sagas', 'x')).json(), { status: 401 })
  t.match((await ask('GET', '/sagas', undefined, { authorization: 'Basic eDp5' })).json(), {
    status: 401
  })
  t.equal((await ask('GET', '/sagas', keys['viewer'])).body, 'my-viewer')
  t.match((await ask('DELETE', '/letters', keys['operator'])).json(), {
    status: 403,
    detail: 'my-operator is operator, and letter:delete is for admin'
  })
  t.equal((await ask('DELETE', '/letters', keys['admin'])).statusCode, 200)
  t.equal((await ask('GET', '/health')).body, 'up')
  t.equal((await ask('GET', '/health', keys['monitor'])).body, 'all')
  t.equal((await ask('GET', '/nowhere')).statusCode, 404)
  t.equal(log.lines.filter(({ message }) => /break-glass/.test(message)).length, 0)
  t.equal((await ask('DELETE', '/letters', keys['break-glass'])).statusCode, 200)
  t.equal(log.lines.filter(({ message }) => /break-glass/.test(message)).length, 1, 'it shouts')
})

t.test('guard: another host, another site, two hosts', async (t) => {
  const { app, ask } = await guarded(t)
  t.equal((await ask('GET', '/sagas')).body, 'anonymous')
  t.match((await ask('GET', '/sagas', undefined, { host: 'evil.example' })).json(), {
    status: 421,
    detail: /This server is not evil\.example; expected localhost.*PUBLIC_URL/
  })
  t.match((await ask('DELETE', '/letters', undefined, { origin: 'http://evil.example' })).json(), {
    status: 403,
    detail: /another site/
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.write(
    'GET /sagas HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n'
  )
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.match(answer.toString(), /^HTTP\/1\.1 400 /)
  socket.destroy()
})

t.test('guard: a route that names no permission does not start', async (t) => {
  const app = Fastify()
  guard(app, await Access.open({}, ['127.0.0.1'], keptLog()))
  app.get('/mine', () => 'mine')
  await app.register(async (scope) => {
    scope.addHook(
      'onRoute',
      (route) => void (route.schema = { ...route.schema, permission: 'docs:read' })
    )
    scope.get('/theirs', () => 'theirs')
  })
  await t.rejects(Promise.resolve(app.ready()), {
    code: 'UNGUARDED_ROUTE',
    message: /^GET \/mine, HEAD \/mine: expected a permission/
  })
})
