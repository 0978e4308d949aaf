import t from 'tap'
import { backoff, Batcher, pause, type BatchFailure } from '../../src/messaging/async/batcher.ts'
import { latch } from '../../../../test/support/latch.ts'

interface Options {
  limit?: number
  work?(items: number[]): Promise<void>
  onError?(error: unknown, attempt: number): BatchFailure
}

/** A batcher that keeps what it did. */
function recording({ limit = 100, work, onError = () => 'split' }: Options) {
  const batches: number[][] = []
  const failed: number[] = []
  const batcher = new Batcher<number>({
    limit,
    onError,
    async work(items) {
      batches.push(items)
      await work?.(items)
    },
    failed: (item) => failed.push(item)
  })
  const push = (...items: number[]) => items.forEach((item) => batcher.push(item))
  return { batcher, push, batches, failed }
}

t.test('what arrives while it is busy becomes the next batch, up to the limit', async (t) => {
  const [entered, gate] = [latch(), latch()]
  const { batcher, push, batches } = recording({
    limit: 3,
    async work() {
      entered.open()
      await gate.opened
    }
  })
  push(1)
  await entered.opened
  push(2, 3, 4, 5)
  gate.open()
  await batcher.idle()
  t.same(batches, [[1], [2, 3, 4], [5]])
})

t.test('splitting finds the guilty one; the others are done, in their order', async (t) => {
  const done: number[] = []
  const { batcher, push, failed } = recording({
    async work(items) {
      if (items.includes(6)) throw new Error('six')
      done.push(...items)
    }
  })
  push(1, 2, 3, 4, 5, 6, 7, 8, 9)
  await batcher.idle()
  t.same(failed, [6])
  t.same(done, [1, 2, 3, 4, 5, 7, 8, 9])
})

t.test('a conflict is tried again with the same batch', async (t) => {
  const attempts: number[] = []
  const { batcher, push, batches, failed } = recording({
    async work() {
      if (batches.length < 3) throw new Error('conflict')
    },
    onError(_error, attempt) {
      attempts.push(attempt)
      return { retryAfterMs: 0 }
    }
  })
  push(1, 2)
  await batcher.idle()
  t.same(batches, [
    [1, 2],
    [1, 2],
    [1, 2]
  ])
  t.same(attempts, [1, 2])
  t.same(failed, [])
})

t.test("'fail' gives the whole batch up and goes on with the next", async (t) => {
  const { batcher, push, batches, failed } = recording({
    limit: 2,
    onError: () => 'fail',
    async work(items) {
      if (items.includes(1)) throw new Error('no')
    }
  })
  push(1, 2, 3)
  await batcher.idle()
  t.same(failed, [1, 2])
  t.same(batches, [[1, 2], [3]])
})

t.test('stop() finishes the running batch and gives back what had not begun', async (t) => {
  const [entered, gate] = [latch(), latch()]
  const { batcher, push, batches } = recording({
    async work() {
      entered.open()
      await gate.opened
    }
  })
  push(1)
  await entered.opened
  push(2, 3)
  const stopped = batcher.stop()
  gate.open()
  t.same(await stopped, [2, 3])
  t.same(batches, [[1]])
  t.same(await batcher.stop(), [], 'a second stop() has nothing to give')
})

t.test('stop() does not wait for a retry', async (t) => {
  const asked = latch()
  const { batcher, push, failed } = recording({
    async work() {
      throw new Error('away')
    },
    onError() {
      asked.open()
      return { retryAfterMs: 2 ** 31 - 1 }
    }
  })
  push(1)
  await asked.opened
  t.same(await batcher.stop(), [])
  t.same(failed, [1])
})

t.test('pause() ends with its signal', async (t) => {
  const stop = new AbortController()
  const paused = pause(2 ** 31 - 1, stop.signal)
  stop.abort()
  await t.resolves(paused)
  await t.resolves(pause(2 ** 31 - 1, stop.signal), 'also when it was given before')
})

t.test('backoff() doubles between half and all of its ceiling, up to the cap', async (t) => {
  for (const [attempt, ceiling] of [
    [1, 100],
    [2, 200],
    [4, 800],
    [7, 5000],
    [10_000, 5000]
  ] as const) {
    const ms = backoff(attempt, 100, 5000)
    t.ok(ms >= ceiling / 2 && ms <= ceiling, `attempt ${attempt}: ${ms}`)
  }
})
