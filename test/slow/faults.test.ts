// The short version of `npm run test:faults`: every crash point on both transports, and every
// mutant that is caught soon.
import t, { type Test } from 'tap'
import { Bank } from '../faults/bank.ts'
import { allCrashPoints } from '../faults/crash-points.ts'
import { play, randomBy } from '../faults/fault.ts'
import { hunt, mutants } from '../faults/mutants.ts'

const SEED = 1

t.setTimeout(1_500_000)
// Most of what follows is waiting: for processes to start, for claims of dead ones to run out.
t.jobs = 3

const bank = new Bank(t)

for (const transport of allCrashPoints.transports) {
  t.test(`${allCrashPoints.name}: ${transport}`, async (t: Test) => {
    const { broken, completed } = await play(t, allCrashPoints, {
      bank,
      transport,
      random: randomBy(SEED),
      patience: 120_000
    })
    t.same(broken, [])
    t.ok(completed > 20, 'enough of the orders went well')
  })
}

for (const mutant of mutants.filter(({ isSlow }) => !isSlow)) {
  t.test(`a product that ${mutant.name} is caught: ${mutant.fault}`, async (t: Test) => {
    const { by, broken } = await hunt(t, bank, mutant, randomBy(SEED))
    t.ok(by, `one of: ${mutant.caughtBy.join(', ')}`, { broken })
  })
}
