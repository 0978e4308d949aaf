import pg from 'pg'
import { pino } from 'pino'
import { MemoryTransport, System } from 'sagabox'
import { shop, shopTopology } from '../../src/shop.ts'

const NAME = 'shop_template'

/**
 * Makes a database that holds the tables of all services. Copying it is quicker than migrating each
 * test's database anew, of which there are hundreds.
 * @returns its name
 */
export async function createTemplate(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`create database ${NAME}`)
  } finally {
    await client.end()
  }
  const template = new URL(url)
  template.pathname = `/${NAME}`
  const { href } = template
  const system = await System.start({
    services: Object.values(shop({ deadlineSeconds: 30, paymentGateway: 'simulated' })),
    databaseUrls: { order: href, stock: href, payment: href },
    transport: new MemoryTransport(shopTopology()),
    settings: { redeliverySeconds: [], inboxDays: 7 },
    host: '127.0.0.1',
    port: 0,
    log: pino({ level: 'silent' })
  })
  await system.started()
  await system.stop()
  return NAME
}
