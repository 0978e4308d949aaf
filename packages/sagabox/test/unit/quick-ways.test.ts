import t from 'tap'
import { createMachine, StateMachine } from 'xstate'
import { PLANS, QuickWay } from '../../src/quick-ways.ts'
import { probePlans } from '../../src/saga/machine/probe-plans.ts'
import { begin, step } from '../../src/saga/machine/step.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { toldOfWays } from '../../../../test/support/quick-ways.ts'

t.test('a probe that is not content closes the way, and one line says so', (t) => {
  const log = keptLog()
  const way = new QuickWay('short-cut', 'garden')
  let probes = 0
  const look = () => {
    probes++
    throw new Error('a fence stands there')
  }
  t.ok(way.isOpen)
  for (let services = 0; services < 3; services++) way.probe(look).tell(log)
  t.notOk(way.isOpen)
  t.equal(probes, 1)
  t.match(toldOfWays(log), [
    { way: 'short-cut', library: 'garden', reason: 'a fence stands there' }
  ])
  t.equal(toldOfWays(log).length, 1)
  t.end()
})

t.test('a way that is as expected, or switched off, is not talked about', (t) => {
  const log = keptLog()
  const [good, off] = [new QuickWay('a', 'x'), new QuickWay('b', 'y')]
  off.isSwitchedOff = true
  for (const way of [good, off]) way.probe(() => {}).tell(log)
  t.ok(good.isOpen)
  t.notOk(off.isOpen)
  t.same(toldOfWays(log), [])
  t.end()
})

t.test('where XState is not as expected, it makes all moves itself', (t) => {
  const log = keptLog()
  const { resolveState } = StateMachine.prototype
  // Another version, whose snapshots keep their tags elsewhere until XState asks.
  t.intercept(StateMachine.prototype, 'resolveState', {
    value(this: never, config: never) {
      return { ...resolveState.call(this, config), tags: new Set() }
    }
  })
  PLANS.probe(probePlans).tell(log)
  PLANS.probe(probePlans).tell(log)
  t.match(toldOfWays(log), [
    { way: 'plans', library: 'xstate', reason: /a plan does otherwise at IN/ }
  ])
  t.equal(toldOfWays(log).length, 1)
  const machine = createMachine({
    initial: 'a',
    states: { a: { on: { A: 'b' } }, b: { tags: 'kept', on: { B: 'b' } } }
  })
  const next = step(machine, begin(machine, {}).snapshot, { type: 'A' })
  t.match(next, { from: 'a', to: 'b', decision: 'handled' })
  t.ok(next.snapshot.hasTag('kept'))
  t.end()
})
