import pg, { type QueryConfig } from 'pg'
import t, { type Test } from 'tap'
import { Database, type DatabaseOptions } from '../../src/messaging/postgres/database.ts'
import {
  isBadData,
  run,
  statement,
  transaction,
  write,
  type Tx
} from '../../src/messaging/postgres/sql.ts'
import type { Queries } from '../../src/messaging/postgres/user-query.ts'
import type { Message } from '../../src/messaging/message/message.ts'
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
  const database = new Database(optionsFor(url))
  await database.connect()
  t.teardown(() => database.close())
  await database.rows('create table things (thing jsonb)')
  const stored = async () => (await database.rows<{ things: number }>(COUNT.text))[0]!.things
  return { database, stored, url }
}

function optionsFor(url: string): DatabaseOptions {
  return { url, schema: 'public', migrations: [], migrate: 'off', poolSize: 2, log: testLog }
}

t.test(
  'writes that nobody waits for are committed, and are there for the statements after them',
  async (t) => {
    const { database, stored } = await open(t)
    const seen = await transaction(database, async (tx) => {
      void write(tx, INSERT, [['1', '2']])
      void write(tx, INSERT, [['3']])
      return run<{ things: number }>(tx, COUNT, [])
    })
    t.same(seen, [{ things: 3 }])
    t.equal(await stored(), 3)
  }
)

t.test('a write that fails fails the commit, and its own error is the one thrown', async (t) => {
  const { database, stored } = await open(t)
  const work = (then: () => Promise<unknown>) =>
    transaction(database, async (tx) => {
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
        transaction(database, async (tx) => {
          void write(tx, INSERT, [['"\\u0000"']])
          await run(tx, COUNT, [])
        })
      )
    ),
    'before a statement that fails because of it'
  )
  t.equal(await stored(), 0)
  await transaction(database, async (tx) => void write(tx, INSERT, [['1']]))
  t.equal(await stored(), 1, 'the connection is fit for the next transaction')
})

t.test('a swallowed SQL error does not pass for a commit', async (t) => {
  const { database, stored } = await open(t)
  const swallowing = transaction(database, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.query('select 1 / 0').catch(() => {})
  })
  await t.rejects(swallowing, /swallowed/)
  t.equal(await stored(), 0)
  await transaction(database, async (tx) => {
    await run(tx, INSERT, [['1']])
    await tx.query('savepoint mine')
    await tx.query('select 1 / 0').catch(() => {})
    await tx.query('rollback to mine')
  })
  t.equal(await stored(), 1, 'inside a savepoint it is undone, and the rest commits')
})

t.test('queries that nobody waits for end before the transaction does', async (t) => {
  const { database, stored } = await open(t)
  const no = async (microtasks: number) => {
    for (let each = 0; each < microtasks; each++) await Promise.resolve()
    throw new Error('no')
  }
  for (const connection of ['new', 'used']) {
    await t.rejects(
      transaction(database, (tx) =>
        Promise.all([tx.query(`insert into things values ('1')`), no(0)])
      ),
      { message: 'no' },
      connection
    )
    t.equal(await stored(), 0, `undone on a ${connection} connection`)
  }
  for (let microtasks = 0; microtasks < 12; microtasks++) {
    await t.rejects(
      transaction(database, async (tx) => {
        await run(tx, COUNT, [])
        await Promise.all([tx.query(`insert into things values ('1')`), no(microtasks)])
      }),
      { message: 'no' }
    )
    t.equal(await stored(), 0, `undone when work ends ${microtasks} microtasks later`)
  }
  await transaction(database, async (tx) => void tx.query(`insert into things values ('1')`))
  t.equal(await stored(), 1, 'committed although nobody waited')
})

t.test('only its work ends a transaction', async (t) => {
  const { database, stored } = await open(t)
  const ends = ['ROLLBACK', ' commit', 'end', 'ABORT', 'rollback work', 'begin', '/* so */ COMMIT']
  for (const end of ends) {
    await t.rejects(
      transaction(database, async (tx) => {
        await run(tx, INSERT, [['4']])
        await tx.query(end)
      }),
      /only transaction\(\) begins and ends a transaction/,
      end
    )
  }
  t.equal(await stored(), 0)
  await transaction(database, async (tx) => {
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
  const { database } = await open(t)
  await t.rejects(
    transaction(database, async (tx) => {
      await tx.query('savepoint mine')
      void write(tx, INSERT, [['"\\u0000"']])
      await run(tx, COUNT, []).catch(() => {})
      await tx.query('rollback to mine')
      throw new Error('no')
    }),
    { message: 'no' }
  )
})

t.test(
  'a connection whose prepared statements are gone is fit for the next transaction',
  async (t) => {
    const { database, stored } = await open(t)
    // The second has lost what the first has left prepared on the connection.
    for (const last of ['select 1', 'deallocate all']) {
      await t.rejects(
        transaction(database, async (tx) => {
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
  const { database, stored } = await open(t)
  await t.rejects(
    transaction(database, async (tx) => {
      void write(tx, INSERT, [['1']])
      throw new Error('no')
    }),
    { message: 'no' }
  )
  t.equal(await stored(), 0)
})

t.test('the library takes only transactions of its own', async (t) => {
  const { database } = await open(t)
  const other = { query: database.query, send() {} }
  await t.rejects(run(other, COUNT, []), /run\(\) needs a transaction that was begun by/)
  t.throws(() => write(other, INSERT, [['1']]), /write\(\) needs a transaction that was begun by/)
})

t.test('a transaction without an outbox says so when something is sent', async (t) => {
  const { database } = await open(t)
  await t.rejects(
    transaction(database, async (tx) => tx.send({} as Message)),
    /This transaction has no outbox to send by; expected one of a service/
  )
})

t.test('query has the signature of pg, and its result', async (t) => {
  const { database } = await open(t)
  for (const [where, query] of [
    ['in a transaction', <R>(work: (on: Queries) => Promise<R>) => transaction(database, work)],
    ['by itself', <R>(work: (on: Queries) => Promise<R>) => work(database)]
  ] as const) {
    const ask = (...given: Parameters<Queries['query']>) => query((on) => on.query(...given))
    const one = await ask('select $1::integer + 1 as n', [1])
    t.match(one, { command: 'SELECT', rowCount: 1, rows: [{ n: 2 }] }, where)
    t.same((await ask({ text: 'select $1::text[] as a', values: [['x', 'y"']] })).rows, [
      { a: ['x', 'y"'] }
    ])
    t.same(
      (await ask({ text: 'select 1, $1::json', rowMode: 'array' } as QueryConfig, [{ b: 2 }])).rows,
      [[1, { b: 2 }]]
    )
    const changed = await ask(`insert into things values ('1'), ('2') returning thing`)
    t.match(changed, { command: 'INSERT', rowCount: 2, rows: [{ thing: 1 }, { thing: 2 }] })
    t.equal((await ask('delete from things')).rowCount, 2)
    t.same((await ask({ name: 'mine', text: 'select 3 as n' })).rows, [{ n: 3 }], 'prepared')
    for (const wrong of [undefined, 7, {}, { text: 'select 1', submit() {} }])
      await t.rejects(
        ask(wrong as unknown as string),
        /expected SQL as a text, or \{ text, values \}/
      )
    await t.rejects(ask('select $1', 'x' as unknown as unknown[]), /expected an array/)
    const loop: Record<string, unknown> = {}
    loop.loop = loop
    await t.rejects(ask('select $1::json', [loop]), TypeError, 'and no outage of the database')
    t.same((await ask(`${'/* so */ '.repeat(60)} select 4 as n`)).rows, [{ n: 4 }], 'comments')
    await t.rejects(ask('select 1 / 0'), { code: '22012' })
  }
})

t.test("a parser of the work's that throws is no outage of the database", async (t) => {
  const { database } = await open(t)
  const types = {
    getTypeParser: () => () => {
      throw new Error('not in my schema')
    }
  }
  await t.rejects(
    transaction(database, (tx) => tx.query({ text: 'select 1', types } as QueryConfig)),
    { name: 'Error', message: 'not in my schema' }
  )
})

t.test('several statements in one text that end the transaction are told at once', async (t) => {
  const { database, stored } = await open(t)
  await t.rejects(
    transaction(database, async (tx) => {
      await run(tx, INSERT, [['1']])
      await tx.query(`select 1; commit`).catch(() => {})
      await tx.query(`insert into things values ('2')`).catch(() => {})
    }),
    /select 1; commit: this has ended the transaction/
  )
  t.equal(await stored(), 1, 'what came before it is committed, what came after it is not sent')
  await transaction(database, async (tx) => void (await run(tx, INSERT, [['3']])))
  t.equal(await stored(), 2, 'the connection is fit for the next transaction')
})

t.test("users' queries are planned as PostgreSQL plans, and the library's by index", async (t) => {
  const { database, url } = await open(t)
  const plans = async (on: Queries) =>
    (await on.query('show enable_seqscan')).rows[0].enable_seqscan as string
  const SHOWN = statement(`select current_setting('enable_seqscan') as seqscan`)
  const own = async (tx: Tx) => (await run<{ seqscan: string }>(tx, SHOWN, []))[0]!.seqscan
  for (const connection of ['new', 'used']) {
    const seen = await transaction(database, async (tx) => {
      const first = await Promise.all([own(tx), plans(tx), own(tx), plans(tx), plans(tx)])
      await tx.query('savepoint mine')
      const inside = [await own(tx)]
      await tx.query('select 1 / 0').catch(() => {})
      await tx.query('rollback to mine')
      return [...first, ...inside, await own(tx), await plans(tx)]
    })
    t.same(seen, ['off', 'on', 'off', 'on', 'on', 'off', 'off', 'on'], connection)
    t.equal(await plans(database), 'on', 'by itself')
    t.same(await database.rows('show enable_seqscan'), [{ enable_seqscan: 'off' }], 'it is over')
  }
  const avoiding = new Database({ ...optionsFor(url), avoidScans: true })
  await avoiding.connect()
  t.teardown(() => avoiding.close())
  t.equal(await transaction(avoiding, plans), 'off', 'unless they ask for it')
  t.equal(await plans(avoiding), 'off')
  await t.rejects(avoiding.query('commit'), /only transaction\(\) begins and ends/)
})

t.test('all statements of a repeatable read see one moment', async (t) => {
  const { database, stored } = await open(t)
  const seen = await transaction(
    database,
    async (tx) => {
      const before = await run<{ things: number }>(tx, COUNT, [])
      await database.query(`insert into things values ('1')`)
      return [before, await run(tx, COUNT, [])]
    },
    { isolation: 'repeatable read', lockTimeoutMs: 500 }
  )
  t.same(seen, [[{ things: 0 }], [{ things: 0 }]])
  t.equal(await stored(), 1)
})

t.test(
  'BEGIN travels with the first statement, on a new connection and on one that was used before',
  async (t) => {
    const { database, stored } = await open(t)
    for (const [index, connection] of ['new', 'used', 'used'].entries()) {
      const messages = t.capture(pg.Connection.prototype, 'sync', pg.Connection.prototype.sync)
      await transaction(database, async (tx) => {
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
        transaction(database, async (tx) => {
          await run(tx, TAKE, [['3']])
          throw new Error('no')
        }),
        { message: 'no' }
      )
      t.equal(await stored(), 3 * (index + 1), 'nothing of it stays when the work fails')
      const failing = await transaction(database, async (tx) => {
        await run(tx, TAKE, [['"\\u0000"']])
      }).catch((error: unknown) => error)
      t.ok(isBadData(failing), 'a first statement that fails says why')
    }
  }
)

t.test(
  'statements of one turn are executed in their order, and queries in turn with them',
  async (t) => {
    const { database, stored } = await open(t)
    for (const connection of ['new', 'used']) {
      const seen = await transaction(database, async (tx) => {
        void write(tx, INSERT, [['1']])
        const [[first], , [second]] = await Promise.all([
          run<{ things: number }>(tx, COUNT, []),
          run(tx, INSERT, [['2', '3']]),
          run<{ things: number }>(tx, COUNT, [])
        ])
        void write(tx, INSERT, [['4']])
        const counted = tx.query<{ things: number }>(COUNT.text)
        void write(tx, INSERT, [['5']])
        const [{ rows }, [last]] = await Promise.all([
          counted,
          run<{ things: number }>(tx, COUNT, [])
        ])
        await tx.query('delete from things')
        return [first!.things, second!.things, rows[0]!.things, last!.things]
      })
      t.same(seen, [1, 3, 4, 5], connection)
      t.equal(await stored(), 0)
    }
  }
)

t.test(
  'of statements sent together, the one that failed is told from those before and after it',
  async (t) => {
    const { database, stored } = await open(t)
    for (const connection of ['new', 'used']) {
      const outcomes: string[] = []
      const failing = transaction(database, async (tx) => {
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
  'a query': (tx) => tx.query(`insert into things values ('1')`),
  'a statement after one whose error is swallowed': async (tx) => {
    await run(tx, COUNT, []).catch(() => {})
    void write(tx, INSERT, [['1']])
  }
}

for (const [name, work] of Object.entries(FIRST)) {
  t.test(`${name} is not executed in a transaction whose BEGIN fails`, async (t) => {
    const { database, stored } = await open(t)
    await transaction(database, async (tx) => {
      await run(tx, INSERT, [[]])
      await run(tx, COUNT, [])
    })
    // The pool's last one, which the next transaction gets.
    const client = await database.session()
    await client.query('deallocate begin')
    client.release()
    await t.rejects(transaction(database, work), /prepared statement "begin" does not exist/)
    t.equal(await stored(), 0, 'and so is not committed by itself')
  })
}

t.test('nothing can be sent in a transaction that has ended', async (t) => {
  const { database, stored } = await open(t)
  let late!: Tx
  await transaction(database, async (tx) => void (late = tx))
  await t.rejects(run(late, INSERT, [['1']]), /has ended/)
  t.throws(() => write(late, INSERT, [['1']]), /has ended/)
  await t.rejects(late.query('select 1'), /has ended/)
  await t.rejects(
    transaction(database, async (tx) => {
      late = tx
      throw new Error('no')
    }),
    { message: 'no' }
  )
  await t.rejects(run(late, INSERT, [['1']]), /has ended/)
  t.equal(await stored(), 0)
})
