// `npm run test:interop`: every mixture of services by .NET and by Sagabox through every journey.
// --border          what crosses besides orders, alone
// --sides dss,sdd   orders alone: which are by .NET (d) and which by Sagabox (s): order, stock, payment
// --only declined   journeys whose names hold this
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/postgres.ts'
import { startRabbitMQ } from '../support/rabbitmq.ts'
import { createTemplate } from '../support/template.ts'
import { crossings } from './border.ts'
import { buildDotnet } from './dotnet.ts'
import { journeys } from './journeys.ts'
import { borderMatrix, combination, combinations, shopMatrix } from './matrix.ts'

const { values } = parseArgs({
  options: { border: { type: 'boolean' }, sides: { type: 'string' }, only: { type: 'string' } }
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
buildDotnet()
const [postgres, rabbitmq] = await Promise.all([startPostgres(), startRabbitMQ()])
process.env['TEST_DATABASE_URL'] = postgres.url
process.env['TEST_DATABASE_TEMPLATE'] = await createTemplate(postgres.url)
process.env['TEST_RABBITMQ_URL'] = rabbitmq.url
process.env['TEST_RABBITMQ_MANAGEMENT_URL'] = rabbitmq.managementUrl
const wanted = <T extends { name: string }>(all: readonly T[]) =>
  all.filter(({ name }) => name.includes(values.only ?? ''))
const rows = values.sides?.split(',').map(combination) ?? combinations()
const matrices = [
  ...(values.border ? [] : [await shopMatrix(rows, wanted(journeys))]),
  ...(values.sides !== undefined ? [] : [await borderMatrix(wanted(crossings))])
]
const reasons = matrices.flatMap((matrix) => matrix.reasons)
console.log(['', ...matrices.map(({ table }) => table), ...reasons].join('\n\n'))
await Promise.all([postgres.stop(), rabbitmq.stop()])
process.exit(reasons.length > 0 ? 1 : 0)
