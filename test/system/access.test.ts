import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { Access } from '../../packages/sagabox/src/access/access.ts'
import { addKey, newKey } from '../../packages/sagabox/src/access/key-file.ts'
import { Roles } from '../../packages/sagabox/src/access/roles.ts'
import { roles as shopRoles } from '../../src/roles.ts'
import { Api } from '../support/api.ts'
import { until } from '../support/until.ts'
import { keptLog } from '../support/kept-log.ts'
import { startSystem } from '../support/system.ts'

const roles = new Roles(shopRoles)
const PEOPLE = {
  ada: 'customer',
  bob: 'customer',
  carl: 'clerk',
  vera: 'viewer',
  otto: 'operator',
  anna: 'admin',
  mona: 'monitor'
}
type Person = keyof typeof PEOPLE

/** The shop, with a key for each of them. */
async function guardedShop(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const keysFile = join(folder, 'keys')
  const keys = {} as Record<Person, string>
  for (const [name, role] of Object.entries(PEOPLE)) {
    const { key, sha256 } = newKey()
    await addKey(keysFile, roles, { name, role, sha256 })
    keys[name as Person] = key
  }
  const access = await Access.open({ keysFile, roles: shopRoles }, ['127.0.0.1'], keptLog())
  const { system, api } = await startSystem(t, 'memory', { access })
  const ask = (who: Person | undefined, method: string, path: string, body?: unknown, more = {}) =>
    api.call(method, path, body, { ...(who && { authorization: `Bearer ${keys[who]}` }), ...more })
  return { system, api, ask, keys }
}

interface Route {
  method: string
  path: string
  permission: string
}

/** Every route that is documented, with made-up ids. */
function routesOf({
  paths
}: {
  paths: Record<string, Record<string, Record<string, string>>>
}): Route[] {
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: path.replaceAll(/\{(\w+)\}/g, (_, name) =>
        name === 'id' ? '1' : name === 'productId' ? 'none' : '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
      ),
      permission: operation['x-permission']!
    }))
  )
}

t.test('every route: without a key, with a wrong one, and by role', async (t) => {
  const { ask, api } = await guardedShop(t)
  const { body: document } = await ask('anna', 'GET', '/openapi.json')
  const routes = routesOf(document)
  t.ok(routes.length > 30)
  for (const { method, path, permission } of routes) {
    const route = `${method} ${path}`
    t.type(permission, 'string', `${route} names a permission`)
    const stranger = await ask(undefined, method, path, method === 'GET' ? undefined : {})
    const wrong = await api.call(method, path, undefined, {
      authorization: `Bearer ${newKey().key}`
    })
    t.match(
      wrong,
      { status: 401, body: { detail: 'This key is not known' } },
      `${route}: wrong key`
    )
    if (permission === 'public') t.not(stranger.status, 401, `${route} is open`)
    else t.match(stranger, { status: 401, body: { status: 401 } }, `${route}: no key`)
    for (const [name, role] of Object.entries(PEOPLE)) {
      const { status } = await ask(name as Person, method, path, method === 'GET' ? undefined : {})
      const isRefused = status === 401 || status === 403
      t.equal(isRefused, !roles.allow([role], permission), `${route}: ${role} (${status})`)
    }
  }
  for (const path of ['/docs/', '/openapi.json', '/docs/static/index.html']) {
    t.equal((await ask(undefined, 'GET', path)).status, 401, path)
    t.equal((await ask('vera', 'GET', path)).status, 200, path)
  }
})

t.test('an order belongs to who placed it, and to others it is not there', async (t) => {
  const { ask } = await guardedShop(t)
  const product = { name: 'Lamp', unitPrice: 100, currency: 'EUR', onHand: 10 }
  t.equal((await ask('carl', 'PUT', '/products/lamp', product)).status, 201)
  t.equal(
    (await ask('ada', 'PATCH', '/products/lamp', { unitPrice: 0 })).status,
    403,
    'no prices of their own'
  )
  const order = {
    customerId: 'ada',
    items: [{ productId: 'lamp', quantity: 1 }],
    paymentMethod: 'pm_card_visa'
  }
  const key = { 'idempotency-key': 'one' }
  const placed = await ask('ada', 'POST', '/orders', order, key)
  const { orderId } = placed.body
  t.equal(placed.status, 202)
  t.match((await ask('ada', 'POST', '/orders', order, key)).body, { orderId }, 'the same again')
  const others = await ask('bob', 'POST', '/orders', order, key)
  t.equal(others.status, 202)
  t.not(others.body.orderId, orderId, 'the same key of somebody else is another key')
  t.equal((await ask('bob', 'POST', '/orders', { ...order, customerId: 'bob' }, key)).status, 422)

  t.equal((await ask('ada', 'GET', `/orders/${orderId}`)).status, 200)
  t.equal((await ask('carl', 'GET', `/orders/${orderId}`)).status, 200)
  const theirs = await ask('bob', 'GET', `/orders/${orderId}`)
  const none = await ask('bob', 'GET', '/orders/01a204b8-b63e-7263-8cc6-45323f1f4dcf')
  t.equal(theirs.status, 404)
  t.same(Object.keys(theirs.body), Object.keys(none.body), 'as if there were none')
  t.equal((await ask('bob', 'POST', `/orders/${orderId}/cancel`)).status, 404)
  t.same(
    (await ask('bob', 'GET', '/orders')).body.items.map((one: { orderId: string }) => one.orderId),
    [others.body.orderId]
  )
  t.same((await ask('ada', 'GET', '/orders?status=Completed&limit=1')).body.items.length <= 1, true)
  t.equal((await ask('carl', 'GET', '/orders')).body.items.length, 2)
  t.notOk(
    'owner' in (await ask('carl', 'GET', `/orders/${orderId}`)).body,
    'nobody is told whose it is'
  )
  t.equal((await ask(undefined, 'GET', '/products/lamp')).status, 200, 'the shop window is open')
})

t.test('strangers are told nothing but up or down', async (t) => {
  const { ask } = await guardedShop(t)
  t.same((await ask(undefined, 'GET', '/health/live')).body, { status: 'live' })
  const ready = async () => (await ask(undefined, 'GET', '/health/ready')).status === 200
  await until('it is ready', ready)
  t.same((await ask(undefined, 'GET', '/health/ready')).body, { status: 'ready' })
  t.same((await ask('ada', 'GET', '/health/ready')).body, { status: 'ready' })
  t.match((await ask('mona', 'GET', '/health/ready')).body, {
    status: 'ready',
    services: { order: { database: 'ok' } }
  })
  const { headers } = await ask(undefined, 'GET', '/health/live')
  for (const [name, value] of Object.entries({
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none';frame-ancestors 'none'",
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin'
  }))
    t.equal(headers.get(name), value)
  t.equal(headers.get('x-powered-by'), null)
  t.equal(headers.get('access-control-allow-origin'), null)
})

t.test('pages elsewhere may ask only when they are named', async (t) => {
  const { api } = await startSystem(t, 'memory', {
    app: { corsOrigins: ['https://admin.example'] }
  })
  const preflight = (origin: string) =>
    api.call('OPTIONS', '/orders', undefined, { origin, 'access-control-request-method': 'POST' })
  t.equal(
    (await preflight('https://admin.example')).headers.get('access-control-allow-origin'),
    'https://admin.example'
  )
  t.not(
    (await preflight('https://evil.example')).headers.get('access-control-allow-origin'),
    'https://evil.example'
  )
  t.equal((await api.call('POST', '/orders', {}, { origin: 'https://evil.example' })).status, 403)
  t.equal(
    (await api.call('POST', '/orders', {}, { origin: 'https://admin.example' })).status,
    400,
    'let in, and looked at'
  )
})

t.test(
  'operators may have a listener of their own, and nothing of theirs is on the other',
  async (t) => {
    const { system, api } = await startSystem(t, 'memory', {
      operators: { host: '127.0.0.1', port: 0 }
    })
    const { address, port } = system.operators!.server.address() as AddressInfo
    const theirs = new Api(`http://${address}:${port}`)
    for (const path of ['/sagas', '/ops/order/outbox', '/docs/', '/console/', '/openapi.json']) {
      t.equal((await api.call('GET', path)).status, 404, `${path} is not there`)
      t.equal((await theirs.call('GET', path)).status, 200, `${path} is here`)
    }
    t.equal((await api.call('GET', '/orders')).status, 200)
    t.equal((await theirs.call('GET', '/orders')).status, 404)
    for (const one of [api, theirs]) t.equal((await one.call('GET', '/health/live')).status, 200)
  }
)
