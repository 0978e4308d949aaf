// The suites of transports, transactions and sagas once more, the plain way: nothing reaches into
// another library.
import t from 'tap'
import { QUICK_WAYS } from '../../src/quick-ways.ts'
import { goAllPlain } from '../../../../test/support/quick-ways.ts'

goAllPlain()
await import('../postgres/conformance.memory.test.ts')
await import('../broker/conformance.rabbitmq.test.ts')
await import('../postgres/transaction.test.ts')
await import('../unit/saga-wildcards.test.ts')
await import('../postgres/saga-by-hand.test.ts')

// The limit of each suite is for it alone.
t.setTimeout(900_000)

t.test('all of it went the plain way', (t) => {
  for (const way of QUICK_WAYS) t.notOk(way.isOpen, way.name)
  t.end()
})
