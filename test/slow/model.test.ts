import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { postgresForTests } from '../support/postgres.ts'
import type { ModelCase } from '../model/case.ts'
import { Reference, type Rest } from '../model/reference.ts'
import { describe, search } from '../model/search.ts'
import { World } from '../model/world.ts'

/** `npm run test:model` does more, for as long as it is told to. */
const RUNS = 50

t.setTimeout(240_000)

t.test('the reference tells what is wrong with an order', async (t) => {
  const paid: Rest = {
    saga: 'Completed',
    status: 'Completed',
    reason: null,
    reservation: 'Reserved',
    payment: { status: 'Completed', amount: 2000, refunded: 0 },
    account: { charges: 1, refunds: 0, net: 2000 },
    replays: true,
    appliedAgain: []
  }
  const refunded: Rest = {
    ...paid,
    saga: 'Failed.settled',
    status: 'Failed',
    reason: 'DeadlineExceeded',
    reservation: 'Released',
    payment: { status: 'Refunded', amount: 2000, refunded: 2000 },
    account: { charges: 1, refunds: 1, net: 0 }
  }
  const judge = (rest: Rest) => {
    const reference = new Reference({
      stock: 2,
      orders: [{ product: 'known', quantity: 2, method: 'pm_card_visa' }],
      events: [{ do: 'place', order: 0 }]
    })
    reference.deadline(0)
    return reference.order(0, rest).length
  }
  t.equal(judge(paid), 0)
  t.equal(judge(refunded), 0)
  const wrong: [string, Rest][] = [
    ['waits for ever', { ...paid, saga: 'Suspend.takingPayment', status: 'Suspend' }],
    ['ended for no reason', { ...refunded, reason: 'OutOfStock' }],
    ['saga and order differ', { ...refunded, saga: 'Completed' }],
    ['sold what was released', { ...paid, reservation: 'Released' }],
    ['kept stock', { ...refunded, reservation: 'Reserved' }],
    ['never paid', { ...paid, payment: undefined, account: { charges: 0, refunds: 0, net: 0 } }],
    ['paid too little', { ...paid, payment: { status: 'Completed', amount: 1000, refunded: 0 } }],
    ['charged twice', { ...paid, account: { charges: 2, refunds: 0, net: 4000 } }],
    ['completed and refunded', { ...paid, account: { charges: 1, refunds: 1, net: 0 } }],
    ['kept money', { ...refunded, account: { charges: 1, refunds: 0, net: 2000 } }],
    [
      'refunds for ever',
      { ...refunded, payment: { status: 'Refunding', amount: 2000, refunded: 0 } }
    ],
    ['refunded twice', { ...refunded, account: { charges: 1, refunds: 2, net: -2000 } }],
    ['history leads elsewhere', { ...paid, replays: false }],
    ['moved twice by one message', { ...paid, appliedAgain: ['StockReservedEvent'] }]
  ]
  for (const [name, rest] of wrong) t.ok(judge(rest) > 0, name)
  const reference = new Reference({
    stock: 2,
    orders: [{ product: 'known', quantity: 2, method: 'pm_card_visa' }],
    events: [{ do: 'place', order: 0 }]
  })
  t.same(reference.stock(0, 2, [0]), [])
  t.equal(reference.stock(2, 0, [0]).length, 1, 'sold and not taken')
  t.equal(reference.stock(0, 2, []).length, 1, 'taken and not sold')
  t.equal(reference.stock(-2, 4, [0]).length, 1, 'taken twice')
})

t.test('cases that found something go well', async (t) => {
  const world = await World.open(await (await postgresForTests()).createDatabase(t.name))
  t.teardown(() => world.close())
  for (const name of readdirSync(new URL('../model/cases/', import.meta.url))) {
    t.same(
      await world.play(
        JSON.parse(
          readFileSync(new URL(`../model/cases/${name}`, import.meta.url), 'utf8')
        ) as ModelCase
      ),
      [],
      name
    )
  }
})

t.test(
  'whatever happens in whatever order, every order ends as anybody would expect',
  async (t) => {
    // The same cases each time: a change is judged by what it changes. `npm run test:model`
    // searches further.
    const seed = Number(process.env['MODEL_SEED'] ?? 1)
    const { createDatabase } = await postgresForTests()
    const found = await search({
      runs: RUNS,
      seed,
      createDatabase: () => createDatabase(t.name),
      progress() {},
      failed: (faults) => t.comment(`is made smaller: ${faults.join('; ')}`)
    })
    t.equal(found && describe(found), undefined)
  }
)
