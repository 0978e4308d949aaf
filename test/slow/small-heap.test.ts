import { connect } from 'amqplib'
import { spawnSync } from 'node:child_process'
import pg from 'pg'
import t from 'tap'
import { v7 as uuidv7 } from 'uuid'
import { OrderCreatedEvent } from '../../src/contracts/order.ts'
import { ReleaseStock } from '../../src/contracts/stock.ts'
import type { Contract } from '../../packages/sagabox/src/messaging/message/message.ts'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { Program, ROOT } from '../support/program.ts'
import { until } from '../support/until.ts'

/** Of each kind. As objects, all of them would take 800 MB. */
const MESSAGES = 20
/** Nearly as many values as are read, and with them nearly as many bytes. */
const LARGEST = Array.from({ length: 49_000 }, () => '"01234567890123456"').join(',')

const prepared = spawnSync(process.execPath, ['scripts/prepare.mjs', 'build'], {
  cwd: ROOT,
  stdio: 'inherit'
})
if (prepared.status !== 0) throw new Error('The product could not be built')

t.test(
  'a heap of 256 MB drains a backlog of the largest messages, and answers meanwhile',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase()
    const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
    const env = {
      DATABASE_URL: databaseUrl,
      RABBITMQ_URL: rabbitmqUrl,
      NODE_OPTIONS: '--max-old-space-size=256'
    }
    const first = await Program.start(t, env, 'stock')
    await first.ready()
    await first.stop('SIGTERM')

    const connection = await connect(rabbitmqUrl)
    const channel = await connection.createConfirmChannel()
    const envelope = ({ urn }: Contract, orderId: string, more: string) =>
      Buffer.from(
        `{"messageId":"${uuidv7()}","messageType":["${urn}"],"message":{"orderId":"${orderId}",${more}}}`
      )
    for (let index = 0; index < MESSAGES; index++) {
      channel.sendToQueue('stock', envelope(ReleaseStock, uuidv7(), `"padding":[${LARGEST}]`))
      channel.sendToQueue('stock', envelope(OrderCreatedEvent, uuidv7(), `"items":[${LARGEST}]`))
    }
    await channel.waitForConfirms()
    await connection.close()

    const database = new pg.Client({ connectionString: databaseUrl })
    await database.connect()
    t.teardown(() => database.end())
    // Nothing can be handled yet: whatever is read stays in memory.
    await database.query('begin; lock table stock_service.inbox in access exclusive mode')
    const program = await Program.start(t, env, 'stock')
    let isGone = false
    void program.exited.then(() => (isGone = true))
    const isLive = async () => {
      if (isGone) throw new Error(`The process ended:\n${program.lastWords}`)
      if ((await fetch(`${program.url}/health/live`)).status !== 200) throw new Error('not live')
    }
    await until(
      'it has begun to take them',
      async () => program.logged(({ msg }) => /Consuming/.test(msg)).length >= 3
    )
    // Each answer is another turn of the event loop, in which a message can be read.
    for (let turns = 0; turns < 5 * MESSAGES; turns++) await isLive()
    await database.query('rollback')
    const counted = await until('all are handled or dead letters', async () => {
      await isLive()
      const { rows } = await database.query(`select
      (select count(*)::int from stock_service.inbox) as handled,
      (select count(*)::int from stock_service.dead_letter) as letters,
      (select min(reason) from stock_service.dead_letter) as reason`)
      return rows[0].handled + rows[0].letters >= 2 * MESSAGES && rows[0]
    })
    t.match(counted, { handled: MESSAGES, letters: MESSAGES, reason: /^message/ })
    t.notOk(isGone)
    t.equal(program.errors, '')
  }
)
