import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyBaseLogger } from 'fastify'
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import Provider from 'oidc-provider'
import t, { type Test } from 'tap'
import { Access, type AccessOptions } from '../../src/access/access.ts'
import { consoleRoutes } from '../../src/access/console-routes.ts'
import { guard } from '../../src/access/guard.ts'
import { useProblems } from '../../src/http/problem.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newKey } from '../../src/access/key-file.ts'

async function listening(t: Test, server: Server): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A provider that only shows its keys. */
async function issuer(t: Test) {
  const { publicKey, privateKey } = await generateKeyPair('RS256')
  const other = await generateKeyPair('RS256')
  const jwk = { ...(await exportJWK(publicKey)), kid: 'one', alg: 'RS256', use: 'sig' }
  let isUp = true
  const server = createServer((request, response) => {
    if (!isUp) return void response.writeHead(500).end()
    const found =
      request.url === '/keys'
        ? { keys: [jwk] }
        : {
            issuer: url,
            jwks_uri: `${url}/keys`,
            authorization_endpoint: `${url}/auth`,
            token_endpoint: `${url}/token`,
            response_types_supported: ['code']
          }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(found))
  })
  const url = await listening(t, server)
  const token = (claims: object = {}, header: { alg?: string; kid?: string } = {}) =>
    new SignJWT({ roles: ['operator'], preferred_username: 'ada', ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: 'one', ...header })
      .setIssuer(url)
      .setAudience('sagabox')
      .setSubject('u-1')
      .setExpirationTime('5m')
  return {
    url,
    jwk,
    token,
    sign: (claims: object = {}) => token(claims).sign(privateKey),
    privateKey,
    otherKey: other.privateKey,
    setUp: (up: boolean) => void (isUp = up)
  }
}

async function guarded(t: Test, options: AccessOptions) {
  const log = keptLog()
  const access = await Access.open(options, ['127.0.0.1'], log)
  const nothing = () => {}
  const levels = { level: 'info', fatal: nothing, trace: nothing, silent: nothing }
  const loggerInstance: FastifyBaseLogger = {
    ...log,
    ...levels,
    child: () => loggerInstance
  } as never as FastifyBaseLogger
  const app = Fastify({
    loggerInstance,
    disableRequestLogging: true,
    routerOptions: { ignoreTrailingSlash: true }
  })
  useProblems(app)
  guard(app, access)
  await app.register(consoleRoutes(access))
  app.get('/sagas', { schema: { permission: 'saga:read' } }, ({ actor }) => actor)
  app.delete('/letters', { schema: { permission: 'letter:delete' } }, () => 'gone')
  t.teardown(async () => {
    access.close()
    await app.close()
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  log.lines.length = 0 // It said where it listens.
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const ask = async (bearer: string, method = 'GET', path = '/sagas') => {
    const answer = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${bearer}` }
    })
    return { status: answer.status, ...((await answer.json()) as Record<string, unknown>) }
  }
  return { app, access, url, ask, log }
}

t.test('tokens: what the provider signed for this server, and nothing else', async (t) => {
  const provider = await issuer(t)
  const oidc = { issuer: provider.url, audience: 'sagabox' }
  const { ask } = await guarded(t, { oidc })
  const good = await provider.sign()
  t.match(await ask(good), {
    status: 200,
    name: 'ada',
    kind: 'oidc',
    roles: ['operator'],
    issuer: provider.url,
    subject: 'u-1'
  })
  t.match(await ask(good, 'DELETE', '/letters'), {
    status: 403,
    detail: /ada is operator, and letter:delete is for admin/
  })
  t.match(
    await ask(await provider.sign({ roles: ['boss'] })),
    { status: 403 },
    'a role nobody knows'
  )
  t.match(
    await ask(await provider.sign({ roles: ['break-glass'] })),
    { status: 403 },
    'only a key breaks the glass'
  )
  t.match(await ask(await provider.sign({ roles: undefined })), { status: 403 }, 'no role')
  t.match(await ask(await provider.sign({ roles: 'viewer monitor' })), {
    status: 200,
    roles: ['viewer', 'monitor']
  })

  const refused = async (name: string, token: string, detail: string | RegExp) =>
    t.match(await ask(token), { status: 401, detail }, name)
  const { token, privateKey, otherKey, jwk } = provider
  await refused(
    'expired',
    await token().setExpirationTime('-5m').sign(privateKey),
    'This token has expired'
  )
  await refused('not yet', await token().setNotBefore('5m').sign(privateKey), /nbf/)
  await refused('another audience', await token().setAudience('shop').sign(privateKey), /aud/)
  await refused(
    'another issuer',
    await token().setIssuer('https://evil.example').sign(privateKey),
    /iss/
  )
  await refused(
    'without an end',
    await new SignJWT({})
      .setProtectedHeader({ alg: 'RS256', kid: 'one' })
      .setIssuer(provider.url)
      .setAudience('sagabox')
      .setSubject('x')
      .sign(privateKey),
    /exp/
  )
  await refused('another key', await token().sign(otherKey), 'This token is not valid')
  await refused(
    'unsigned',
    new UnsecuredJWT({ roles: ['admin'] })
      .setIssuer(provider.url)
      .setAudience('sagabox')
      .setSubject('x')
      .setExpirationTime('5m')
      .encode(),
    /./
  )
  const shared = new TextEncoder().encode(JSON.stringify(jwk))
  await refused(
    'a shared secret, the public key',
    await token({}, { alg: 'HS256' }).sign(shared),
    'This token is signed by an algorithm that is not taken here'
  )
  await refused(
    'an unknown key',
    await token({}, { kid: 'two' }).sign(privateKey),
    'This token is not valid'
  )
  await refused('no token', 'x.y.z', 'This token is not valid')
  await refused(
    'an ID token',
    await provider.sign({ nonce: 'n' }),
    'This is an ID token, which says who signed in; expected an access token'
  )
  await refused('changed', `${good.slice(0, -3)}abc`, 'This token is not valid')
  await refused('a huge one', `${'a'.repeat(15_000)}.b.c`, /./)
})

t.test('roles may stand deep in a token, and only where it says', async (t) => {
  const provider = await issuer(t)
  const { ask } = await guarded(t, {
    oidc: { issuer: provider.url, audience: 'sagabox', rolesClaim: 'realm_access.roles' }
  })
  t.match(await ask(await provider.sign({ realm_access: { roles: ['viewer'] } })), {
    status: 200,
    roles: ['viewer']
  })
  t.match(await ask(await provider.sign({ roles: ['admin'] })), { status: 403 })
  t.match(await ask(await provider.sign({ realm_access: { roles: [{}, null, 7, 'viewer'] } })), {
    roles: ['viewer']
  })
})

t.test('while the provider is down: 503 for tokens, and a break-glass key opens', async (t) => {
  const provider = await issuer(t)
  const good = await provider.sign()
  provider.setUp(false)
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { key, sha256 } = newKey()
  const keysFile = join(folder, 'keys')
  await writeFile(keysFile, `in-case break-glass ${sha256.toString('hex')}\n`)
  await chmod(keysFile, 0o600)
  const { ask, log } = await guarded(t, {
    keysFile,
    oidc: { issuer: provider.url, audience: 'sagabox' }
  })
  t.match(await ask(good), { status: 503, detail: /provider of sign-ins/ })
  t.match(await ask(key, 'GET', '/sagas'), { status: 200, name: 'in-case' })
  t.match(log.lines, [
    { level: 'warn', message: 'A break-glass key is in use', fields: { actor: 'in-case' } }
  ])
})

t.test('an issuer elsewhere must be asked by https', async (t) => {
  await t.rejects(
    Access.open(
      { oidc: { issuer: 'http://login.example', audience: 'x' } },
      ['127.0.0.1'],
      keptLog()
    ),
    { code: 'CANNOT_START', message: /AUTH_OIDC_ISSUER: expected an https:\/\/ URL/ }
  )
})

/** A browser, as far as signing in needs one: cookies and redirects. */
class Visitor {
  readonly #jar = new Map<string, string>()
  url = ''

  async go(url: string, form?: Record<string, string>): Promise<{ status: number; text: string }> {
    let [next, body] = [url, form && new URLSearchParams(form)] as [
      string,
      URLSearchParams | undefined
    ]
    for (let hops = 0; hops < 15; hops++) {
      const { origin } = new URL(next)
      const answer = await fetch(next, {
        method: body ? 'POST' : 'GET',
        ...(body && { body }),
        redirect: 'manual',
        headers: { cookie: this.cookie(origin), ...(body && { origin }) }
      })
      for (const line of answer.headers.getSetCookie()) this.#keep(origin, line)
      this.url = next
      const location = answer.headers.get('location')
      if (location === null) return { status: answer.status, text: await answer.text() }
      await answer.body?.cancel()
      next = new URL(location, next).href
      body = undefined
    }
    throw new Error(`Too many redirects at ${next}`)
  }

  cookie(origin: string): string {
    return [...this.#jar]
      .filter(([key]) => key.startsWith(`${origin} `))
      .map(([key, value]) => `${key.split(' ')[1]}=${value}`)
      .join('; ')
  }

  #keep(origin: string, line: string): void {
    const [pair = ''] = line.split(';')
    const at = pair.indexOf('=')
    const [name, value] = [pair.slice(0, at), pair.slice(at + 1)]
    if (value === '' || /max-age=0/i.test(line) || /expires=thu, 01 jan 1970/i.test(line))
      this.#jar.delete(`${origin} ${name}`)
    else this.#jar.set(`${origin} ${name}`, value)
  }
}

async function realProvider(t: Test, redirect: string): Promise<string> {
  const server = createServer()
  const url = await listening(t, server)
  const provider = new Provider(url, {
    clients: [
      {
        client_id: 'sagabox-console',
        client_secret: 'a secret',
        redirect_uris: [redirect],
        grant_types: ['authorization_code'],
        response_types: ['code']
      }
    ],
    findAccount: async (_context: unknown, id: string) => ({
      accountId: id,
      claims: async () => ({
        sub: id,
        roles: [id === 'ada' ? 'operator' : 'nothing'],
        preferred_username: `${id}@example`
      })
    }),
    claims: { openid: ['sub', 'roles', 'preferred_username'] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: true } }
  } as never)
  const answer = provider.callback()
  server.on('request', (request, response) => void answer(request, response))
  return url
}

t.test('signing in at a real provider, by code and PKCE, and out again', async (t) => {
  const holder: { url?: string } = {}
  const server = createServer()
  const consoleUrl = await listening(t, server)
  server.close()
  const port = new URL(consoleUrl).port
  const issuerUrl = await realProvider(t, `http://127.0.0.1:${port}/console/signed-in`)
  const log = keptLog()
  const access = await Access.open(
    {
      oidc: {
        issuer: issuerUrl,
        audience: 'sagabox-console',
        clientId: 'sagabox-console',
        clientSecret: 'a secret'
      }
    },
    ['127.0.0.1'],
    log
  )
  const app = Fastify({ routerOptions: { ignoreTrailingSlash: true } })
  useProblems(app)
  guard(app, access)
  await app.register(consoleRoutes(access))
  app.get('/sagas', { schema: { permission: 'saga:read' } }, ({ actor }) => actor)
  t.teardown(() => app.close())
  await app.listen({ port: Number(port), host: '127.0.0.1' })
  holder.url = `http://127.0.0.1:${port}`

  const visitor = new Visitor()
  const first = await visitor.go(`${holder.url}/console`)
  t.match(first.text, /You are not signed in/)
  t.match(visitor.url, /\/console\/$/)
  const form = await visitor.go(`${holder.url}/console/sign-in/provider`)
  t.match(form.text, /name="login"/, 'the form of the provider')
  const action = /action="([^"]+)"/.exec(form.text)![1]!
  const consent = await visitor.go(new URL(action, visitor.url).href, {
    prompt: 'login',
    login: 'ada',
    password: 'x'
  })
  const agree = /action="([^"]+)"/.exec(consent.text)![1]!
  const back = await visitor.go(new URL(agree, visitor.url).href, { prompt: 'consent' })
  t.equal(back.status, 200)
  t.match(back.text, /You are <strong>ada@example<\/strong>, operator/)
  const cookie = visitor.cookie(holder.url)
  t.match(await (await fetch(`${holder.url}/sagas`, { headers: { cookie } })).json(), {
    name: 'ada@example',
    roles: ['operator'],
    issuer: issuerUrl
  })

  t.match(await visitor.go(`${holder.url}/console/signed-in?code=x&state=y`), {
    status: 400,
    text: /took too long, or began elsewhere/
  })
  await visitor.go(`${holder.url}/console/sign-out`, {})
  t.match((await visitor.go(`${holder.url}/console/`)).text, /You are not signed in/)
  t.equal(
    (await fetch(`${holder.url}/sagas`, { headers: { cookie } })).status,
    401,
    'a copy of the cookie opens nothing any more'
  )
})

t.test('signing in by a key, a wrong key, a revoked key', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { key, sha256 } = newKey()
  const keysFile = join(folder, 'keys')
  await writeFile(keysFile, `<b>ada operator ${sha256.toString('hex')}\n`.replace('<b>', ''), {
    mode: 0o600
  })
  const { url, access, app, log } = await guarded(t, { keysFile })
  const visitor = new Visitor()
  t.match(await visitor.go(`${url}/console/sign-in`, { key: newKey().key }), {
    status: 401,
    text: /This key is not known/
  })
  t.match(await visitor.go(`${url}/console/sign-in`, { key }), {
    status: 200,
    text: /You are <strong>ada<\/strong>, operator/
  })
  const cookie = visitor.cookie(url)
  const asked = async () => (await fetch(`${url}/sagas`, { headers: { cookie } })).status
  t.equal(await asked(), 200)
  t.equal(
    (
      await fetch(`${url}/console/sign-out`, {
        method: 'POST',
        headers: {
          cookie,
          'sec-fetch-site': 'cross-site',
          'content-type': 'application/x-www-form-urlencoded'
        }
      })
    ).status,
    403,
    'no page signs others out'
  )
  const signIns = log.lines.filter(({ message }) => /sign/i.test(message))
  t.match(signIns, [
    { level: 'warn', message: 'A sign-in failed', fields: { reason: 'This key is not known' } },
    { level: 'info', message: 'Somebody signed in', fields: { actor: 'ada', kind: 'key' } }
  ])
  t.equal(signIns.length, 2)
  const page = await fetch(`${url}/console/`)
  t.match(page.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/)
  t.equal(
    (await fetch(`${url}/console/sign-in`, { method: 'POST' })).status,
    401,
    'without a form it is no key'
  )
  await writeFile(keysFile, '# nobody\n')
  await access.readKeys()
  t.equal(await asked(), 401, 'a key that is revoked ends its sessions')
  t.equal(
    (await fetch(`${url}/sagas`, { headers: { cookie: 'sagabox-session=abc.def' } })).status,
    401
  )
  t.equal(
    (
      await fetch(`${url}/sagas`, {
        headers: { cookie: cookie.replace('sagabox-session', 'sagabox-sign-in') }
      })
    ).status,
    401
  )
  let last = 0
  for (let tries = 0; tries < 12; tries++)
    last = (
      await app.inject({
        method: 'POST',
        url: '/console/sign-in',
        payload: 'key=x',
        headers: { 'content-type': 'application/x-www-form-urlencoded' }
      })
    ).statusCode
  t.equal(last, 429, 'guessing has a limit')
})

t.test('a break-glass key is heard of, also behind a session', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { key, sha256 } = newKey()
  const keysFile = join(folder, 'keys')
  await writeFile(keysFile, `glass break-glass ${sha256.toString('hex')}\n`, { mode: 0o600 })
  const { url, log } = await guarded(t, { keysFile })
  const visitor = new Visitor()
  await visitor.go(`${url}/console/sign-in`, { key })
  const before = log.lines.length
  const headers = { cookie: visitor.cookie(url) }
  t.equal((await fetch(`${url}/sagas`, { headers })).status, 200)
  t.match(log.lines.slice(before), [{ message: 'A break-glass key is in use' }])
})

t.test('a session of a provider that is no longer asked opens nothing', async (t) => {
  const [one, other] = [await issuer(t), await issuer(t)]
  const open = (url: string) =>
    Access.open(
      {
        oidc: { issuer: url, audience: 'sagabox' },
        sessionSecret: 'a secret of thirty-two characters'
      },
      ['127.0.0.1'],
      keptLog()
    )
  const [first, second] = [await open(one.url), await open(other.url)]
  const actor = {
    name: 'ada',
    kind: 'oidc',
    roles: ['admin'],
    issuer: one.url,
    subject: 'u'
  } as const
  const [cookie] = (await first.sessions.begin(actor)).split(';')
  const asked = (access: Access) => access.actorOf({ headers: { cookie } } as never)
  t.match(await asked(first), { name: 'ada' })
  t.match(await asked(second), { name: 'anonymous' })
})

t.test('cookies of a server of HTTPS are sent by HTTPS alone', async (t) => {
  const cookieOf = async (options: AccessOptions) => {
    const access = await Access.open(options, ['127.0.0.1'], keptLog())
    return access.sessions.begin({ name: 'a', kind: 'key', roles: [] }, 'ff')
  }
  t.match(
    await cookieOf({ isHttps: true }),
    /^__Host-sagabox-session=.*; Path=\/; HttpOnly; Secure/
  )
  t.match(await cookieOf({ publicUrl: 'https://a.b/c' }), /^__Host-.*Secure/)
  t.notMatch(await cookieOf({}), /Secure/)
})
