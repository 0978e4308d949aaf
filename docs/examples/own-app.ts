// The operator routes in a fastify app of your own: node --import=tsx docs/examples/own-app.ts
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import { startSagabox } from 'sagabox'
import { operatorRoutes } from 'sagabox/fastify'
import { services } from './parcel.ts'

const key = process.env['OPERATOR_KEY'] ?? randomUUID()
const sagabox = await startSagabox({ services, dataDir: process.argv[2] ?? '.data', port: false })

const app = Fastify()
app.register(
  operatorRoutes(sagabox, {
    authorize: ({ headers }) => headers.authorization === `Bearer ${key}`
  }),
  { prefix: '/internal' }
)

for (const authorization of [`Bearer ${key}`, 'Bearer another']) {
  const answer = await app.inject({
    url: '/internal/sagas/definitions',
    headers: { authorization }
  })
  console.log(answer.statusCode, answer.body)
}
await app.close()
await sagabox.stop()
