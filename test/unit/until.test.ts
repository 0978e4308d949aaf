import t from 'tap'
import { Patience, slowness } from '../support/patience.ts'
import { until } from '../support/until.ts'

t.test('patience ends by lack of progress, and later on a busy machine', async (t) => {
  let now = 0
  let slow = 1
  const patience = new Patience(
    60_000,
    () => slow,
    () => now
  )
  const after = (ms: number, mark?: unknown) => {
    now += ms
    return patience.isOver(mark)
  }
  t.notOk(after(59_000, 'a'))
  t.notOk(after(59_000, 'b'), 'something has moved')
  slow = 5
  t.notOk(after(290_000, 'b'), '58 s of a busy machine')
  slow = 1
  t.notOk(after(1000, 'b'))
  t.ok(after(1001, 'b'))
  t.match(String(patience), '410 s (60 s count; everything is 1.0 times slower than usual)')
})

t.test('how slow everything is', async (t) => {
  t.same(
    [
      [0, 2],
      [4, 2],
      [10, 2],
      [20, 2],
      [500, 2],
      [10, 16]
    ].map(([load, cores]) => slowness(load, cores)),
    [1, 1, 2.5, 5, 8, 1]
  )
})

t.test('whoever waited in vain reads what had happened', async (t) => {
  let answered = 0
  const waiting = until(
    '33 orders are answered',
    async () => {
      if (answered < 3) answered++
      return false
    },
    { limitMs: 20, progress: () => `${answered} answered`, tell: () => 'the last refusal: 503' }
  )
  await t.rejects(waiting, {
    message:
      /^Waited 0\.02 s in vain until 33 orders are answered: looked \d+ times in .*\nit had come to 3 answered\nthe last refusal: 503$/
  })
  t.equal(await until('at once', async () => 7), 7)
})
