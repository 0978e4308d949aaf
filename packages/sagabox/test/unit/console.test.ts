import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { guard } from '../../src/access/guard.ts'
import { Access } from '../../src/access/access.ts'
import { addKey, newKey } from '../../src/access/key-file.ts'
import { Roles } from '../../src/access/roles.ts'
import { registerConsole } from '../../src/service/system.ts'
import { testOf } from '../../console/test-of.ts'
import { LARGEST_ANSWER } from '../../src/console/forward.ts'
import { consoleServices } from '../../src/console/peers.ts'
import { consoleApi, type ConsoleOptions } from '../../src/console/routes.ts'
import { useHeaders } from '../../src/http/headers.ts'
import { useProblems } from '../../src/http/problem.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'

const PAGE = fileURLToPath(new URL('../../dist/console/page/', import.meta.url))

t.test('the page is small, and nothing of it is inline or elsewhere', async (t) => {
  t.ok(existsSync(`${PAGE}index.html`), 'it was built')
  const scripts = readdirSync(`${PAGE}assets`).filter((name) => name.endsWith('.js'))
  const bytes = scripts
    .map((name) => gzipSync(readFileSync(`${PAGE}assets/${name}`)).length)
    .reduce((sum, one) => sum + one, 0)
  t.ok(bytes > 10_000 && bytes <= 60 * 1024, `${bytes} bytes of scripts, compressed`)
  const html = readFileSync(`${PAGE}index.html`, 'utf8')
  t.notMatch(html, /<style|style=|<script>|https?:|href="\/|src="\//)
  for (const [, name] of html.matchAll(/(?:href|src)="([^"]+)"/g))
    t.ok(existsSync(PAGE + name), `${name} is there`)
  const script = readFileSync(`${PAGE}assets/${scripts[0]}`, 'utf8')
  t.notMatch(script, /dangerouslySetInnerHTML\s*:|eval\(|https?:\/\/(?!www\.w3\.org)/)
})

t.test('where services are is read whole, or refused without what it held', async (t) => {
  t.same(consoleServices('order=http://order:3000/, stock=https://x.example/shop/'), {
    order: 'http://order:3000',
    stock: 'https://x.example/shop'
  })
  for (const [text, said] of [
    ['', /"" is not a name and an address; expected .*order=http:\/\/order:3000/],
    ['order', /"order" is not/],
    ['order=', /"order=" is not/],
    ['Order=http://x', /is not a name/],
    ['order=ftp://x', /the address of order is no http/],
    ['order=x', /the address of order is no http/],
    ['order=http://a,order=http://b', /order is named twice/],
    ['order=http://ada:hunter2@x', /the address of order holds a user or password/],
    ['order=http://x?a=1', /has a \? or #/]
  ] as const) {
    t.throws(() => consoleServices(text), { code: 'INVALID_CONSOLE_SERVICES', message: said }, text)
    t.throws(() => consoleServices(text), { message: /^(?!.*hunter2)/ })
  }
})

interface Asked {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

/** A service elsewhere that answers as it is told. */
async function peer(t: Test, answer: (asked: Asked, to: ServerResponse) => void) {
  const asked: Asked[] = []
  const server = createServer((got, response) => {
    let body = ''
    got.on('data', (chunk) => (body += String(chunk)))
    got.on('end', () => {
      const { method = '', url = '', headers } = got
      asked.push({ method, url, headers, body })
      answer(asked.at(-1)!, response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const json = (to: ServerResponse, body: unknown, status = 200) =>
  to.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))

async function consoleWith(
  t: Test,
  options: ConsoleOptions,
  more?: (app: FastifyInstance) => void
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  useProblems(app)
  await useHeaders(app, false)
  guard(app, await Access.open({}, ['127.0.0.1'], keptLog()))
  more?.(app)
  app.register(consoleApi(more ? [{ name: 'order', sagas: [{ name: 'order' }] }] : [], options))
  await app.ready()
  return app
}

function statusOf(port: number, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path }, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
      .on('error', reject)
      .end()
  })
}

t.test('a service elsewhere is asked as whoever asks, and for nothing else', async (t) => {
  const { asked, url } = await peer(t, (one, to) => json(to, { got: one.body || null }))
  const app = await consoleWith(t, { services: { stock: `${url}/inner` } })
  const answer = await app.inject({
    method: 'POST',
    url: '/console/api/at/stock/ops/stock/dead-letters/7/retry?why=a%20b',
    headers: {
      authorization: 'Bearer mine',
      cookie: 'sagabox-session=abc; theirs=1',
      'content-type': 'application/json',
      connection: 'keep-alive, x-secret',
      'x-secret': '1',
      'x-forwarded-for': '1.2.3.4',
      te: 'trailers'
    },
    payload: '{"a":1}'
  })
  t.match(answer, { statusCode: 200, body: '{"got":"{\\"a\\":1}"}' })
  t.equal(answer.headers['cache-control'], 'no-store')
  const [one] = asked
  t.equal(one!.url, '/inner/ops/stock/dead-letters/7/retry?why=a%20b')
  t.equal(one!.headers.authorization, 'Bearer mine')
  for (const name of ['cookie', 'x-secret', 'x-forwarded-for', 'te'])
    t.notOk(one!.headers[name], `${name} stays here`)
  await app.inject({
    url: '/console/api/at/stock/sagas/definitions',
    headers: { 'sagabox-peer-key': 'theirs' }
  })
  t.equal(asked.at(-1)!.headers.authorization, 'Bearer theirs', 'a key for this service alone')

  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const before = asked.length
  for (const path of [
    '/orders',
    '/console/api/services',
    '/sagas/../orders',
    '/sagas/%2e%2e/orders',
    '/sagas/..%2f..%2forders/../../x',
    '//evil.example/sagas',
    '/sagas//x',
    '/sagas\\..\\orders',
    '/opsy'
  ]) {
    // By hand: others tidy a path up before they ask for it.
    const statusCode = await statusOf(port, `/console/api/at/stock${path}`)
    t.ok(statusCode === 404 || statusCode === 400, `${path}: ${statusCode}`)
  }
  t.match(await app.inject('/console/api/at/other/sagas'), { statusCode: 404 })
  t.equal(asked.length, before, 'none of it was asked')
})

t.test('what a page of another site asks for is refused here already', async (t) => {
  const { asked, url } = await peer(t, (_one, to) => json(to, {}))
  const app = await consoleWith(t, { services: { stock: url } })
  for (const headers of [
    { 'sec-fetch-site': 'cross-site' },
    { origin: 'https://evil.example', host: 'localhost' }
  ])
    t.match(
      await app.inject({
        method: 'POST',
        url: '/console/api/at/stock/sagas/order/1/retry',
        headers
      }),
      { statusCode: 403 }
    )
  t.same(asked, [])
})

t.test('a console that only shows changes nothing', async (t) => {
  const { asked, url } = await peer(t, (_one, to) => json(to, {}))
  const app = await consoleWith(t, { services: { stock: url }, readOnly: true })
  for (const method of ['POST', 'PUT', 'DELETE'] as const)
    t.match(await app.inject({ method, url: '/console/api/at/stock/ops/stock/x' }), {
      statusCode: 403,
      body: /CONSOLE_READ_ONLY/
    })
  t.same(asked, [])
})

t.test('what is wrong with a service elsewhere is said of it by name', async (t) => {
  const cases: [
    name: string,
    answer: (to: ServerResponse) => void,
    status: number,
    said: RegExp
  ][] = [
    [
      'html',
      (to) => to.writeHead(200, { 'content-type': 'text/html' }).end('<b>hi'),
      502,
      /JSON was expected/
    ],
    [
      'moved',
      (to) => to.writeHead(302, { location: 'http://evil.example' }).end(),
      502,
      /redirect/
    ],
    [
      'long',
      (to) => {
        to.writeHead(200, { 'content-type': 'application/json' })
        to.end(`"${'x'.repeat(LARGEST_ANSWER)}"`)
      },
      502,
      /more than 8388608 bytes/
    ]
  ]
  for (const [name, answer, status, said] of cases) {
    const { url } = await peer(t, (_one, to) => answer(to))
    const app = await consoleWith(t, { services: { stock: url } })
    const found = await app.inject('/console/api/at/stock/sagas/definitions')
    t.match(found, { statusCode: status, body: said }, name)
    t.match(found.body, /stock/, `${name}: named`)
  }
  const { url } = await peer(t, () => {})
  const app = await consoleWith(t, { services: { slow: url, away: 'http://127.0.0.1:1' } })
  const began = performance.now()
  const late = app.inject({ method: 'POST', url: '/console/api/at/slow/sagas/order/1/retry' })
  const list = (await app.inject('/console/api/services')).json()
  t.match(list.services, [
    { name: 'slow', reachable: false, error: /slow does not answer within 5 s/, since: String },
    { name: 'away', reachable: false, error: /away cannot be reached: ./, since: String }
  ])
  t.match(await late, { statusCode: 504, body: /may have been done or not/ })
  t.ok(performance.now() - began < 20_000)
})

t.test('services of the process are asked by its own app, as whoever asks', async (t) => {
  const seen: Record<string, unknown>[] = []
  const app = await consoleWith(t, { label: 'test', color: '#112233' }, (root) => {
    const schema = { permission: 'public' }
    root.get('/sagas/order/summary', { schema }, ({ headers }, reply) => {
      seen.push(headers)
      return reply.send({ stuck: 1 })
    })
    root.post('/ops/order/x', { schema }, ({ body: given }, reply) => reply.send({ body: given }))
    root.get('/ops/order/page', { schema }, (_request, reply) =>
      reply.type('text/html').send('<script>')
    )
  })
  t.match((await app.inject('/console/api/services')).json(), {
    label: 'test',
    color: '#112233',
    readOnly: false,
    you: { name: 'anonymous', signedIn: false, may: /saga:retry/ },
    services: [{ name: 'order', url: null, sagas: ['order'], version: '0.1.0', reachable: true }]
  })
  const { statusCode, body } = await app.inject({
    url: '/console/api/at/order/sagas/order/summary',
    headers: { cookie: 'sagabox-session=mine', 'x-other': '1' }
  })
  t.same([statusCode, body], [200, '{"stuck":1}'])
  t.match(seen[0], { cookie: 'sagabox-session=mine' })
  t.notOk(seen[0]!['x-other'])
  t.match(
    await app.inject({
      method: 'POST',
      url: '/console/api/at/order/ops/order/x',
      payload: { a: 1 }
    }),
    { statusCode: 200, body: '{"body":{"a":1}}' }
  )
  t.match(await app.inject('/console/api/at/order/ops/order/page'), { statusCode: 502 })
})

t.test('a service elsewhere knows who signed in, and a viewer changes nothing there', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-console-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const keysFile = join(folder, 'keys')
  const keys: Record<string, string> = {}
  for (const role of ['viewer', 'operator', 'monitor']) {
    const { key, sha256 } = newKey()
    await addKey(keysFile, new Roles(), { name: `my-${role}`, role, sha256 })
    keys[role] = key
  }
  const guarded = async (more: (app: FastifyInstance, access: Access) => void) => {
    const app = Fastify()
    t.teardown(() => app.close())
    useProblems(app)
    await useHeaders(app, false)
    const sessionSecret = 'the same in all processes, which is long'
    const access = await Access.open({ keysFile, sessionSecret }, ['127.0.0.1'], keptLog())
    t.teardown(() => access.close())
    guard(app, access)
    more(app, access)
    await app.listen({ port: 0, host: '127.0.0.1' })
    return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  }
  const stock = await guarded((app) => {
    app.route({
      method: ['GET', 'POST'],
      url: '/sagas/definitions',
      schema: { permission: 'saga:read' },
      handler: ({ actor }, reply) => reply.send({ items: [], who: actor.name })
    })
  })
  const home = await guarded((app, access) =>
    registerConsole(app, [], access, { services: { stock } }, undefined)
  )
  const signIn = async (role: string) => {
    const answer = await fetch(`${home}/console/sign-in?view=sagas`, {
      method: 'POST',
      redirect: 'manual',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ key: keys[role]! })
    })
    t.equal(answer.headers.get('location'), `${home}/console/?view=sagas`)
    return answer.headers.get('set-cookie')!.split(';', 1)[0]!
  }
  const path = `${home}/console/api/at/stock/sagas/definitions`
  for (const role of ['viewer', 'operator']) {
    const cookie = `theirs=1; ${await signIn(role)}`
    t.match(await (await fetch(path, { headers: { cookie } })).json(), { who: `my-${role}` })
    const changed = await fetch(path, { method: 'POST', headers: { cookie } })
    t.equal(changed.status, role === 'viewer' ? 403 : 200, role)
  }
  for (const cookie of ['', await signIn('monitor')]) {
    const headers = { cookie }
    t.ok([401, 403].includes((await fetch(path, { headers })).status))
    t.ok([401, 403].includes((await fetch(`${home}/console/api/services`, { headers })).status))
    t.notMatch(await (await fetch(`${home}/console/`, { headers })).text(), '<script')
  }
  const page = await fetch(`${home}/console/`, { headers: { cookie: await signIn('viewer') } })
  t.match(page.headers.get('content-security-policy'), /script-src 'self';.*require-trusted-types/)
  t.match(await page.text(), '<script')
})

t.test('what happened is told as a story, by hand and by time included', (t) => {
  const at = (second: number) => new Date(second * 1000).toISOString()
  const step = { sequence: 1, msInState: 1, changed: [], note: null, from: null }
  const text = testOf(
    'my-order',
    { sagaId: 'x', state: 'failed' } as Parameters<typeof testOf>[1],
    [
      { ...step, at: at(0), event: 'Created', to: 'reserving', sent: [] },
      { ...step, at: at(1), event: 'retry', to: 'reserving', sent: [] },
      {
        ...step,
        at: at(29.5),
        event: 'after 30 s',
        to: 'failed',
        sent: [{ type: 'Release', messageId: '' }]
      }
    ]
  )
  t.match(text, "import { myOrder, Created, Release } from './…'")
  t.match(text, "  when(Created({ /* … */ }))\n    .then('reserving')")
  t.match(text, "    .advance('30s') // after 30 s\n    .then('failed', [Release])")
  t.notMatch(text, 'retry')
  t.end()
})
