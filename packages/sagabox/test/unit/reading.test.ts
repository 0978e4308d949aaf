import t from 'tap'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { explain } from '../../src/messaging/message/validation.ts'
import { MOST_BYTES_IN_HAND, Reading } from '../../src/messaging/transport/reading.ts'
import type { Delivery } from '../../src/messaging/transport/transport.ts'
import { Turns } from '../../src/messaging/async/turns.ts'

const MiB = 1024 * 1024
const turn = () => new Promise(setImmediate)

/** Of so many bytes; `settled` says how. */
function delivery(bytes: number): Delivery & { settled?: string } {
  const one: Delivery & { settled?: string } = {
    payload: Buffer.alloc(bytes),
    contentType: undefined,
    messageId: undefined,
    headers: {},
    redeliveries: 0,
    ack: () => (one.settled = 'ack'),
    requeue: () => (one.settled = 'requeue')
  }
  return one
}

t.test('small messages are read as they arrive, in order', async (t) => {
  const reading = new Reading()
  const sizes: number[] = []
  for (const size of [10, 20, 30])
    reading.take(delivery(size), ({ payload }) => sizes.push(payload.length))
  t.same(sizes, [10, 20, 30])
})

t.test(
  'of large ones one is read in a turn of the event loop, whoever receives them',
  async (t) => {
    const consumers = [new Reading(), new Reading(), new Reading()]
    const read: string[] = []
    for (const [index, reading] of consumers.entries()) {
      for (let count = 0; count < 2; count++) {
        reading.take(delivery(MiB), (one) => {
          read.push(`consumer ${index}`)
          one.ack()
        })
      }
    }
    t.same(read, [], 'none at once')
    for (let turns = 1; turns <= 20 && read.length < 6; turns++) {
      await turn()
      t.ok(read.length <= turns, `${read.length} in ${turns} turns`)
    }
    t.same(
      read,
      [0, 1, 2, 0, 1, 2].map((index) => `consumer ${index}`),
      'they take turns'
    )
  }
)

t.test('no more are in hand than fit in memory', async (t) => {
  const reading = new Reading()
  const inHand = new Set<Delivery>()
  const sent = Array.from({ length: 200 }, () => delivery(MiB))
  let most = 0
  for (const one of sent) {
    reading.take(one, (counted) => {
      inHand.add(counted)
      most = Math.max(most, inHand.size)
    })
  }
  for (let settled = 0; settled < sent.length;) {
    for (let turns = 0; turns < 5; turns++) await turn()
    for (const counted of inHand) {
      inHand.delete(counted)
      if (settled++ % 2 === 0) counted.ack()
      else counted.requeue()
      counted.ack() // Once more: it makes room once.
    }
  }
  t.equal(most, MOST_BYTES_IN_HAND / MiB)
  t.equal(sent.filter(({ settled }) => settled !== undefined).length, 200)
})

t.test('a message larger than all that may be in hand is read, alone', async (t) => {
  const reading = new Reading()
  const read: Delivery[] = []
  for (const bytes of [5 * MiB, MiB]) reading.take(delivery(bytes), (one) => read.push(one))
  for (let turns = 0; turns < 5; turns++) await turn()
  t.equal(read.length, 1)
  read[0]!.ack()
  for (let turns = 0; turns < 5; turns++) await turn()
  t.equal(read.length, 2)
})

t.test('small ones overtake what has to wait for room', async (t) => {
  const reading = new Reading()
  const read: number[] = []
  for (const bytes of [2 * MiB, 2 * MiB, 10]) {
    reading.take(delivery(bytes), ({ payload }) => read.push(payload.length))
  }
  for (let turns = 0; turns < 5; turns++) await turn()
  t.same(read, [2 * MiB, 10])
})

t.test('what was not read is given back, and never read', async (t) => {
  const reading = new Reading()
  const sent = [delivery(MiB), delivery(MiB)]
  for (const one of sent) reading.take(one, () => t.fail('read after the stop'))
  t.same(reading.stop(), sent)
  for (let turns = 0; turns < 3; turns++) await turn()
})

t.test('bytes that many small ones have together count, too', async (t) => {
  const turns = new Turns(100)
  t.ok(turns.isFree(60))
  t.notOk(turns.isFree(60))
  t.ok(turns.isFree(40))
  const done: number[] = []
  for (const bytes of [60, 60, 500, 10]) turns.later(bytes, () => done.push(bytes))
  t.notOk(turns.isFree(1), 'nobody overtakes those that wait')
  await turn()
  t.same(done, [60])
  await turn()
  t.same(done, [60, 60])
  await turn()
  t.same(done, [60, 60, 500], 'what is larger than a turn has one to itself')
  await turn()
  t.same(done, [60, 60, 500, 10])
  await turn()
  t.ok(turns.isFree(60))
})

t.test('what is wrong with a huge value is found without walking it', async (t) => {
  const item = Type.Object(
    { name: Type.String(), count: Type.Integer() },
    { additionalProperties: false }
  )
  const schema = Type.Object(
    { items: Type.Array(item, { maxItems: 100 }) },
    { additionalProperties: false }
  )
  const compiled = Compile(schema)
  let looks = 0
  const looked = () => ({
    get name() {
      looks++
      return 1
    }
  })
  const items = Array.from({ length: 50_000 }, looked)
  const problems = explain(compiled, schema, { items })
  t.match(problems[0], { field: '.items[0].count', expected: 'is required' })
  t.ok(looks < 1000, `${looks} of 50,000 items were looked at`)
  t.ok(problems.length <= 8)

  const unknown = Object.fromEntries(
    Array.from({ length: 120_000 }, (_, index) => [`key${index}`, index])
  )
  const fields = explain(compiled, schema, { ...unknown, items: [{ name: 'a', count: 1 }] }).map(
    ({ field }) => field
  )
  t.same(
    fields,
    Array.from({ length: 8 }, (_, index) => `.key${index}`),
    'a few are named, and nothing that is there is missed'
  )
  t.match(
    explain(compiled, schema, {
      items: Array.from({ length: 50_000 }, () => ({ name: 'a', count: 1 }))
    }),
    [{ field: '.items' }]
  )

  const [long] = explain(compiled, schema, { ['k'.repeat(100_000)]: 1, items: [] })
  t.ok(long!.field.length < 200, 'a long name is cut')
  let nested: unknown = []
  for (let depth = 0; depth < 200_000; depth++) nested = [nested]
  t.match(
    explain(compiled, schema, { deep: nested, items: [] }),
    [{ field: '.deep' }],
    'depth is no danger'
  )
  const open = Type.Object({ list: Type.Array(Type.Integer()) })
  const late = Array.from({ length: 5000 }, (_, index) => (index === 4000 ? 'x' : index))
  t.match(explain(Compile(open), open, { list: late }), [
    { field: '', expected: /not among its first 101 parts/ }
  ])
})
