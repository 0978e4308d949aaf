// Examples of the reference: routes. Imports are left out there.
import assert from 'node:assert/strict'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify from 'fastify'
import { Type, type Outbox, type SagaHost } from 'sagabox'
import {
  decodeCursor,
  DEFAULT_LIMIT,
  HttpProblem,
  IdempotencyHeaders,
  idempotentReplayed,
  InvalidRequest,
  linkTo,
  moveForRequest,
  notFound,
  nullable,
  operatorRoutes,
  Page,
  PageQuery,
  PRINTABLE,
  text,
  toPage,
  type FieldError,
  type OperatorRoutesOptions,
  type Running
} from 'sagabox/fastify'

const rows = [{ id: 'P-1' }, { id: 'P-2' }]

// Example: Page, PageQuery, toPage, decodeCursor, DEFAULT_LIMIT
// A list in pages: one row more than a page holds is read.
const app = Fastify().withTypeProvider<TypeBoxTypeProvider>()
app.get(
  '/parcels',
  {
    schema: {
      querystring: Type.Object(PageQuery),
      response: { 200: Page(Type.Object({ id: Type.String() })) }
    }
  },
  async ({ query: { limit = DEFAULT_LIMIT, cursor } }) => {
    const after = decodeCursor(cursor, /^P-\d+$/)
    const found = rows.filter(({ id }) => after === undefined || id > after).slice(0, limit + 1)
    return toPage(found, limit, ({ id }) => id)
  }
)
const page = (await app.inject('/parcels?limit=1')).json<{ items: unknown[]; nextCursor: string }>()
assert.deepEqual(page.items, [{ id: 'P-1' }])
const next = (await app.inject(`/parcels?limit=1&cursor=${page.nextCursor}`)).json<object>()
assert.deepEqual(next, { items: [{ id: 'P-2' }], nextCursor: null })

// Example: text, PRINTABLE, nullable
const Parcel = Type.Object({
  address: text(200, 'Where it goes'),
  note: nullable(Type.String({ pattern: PRINTABLE }))
})
assert.match(JSON.stringify(Parcel), /"maxLength":200/)

// Example: notFound, HttpProblem, InvalidRequest, FieldError
// Thrown by a route of a service, they are answered as problem documents.
const wrong: FieldError = { field: 'address', expected: 'must be in London' }
assert.equal(new InvalidRequest('body', [wrong]).status, 400)
assert.equal(notFound('parcel P-9').message, 'There is no parcel P-9')
assert.equal(new HttpProblem(409, 'P-1 is on its way').status, 409)

// Example: IdempotencyHeaders, idempotentReplayed
// In the schema of a route that is done once for each key.
const schema = {
  headers: IdempotencyHeaders,
  response: { 202: { type: 'null', headers: idempotentReplayed } }
}
assert.equal(Object.keys(schema.headers.properties)[0], 'idempotency-key')

// Example: linkTo
// A path as clients have to ask for it, also behind a proxy that takes a prefix away.
assert.equal(linkTo(app, '/parcels/P-1'), '/parcels/P-1')

// Example: moveForRequest
/** Cancels an instance for a request: 404 by undefined, 400 or 409 by what is thrown. */
const cancelParcel = (outbox: Outbox, host: SagaHost, parcelId: string) =>
  moveForRequest(outbox, (tx) => host.ask(tx, parcelId, { type: 'CancelParcel' }))
assert.equal(cancelParcel.length, 3)

// Example: operatorRoutes, OperatorRoutesOptions, Running
// In an app of your own: `running` is what startSagabox answered.
function mounted(running: Running) {
  const options: OperatorRoutesOptions = {
    authorize: ({ headers }) => headers.authorization === `Bearer ${process.env['OPERATOR_KEY']}`
  }
  return Fastify().register(operatorRoutes(running, options), { prefix: '/internal' })
}
assert.equal((await mounted({ services: [] }).inject('/internal/health/live')).statusCode, 403)

// End of examples
