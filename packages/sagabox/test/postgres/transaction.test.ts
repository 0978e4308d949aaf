import pg from 'pg'
import t, { type Test } from 'tap'
import { createDataSource } from '../../src/messaging/postgres/database.ts'
import {
  isBadData,
  run,
  statement,
  transaction,
  write,
  type Tx
} from '../../src/messaging/postgres/sql.ts'
import { ONE_SYNC } from '../../src/quick-ways.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { testLog } from '../../../../test/support/system.ts'

const INSERT = statement('insert into things (thing) select * from unnest($1::jsonb[])')
const TAKE = statement(
  'insert into things (thing) select * from unnest($1::jsonb[]) returning thing, now() < clock_timestamp() and pg_current_xact_id_if_assigned() is not null as began'
)
const COUNT = statement('select count(*)::integer as things from things')

async function open(t: Test) {
  const url = await (await postgresForTests()).createDatabase(t.name)
  const dataSource = createDataSource({
    url,
    schema: 'public',
    migrations: [],
    poolSize: 2,
    log: testLog
  })
  await dataSource.initialize()
  t.teardown(() => dataSource.destroy())
  await dataSource.query('create table things (thing jsonb)')
  const stored = async () => (await dataSource.query<[{ things: number }]>(COUNT.text))[0].things
  return { dataSource, stored }
}

t.test(
  'writes that nobody waits for are committed, and are there for the statements after them',
  async (t) => {
    const { dataSource, stored } = await open(t)
    const seen = await transaction(dataSource, async (tx) => {
      void write(tx, INSERT, [['1', '2']])
      void write(tx, INSERT, [['3']])
      return run<{ things: number }>(tx, COUNT, [])
    })
    t.same(seen, [{ things: 3 }])
    t.equal(await stored(), 3)
  }
)

t.test('a write that fails fails the commit, and its own error is the one thrown', async (t) => {
  const { dataSource, stored } = await open(t)
  const work = (then: () => Promise<unknown>) =>
    transaction(dataSource, async (tx) => {
      void write(tx, INSERT, [['1']])
      void write(tx, INSERT, [['"\\u0000"']])
      await then()
    })
  const failure = async (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error: unknown) => error
    )
  t.ok(isBadData(await failure(work(async () => {}))), 'alone')
  t.ok(
    isBadData(
      await failure(
        transaction(dataSource, async (tx) => {
          void write(tx, INSERT, [['"\\u0000"']])
          await run(tx, COUNT, [])
        })
      )
    ),
    'before a statement that fails because of it'
  )
  t.equal(await stored(), 0)
  await transaction(dataSource, async (tx) => void write(tx, INSERT, [['1']]))
  t.equal(await stored(), 1, 'the connection is fit for the next transaction')
})

t.test('a swallowed SQL error does not pass for a commit', async (t) => {
  const { dataSource, stored } = await open(t)
  const swallowing = transaction(dataSource, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.query('select 1 / 0').catch(() => {})
  })
  await t.rejects(swallowing, /swallowed/)
  t.equal(await stored(), 0)
  await transaction(dataSource, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.transaction((inner) => inner.query('select 1 / 0')).catch(() => {})
  })
  t.equal(await stored(), 1, 'inside a savepoint it is undone, and the rest commits')
})

t.test("TypeORM's statements end before the transaction does", async (t) => {
  const { dataSource, stored } = await open(t)
  const no = async (microtasks: number) => {
    for (let each = 0; each < microtasks; each++) await Promise.resolve()
    throw new Error('no')
  }
  for (const connection of ['new', 'used']) {
    await t.rejects(
      transaction(dataSource, (tx) =>
        Promise.all([tx.query(`insert into things values ('1')`), no(0)])
      ),
      { message: 'no' },
      connection
    )
    t.equal(await stored(), 0, `undone on a ${connection} connection`)
  }
  for (let microtasks = 0; microtasks < 12; microtasks++) {
    await t.rejects(
      transaction(dataSource, async (tx) => {
        await run(tx, COUNT, [])
        await Promise.all([tx.query(`insert into things values ('1')`), no(microtasks)])
      }),
      { message: 'no' }
    )
    t.equal(await stored(), 0, `undone when work ends ${microtasks} microtasks later`)
  }
  await transaction(dataSource, async (tx) => void tx.query(`insert into things values ('1')`))
  t.equal(await stored(), 1, 'committed although nobody waited')
})

t.test('only its work ends a transaction', async (t) => {
  const { dataSource, stored } = await open(t)
  const nested = (tx: Tx) => tx.transaction((inner) => inner.query('select 1')).catch(() => {})
  await t.rejects(
    transaction(dataSource, async (tx) => {
      await run(tx, INSERT, [['1']])
      void write(tx, INSERT, [['"\\u0000"']])
      // Its savepoint fails, and TypeORM takes that for the end of the outer transaction.
      await nested(tx)
      await run(tx, INSERT, [['2']])
    }),
    { code: '22P05' },
    'the failed write is told'
  )
  await t.rejects(
    transaction(dataSource, async (tx) => {
      await tx.query('select 1 / 0').catch(() => {})
      await tx.transaction(nested).catch(() => {})
      void write(tx, INSERT, [['3']])
    }),
    /swallowed/
  )
  for (const end of ['ROLLBACK', ' commit', 'end', 'ABORT', 'rollback work']) {
    await t.rejects(
      transaction(dataSource, async (tx) => {
        await run(tx, INSERT, [['4']])
        await tx.query(end)
      }),
      /only transaction\(\) ends a transaction/,
      end
    )
  }
  t.equal(await stored(), 0)
  await transaction(dataSource, async (tx) => {
    await tx.query('savepoint mine')
    await run(tx, INSERT, [['5']])
    await tx.query('rollback to savepoint mine')
    await tx.query('savepoint mine')
    await tx.query('ROLLBACK WORK TO mine')
    await run(tx, INSERT, [['6']])
  })
  t.equal(await stored(), 1, 'a savepoint is its own affair')
})

t.test('a failed write that was undone is not taken for the cause of another error', async (t) => {
  const { dataSource } = await open(t)
  await t.rejects(
    transaction(dataSource, async (tx) => {
      await tx
        .transaction(async (inner) => {
          void write(inner, INSERT, [['"\\u0000"']])
          await run(inner, COUNT, [])
        })
        .catch(() => {})
      throw new Error('no')
    }),
    { message: 'no' }
  )
})

t.test(
  'a connection whose prepared statements are gone is fit for the next transaction',
  async (t) => {
    const { dataSource, stored } = await open(t)
    // The second has lost what the first has left prepared on the connection.
    for (const last of ['select 1', 'deallocate all']) {
      await t.rejects(
        transaction(dataSource, async (tx) => {
          await tx.query(last)
          throw new Error('no')
        }),
        { message: 'no' }
      )
      t.equal(await stored(), 0, last)
    }
  }
)

t.test('work that throws leaves nothing behind', async (t) => {
  const { dataSource, stored } = await open(t)
  await t.rejects(
    transaction(dataSource, async (tx) => {
      void write(tx, INSERT, [['1']])
      throw new Error('no')
    }),
    { message: 'no' }
  )
  t.equal(await stored(), 0)
})

t.test('write needs a transaction that waits for it', async (t) => {
  const { dataSource } = await open(t)
  await t.rejects(
    dataSource.transaction(async (tx) => void write(tx, INSERT, [['1']])),
    /begun by transaction\(\)/
  )
})

t.test(
  'BEGIN travels with the first statement, on a new connection and on one that was used before',
  async (t) => {
    const { dataSource, stored } = await open(t)
    for (const [index, connection] of ['new', 'used', 'used'].entries()) {
      const messages = t.capture(pg.Connection.prototype, 'sync', pg.Connection.prototype.sync)
      await transaction(dataSource, async (tx) => {
        t.equal(tx.queryRunner?.isTransactionActive, true)
        const made = await run<{ thing: number; began: boolean }>(tx, TAKE, [['1', '2']])
        t.same(
          made.map(({ thing, began }) => ({ thing, began })),
          [
            { thing: 1, began: true },
            { thing: 2, began: true }
          ],
          connection
        )
        void write(tx, INSERT, [['3']])
      })
      messages.restore()
      const expected = ONE_SYNC.isOpen ? 2 : 4
      if (index === 2) t.equal(messages().length, expected, 'one message to begin, one to end')
      t.equal(await stored(), 3 * (index + 1))
      await t.rejects(
        transaction(dataSource, async (tx) => {
          await run(tx, TAKE, [['3']])
          throw new Error('no')
        }),
        { message: 'no' }
      )
      t.equal(await stored(), 3 * (index + 1), 'nothing of it stays when the work fails')
      const failing = await transaction(dataSource, async (tx) => {
        await run(tx, TAKE, [['"\\u0000"']])
      }).catch((error: unknown) => error)
      t.ok(isBadData(failing), 'a first statement that fails says why')
    }
  }
)

t.test(
  'statements of one turn are executed in their order, and what TypeORM sends after those before it',
  async (t) => {
    const { dataSource, stored } = await open(t)
    for (const connection of ['new', 'used']) {
      const seen = await transaction(dataSource, async (tx) => {
        void write(tx, INSERT, [['1']])
        const [[first], , [second]] = await Promise.all([
          run<{ things: number }>(tx, COUNT, []),
          run(tx, INSERT, [['2', '3']]),
          run<{ things: number }>(tx, COUNT, [])
        ])
        void write(tx, INSERT, [['4']])
        const typeorm = await tx.query<[{ things: number }]>(COUNT.text)
        await tx.query('delete from things')
        return [first!.things, second!.things, typeorm[0].things]
      })
      t.same(seen, [1, 3, 4], connection)
      t.equal(await stored(), 0)
    }
    await transaction(dataSource, async (tx) => {
      await tx
        .transaction(async (inner) => {
          await inner.query(`insert into things values ('4')`)
          throw new Error('no')
        })
        .catch(() => {})
      await tx.query(`insert into things values ('5')`)
    })
    t.equal(await stored(), 1, "TypeORM's transaction inside one is a savepoint")
  }
)

t.test(
  'of statements sent together, the one that failed is told from those before and after it',
  async (t) => {
    const { dataSource, stored } = await open(t)
    for (const connection of ['new', 'used']) {
      const outcomes: string[] = []
      const failing = transaction(dataSource, async (tx) => {
        await run(tx, COUNT, [])
        void write(tx, INSERT, [['1']])
        const told = await Promise.allSettled([
          run(tx, COUNT, []),
          run(tx, INSERT, [['"\\u0000"']]),
          run(tx, COUNT, [])
        ])
        outcomes.push(...told.map(({ status }) => status))
        throw new Error('bad thing')
      })
      await t.rejects(
        failing,
        { message: 'bad thing' },
        'what the work made of it is thrown: no write has failed'
      )
      t.same(outcomes, ['fulfilled', 'rejected', 'rejected'], connection)
      t.equal(await stored(), 0)
    }
  }
)

const FIRST: Record<string, (tx: Tx) => Promise<unknown>> = {
  'a statement': (tx) => run(tx, INSERT, [['1']]),
  'a statement that nobody waits for': async (tx) => void write(tx, INSERT, [['1']]),
  'a statement after the first': async (tx) => {
    void write(tx, COUNT, [])
    await new Promise(process.nextTick)
    await run(tx, INSERT, [['1']])
  },
  "TypeORM's statement": (tx) => tx.query(`insert into things values ('1')`),
  'a statement after one whose error is swallowed': async (tx) => {
    await run(tx, COUNT, []).catch(() => {})
    void write(tx, INSERT, [['1']])
  }
}

for (const [name, work] of Object.entries(FIRST)) {
  t.test(`${name} is not executed in a transaction whose BEGIN fails`, async (t) => {
    const { dataSource, stored } = await open(t)
    await transaction(dataSource, async (tx) => {
      await run(tx, INSERT, [[]])
      await run(tx, COUNT, [])
    })
    const runner = dataSource.createQueryRunner()
    // The pool's last one, which the next transaction gets.
    await ((await runner.connect()) as pg.ClientBase).query('deallocate begin')
    await runner.release()
    await t.rejects(transaction(dataSource, work), /prepared statement "begin" does not exist/)
    t.equal(await stored(), 0, 'and so is not committed by itself')
  })
}

t.test('nothing can be sent in a transaction that has ended', async (t) => {
  const { dataSource, stored } = await open(t)
  let late!: Tx
  await transaction(dataSource, async (tx) => void (late = tx))
  await t.rejects(run(late, INSERT, [['1']]), /has ended/)
  t.throws(() => write(late, INSERT, [['1']]), /has ended/)
  await t.rejects(late.query('select 1'), /already released/)
  await t.rejects(
    transaction(dataSource, async (tx) => {
      late = tx
      throw new Error('no')
    }),
    { message: 'no' }
  )
  await t.rejects(run(late, INSERT, [['1']]), /has ended/)
  t.equal(await stored(), 0)
})
