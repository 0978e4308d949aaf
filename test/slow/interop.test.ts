// Beside services by MassTransit, in short: the mixtures and journeys that prove most. All of them:
// npm run test:interop. Without a .NET SDK there is nothing to be beside: recorded envelopes are
// read in packages/sagabox/test/unit/masstransit-fixtures.test.ts everywhere.
import t from 'tap'
import { borderMatrix, combination, shopMatrix } from '../interop/matrix.ts'
import { crossings } from '../interop/border.ts'
import { buildDotnet, hasDotnet } from '../interop/dotnet.ts'
import { journeys } from '../interop/journeys.ts'

t.setTimeout(1_200_000)

const SHORT = [
  'completed',
  'declined',
  'out of stock',
  'twice',
  'trace',
  'a consumer throws',
  'broken, unknown',
  'swap'
]

if (!hasDotnet()) t.pass('There is no dotnet on the path: nothing is run beside .NET here.')
else {
  buildDotnet()
  t.test('orders go through services by .NET and by Sagabox', async (t) => {
    const columns = journeys.filter(({ name }) => SHORT.includes(name))
    const { table, reasons } = await shopMatrix(['sds', 'dsd'].map(combination), columns)
    t.comment(table)
    t.same(reasons, [])
  })
  t.test('requests, faults and names cross the border', async (t) => {
    const { table, reasons } = await borderMatrix(crossings)
    t.comment(table)
    t.same(reasons, [])
  })
}
