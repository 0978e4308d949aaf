// `npm run test:interop`: every mixture of services by .NET and by Sagabox through every journey.
// --sides dss,sdd   which are by .NET (d) and which by Sagabox (s): order, stock, payment
// --only declined   journeys whose names hold this
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/postgres.ts'
import { startRabbitMQ } from '../support/rabbitmq.ts'
import { createTemplate } from '../support/template.ts'
import { buildDotnet } from './dotnet.ts'
import { journeys } from './journeys.ts'
import { combination, combinations, runMatrix } from './matrix.ts'

const { values } = parseArgs({ options: { sides: { type: 'string' }, only: { type: 'string' } } })
buildDotnet()
const [postgres, rabbitmq] = await Promise.all([startPostgres(), startRabbitMQ()])
process.env['TEST_DATABASE_URL'] = postgres.url
process.env['TEST_DATABASE_TEMPLATE'] = await createTemplate(postgres.url)
process.env['TEST_RABBITMQ_URL'] = rabbitmq.url
process.env['TEST_RABBITMQ_MANAGEMENT_URL'] = rabbitmq.managementUrl
const matrix = await runMatrix(
  values.sides?.split(',').map(combination) ?? combinations(),
  journeys.filter(({ name }) => name.includes(values.only ?? ''))
)
console.log(matrix.table)
await Promise.all([postgres.stop(), rabbitmq.stop()])
process.exit(matrix.failed > 0 ? 1 : 0)
