// The short version of `npm run test:faults`, which takes half an hour: every crash point on both
// transports, and one mutant for each promise.
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

/** Lost, twice, half done, oversold, forged, and stopped while it works. */
const ONE_A_PROMISE = [
  'acknowledges before the commit',
  'has no inbox',
  'publishes without mandatory',
  'deletes before the confirm',
  'reads stock, then writes it',
  'acknowledges what it gives back as it stops',
  'answers before the commit',
  'sells for any amount'
]
const chosen = ONE_A_PROMISE.map((name) => mutants.find((mutant) => mutant.name === name)!)

for (const mutant of chosen) {
  t.test(`a product that ${mutant.name} is caught: ${mutant.fault}`, async (t: Test) => {
    const { by, broken } = await hunt(t, bank, mutant, randomBy(SEED))
    t.ok(by, `one of: ${mutant.caughtBy.join(', ')}`, { broken })
  })
}
