// The suites of the order's saga once more, the plain way: nothing reaches into another library.
import t from 'tap'
import { QUICK_WAYS } from '../../packages/sagabox/src/quick-ways.ts'
import { goAllPlain } from '../support/quick-ways.ts'

goAllPlain()
await import('../unit/scenarios.machine.test.ts')
await import('../unit/saga-paths.test.ts')
await import('../unit/saga-versions.test.ts')
await import('../unit/histories.test.ts')
await import('../system/saga.test.ts')
await import('../system/scenarios.memory.test.ts')

// The limit of each suite is for it alone.
t.setTimeout(900_000)

t.test('all of it went the plain way', (t) => {
  for (const way of QUICK_WAYS) t.notOk(way.isOpen, way.name)
  t.end()
})
