// The operators' routes in a fastify app that is somebody else's.
import { randomUUID } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { ignore } from '../../src/saga/define.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { Type } from '../../src/index.ts'
import { operatorRoutes } from '../../src/service/operator-routes.ts'
import { defineService } from '../../src/service/define.ts'
import { startSagabox } from '../../src/service/start.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { testLog } from '../../../../test/support/system.ts'

t.setTimeout(120_000)

const Id = Type.String({ format: 'uuid' })

function sagaOf(name: string) {
  const own = contracts(name, { correlateBy: 'id' })
  const Begun = own.event(`${name}-begun`, { id: Id })
  const Done = own.event(`${name}-done`, { id: Id })
  const saga = defineSaga(name, { startedBy: Begun, handles: [Done] }, () => ({
    initial: 'waiting',
    states: {
      waiting: { on: { [`${name}-done`]: 'ended' }, after: { '1h': 'ended' } },
      ended: { tags: 'end', on: { [`${name}-done`]: ignore('ended') } }
    }
  }))
  return { saga, Begun, service: defineService(name, { sagas: [saga] }) }
}

async function start(t: Test, name: string) {
  const { service, saga, Begun } = sagaOf(name)
  const databaseUrl = await (await postgresForTests()).createDatabase(name)
  const options = { databaseUrl, port: false, signals: false, log: testLog } as const
  const app = await startSagabox({ services: [service], ...options })
  t.teardown(() => app.stop())
  const id = randomUUID()
  await app.publish(Begun({ id }))
  return { app, saga, id }
}

/** A plain app with routes, a validator, a 404 and an error handler of its own. */
function plainApp(t: Test): FastifyInstance {
  const app = Fastify({ bodyLimit: 100 })
  t.teardown(() => app.close())
  app.setErrorHandler((error: Error, _request, reply) =>
    reply.code(418).send({ mine: error.message })
  )
  app.setNotFoundHandler((_request, reply) => reply.code(404).send({ mine: 'not found' }))
  const schema = { body: { type: 'object', properties: { count: { type: 'integer' } } } }
  app.post('/count', { schema }, async ({ body }) => body)
  return app
}

const everybody = { authorize: () => true }

async function started(app: FastifyInstance, url: string): Promise<void> {
  for (;;) if ((await app.inject(url)).statusCode === 200) return
}

t.test('the console comes along, below the prefix, for those who may', async (t) => {
  const { app: sagabox, id } = await start(t, 'gate')
  const app = plainApp(t)
  const options = {
    authorize: ({ headers }: { headers: Record<string, unknown> }) =>
      headers['cookie'] === 'mine=1',
    console: { label: 'test' }
  }
  app.register(operatorRoutes(sagabox, options), { prefix: '/internal' })
  const headers = { cookie: 'mine=1' }
  const asked = (path: string) => app.inject({ url: `/internal/console${path}`, headers })
  const own = `/api/at/gate/sagas/gate/${id}`
  for (;;) if ((await asked(own)).statusCode === 200) break
  t.match((await asked(own)).json(), { sagaId: id })
  t.match((await asked('/api/services')).json(), {
    label: 'test',
    services: [{ name: 'gate', sagas: ['gate'] }]
  })
  t.match(await asked(''), { statusCode: 302, headers: { location: 'console/' } })
  const page = await asked('/?view=sagas')
  t.match(page.headers['content-security-policy'], /script-src 'self'/)
  const [, script] = /src="(assets[^"]+)"/.exec(page.body)!
  t.match(await asked(`/${script}`), { statusCode: 200, headers: { 'content-type': /javascript/ } })
  for (const path of ['/', own, '/api/services'])
    t.match(await app.inject(`/internal/console${path}`), { statusCode: 403 }, path)
  t.match((await app.inject('/nowhere')).json(), { mine: 'not found' })
})

t.test('they work in a plain app, which stays as it is', async (t) => {
  const { app: sagabox, id } = await start(t, 'lift')
  t.equal(sagabox.url, '', 'nothing listens')
  const app = plainApp(t)
  app.register(operatorRoutes(sagabox, everybody))
  await started(app, `/sagas/${id}`)
  t.match((await app.inject('/sagas')).json(), { items: [{ sagaId: id, state: 'waiting' }] })
  t.match((await app.inject('/sagas/lift?limit=1')).json(), { items: [{ sagaId: id }] })
  t.match((await app.inject('/sagas/definitions')).json(), { items: [{ name: 'lift' }] })
  t.match((await app.inject('/ops/lift/outbox')).json(), { putOff: [] })
  t.match((await app.inject('/ops/lift/dead-letters')).json(), { items: [] })
  t.match((await app.inject('/health/ready')).json(), { status: 'ready' })

  const invalid = await app.inject('/sagas?limit=none')
  t.match(invalid.headers['content-type'], /^application\/problem\+json/)
  t.match(invalid.json(), { status: 400, errors: [{ field: 'limit' }] })
  t.match((await app.inject('/sagas/nobody')).json(), {
    status: 400,
    errors: [{ field: 'sagaId' }]
  })
  t.match((await app.inject(`/sagas/${randomUUID()}`)).json(), { status: 404, title: 'Not Found' })
  const strict = { method: 'POST', url: '/ops/lift/dead-letters/retry' } as const
  const text = await app.inject({ ...strict, payload: { why: 'mended', perSecond: '5' } })
  t.match(text.json(), { errors: [{ field: 'perSecond' }] }, 'no text for a number')
  const began = await app.inject({ ...strict, payload: { why: 'mended', reason: 'x'.repeat(200) } })
  t.equal(began.statusCode, 202, 'bodies are as long as they may be here')
  t.match(began.headers.location, /^\/ops\/lift\/dead-letters\/retries\/\d+$/)

  const count = await app.inject({ method: 'POST', url: '/count', payload: { count: '5' } })
  t.same(count.json(), { count: 5 }, 'the app has its own validator')
  const bad = await app.inject({ method: 'POST', url: '/count', payload: { count: 'x' } })
  t.match(bad, { statusCode: 418 })
  t.same((await app.inject('/nowhere')).json(), { mine: 'not found' })
})

t.test('two systems in one app, each below a prefix', async (t) => {
  const app = plainApp(t)
  const [crane, winch] = [await start(t, 'crane'), await start(t, 'winch')]
  app.register(operatorRoutes(crane.app, everybody), { prefix: '/a' })
  app.register(operatorRoutes(winch.app, everybody), { prefix: '/b/ops' })
  await started(app, `/a/sagas/${crane.id}`)
  await started(app, `/b/ops/sagas/winch/${winch.id}`)
  t.match((await app.inject('/a/sagas/definitions')).json(), { items: [{ name: 'crane' }] })
  t.match((await app.inject(`/a/sagas/${winch.id}`)).statusCode, 404)
  const retry = {
    method: 'POST',
    url: '/b/ops/ops/winch/dead-letters/retry',
    payload: { why: 'mended' }
  } as const
  const { headers } = await app.inject(retry)
  t.match(headers.location, /^\/b\/ops\/ops\/winch\/dead-letters\/retries\/\d+$/)
  t.match((await app.inject(String(headers.location))).json(), { state: /running|done/ })
})

t.test('nobody may unless authorize says so', async (t) => {
  const { app: sagabox } = await start(t, 'hoist')
  const answers = async (options?: Parameters<typeof operatorRoutes>[1]) => {
    const app = plainApp(t)
    app.register(operatorRoutes(sagabox, options), { prefix: '/in' })
    const asked = ['/in/sagas', '/in/sagas/definitions', '/in/ops/hoist/outbox', '/in/health/live']
    const found = []
    for (const url of asked)
      found.push(await app.inject({ url, headers: { authorization: 'Bearer right' } }))
    return found
  }
  for (const answer of await answers())
    t.match(answer.json(), { status: 403, detail: /was given no authorize/ })
  for (const answer of await answers({ authorize: async () => undefined as never }))
    t.match(answer.json(), { status: 403, detail: 'You may not look after these services' })
  const unknown = Object.assign(new Error('who are you?'), { statusCode: 401 })
  for (const answer of await answers({ authorize: () => Promise.reject(unknown) }))
    t.match(answer.json(), { status: 401, detail: 'who are you?' })
  const byKey = { authorize: ({ headers }: { headers: object }) => 'authorization' in headers }
  for (const answer of await answers(byKey)) t.equal(answer.statusCode, 200)
})
