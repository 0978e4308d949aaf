// POST /orders: answers a second on 64 keep-alive connections, processes of their own. The product
// and the floor handle the orders in the same process meanwhile; the bare route has nothing else to
// do.
import { fileURLToPath } from 'node:url'
import { CONTENDERS, startContender, type Contender } from '../contenders.ts'
import { closedLoop } from '../load.ts'
import type { Servers } from '../servers.ts'
import { against, scaled, type ComponentResult } from './result.ts'

const BARE: Contender = {
  name: 'bare-route',
  title: 'Bare fastify route',
  processes: [[]],
  program: ['--import=tsx', fileURLToPath(new URL('bare-orders.ts', import.meta.url))],
  broker: false,
  orders: 0,
  migrations: []
}

export async function postedOrders(servers: Servers, scale: number): Promise<ComponentResult> {
  const orders = scaled(8000, scale)
  const own = await postsPerSecond(servers, contender('embedded'), orders)
  const other = await postsPerSecond(servers, BARE, orders)
  const floor = await postsPerSecond(servers, contender('floor-1'), orders)
  return {
    name: 'POST /orders',
    transport: 'memory',
    unit: 'answers/s',
    ...against(
      'bare fastify route: the same body validated, one coalesced insert, nothing behind it',
      { own, other }
    ),
    detail: `${orders} orders; the bare floor, which like the product also handles them meanwhile, answers ${floor.toFixed(0)}/s (RabbitMQ)`
  }
}

function contender(name: string): Contender {
  const found = CONTENDERS.find((one) => one.name === name)
  if (!found) throw new Error(`No contender ${name}`)
  return found
}

async function postsPerSecond(servers: Servers, one: Contender, orders: number): Promise<number> {
  const { databaseUrl, rabbitmqUrl, drop } = await servers.fresh(`posts_${one.name}`)
  try {
    const running = await startContender(one, databaseUrl, rabbitmqUrl)
    try {
      await closedLoop(running.urls, databaseUrl, scaled(orders, 0.25), 1)
      const { postedMs } = await closedLoop(running.urls, databaseUrl, orders, 2)
      return (orders * 1000) / postedMs
    } finally {
      await running.stop()
    }
  } finally {
    await drop()
  }
}
