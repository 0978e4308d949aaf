import t from 'tap'
import { Signal } from '../../src/messaging/async/signal.ts'

/** Longer than any test runs: only the signal can end a wait. */
const LONG_MS = 2 ** 31 - 1

t.test('a signal given while nobody waits is kept', async (t) => {
  const signal = new Signal()
  signal.give()
  await t.resolves(signal.wait(LONG_MS))
})

t.test('a waiting loop is woken', async (t) => {
  const signal = new Signal()
  const woken = signal.wait(LONG_MS)
  signal.give()
  await t.resolves(woken)
})

t.test('a signal given between the wake-up and its continuation is not lost', async (t) => {
  const signal = new Signal()
  let rounds = 0
  const loop = (async () => {
    for (; rounds < 2; rounds++) {
      await signal.wait(LONG_MS)
      if (rounds === 0) signal.give()
    }
  })()
  signal.give()
  await loop
  t.equal(rounds, 2)
})

t.test('any number of signals count as one', async (t) => {
  const signal = new Signal()
  signal.give()
  signal.give()
  await signal.wait(LONG_MS)
  let ended = false
  const second = signal.wait(LONG_MS).then(() => (ended = true))
  await new Promise(setImmediate)
  t.equal(ended, false)
  signal.give()
  await second
})

t.test('without a signal the wait ends by itself', async (t) => {
  await t.resolves(new Signal().wait(1))
})
