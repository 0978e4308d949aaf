// Who is measured: how each is started, and nothing about how it is judged.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { createShop, stockShelves } from './shop.ts'

export interface Contender {
  name: string
  title: string
  /** One list of services a process; empty for a contender that is one process anyway. */
  processes: readonly (readonly string[])[]
  /** What Node runs. */
  program: readonly string[]
  /** Where it runs; absent: here. */
  folder?: string
  /** Sagabox itself, which another checkout has too. */
  isProduct?: boolean
  broker: boolean
  /** Orders of one run: the slow ones get fewer, so that a run takes seconds. */
  orders: number
  /**
   * Migration folders for the schemas, beside the shop's own; absent when the contender migrates by
   * itself.
   */
  migrations?: readonly string[]
}

const root = fileURLToPath(new URL('..', import.meta.url))
const ALL = [[]]
const THREE = [['order'], ['stock'], ['payment']]
const product = { program: [`${root}dist/main.js`], isProduct: true }
const floor = {
  program: ['--import=tsx', `${root}bench/floor/main.ts`],
  broker: true,
  orders: 10_000,
  migrations: ['messaging']
}
const peer = (file: string) => ({
  program: ['--import=tsx', `${root}bench/peers/${file}.ts`],
  processes: ALL,
  migrations: []
})

/** Each beside its floor, so that both meet the same minute of the machine. */
export const CONTENDERS: readonly Contender[] = [
  {
    name: 'embedded',
    title: 'Sagabox, embedded default',
    ...product,
    processes: ALL,
    broker: false,
    orders: 10_000
  },
  {
    name: 'rabbitmq-1',
    title: 'Sagabox on RabbitMQ, one process',
    ...product,
    processes: ALL,
    broker: true,
    orders: 10_000
  },
  { name: 'floor-1', title: 'Bare floor, one process', ...floor, processes: ALL },
  {
    name: 'rabbitmq-3',
    title: 'Sagabox on RabbitMQ, three processes',
    ...product,
    processes: THREE,
    broker: true,
    orders: 10_000
  },
  { name: 'floor-3', title: 'Bare floor, three processes', ...floor, processes: THREE },
  { name: 'pg-boss', title: 'pg-boss', ...peer('pg-boss'), broker: false, orders: 5000 },
  {
    name: 'graphile-worker',
    title: 'graphile-worker',
    ...peer('graphile-worker'),
    broker: false,
    orders: 2000
  },
  { name: 'dbos', title: 'DBOS', ...peer('dbos'), broker: false, orders: 1000 },
  {
    name: 'tutorial',
    title: 'Tutorial (TypeORM, polled outbox, Rascal per message)',
    ...peer('tutorial'),
    broker: true,
    orders: 1000
  }
]

/** They end with this process. */
const children = new Set<ChildProcess>()
process.once('exit', () => children.forEach((child) => child.kill('SIGKILL')))

export interface Running {
  /** Where orders are placed: one address for each copy of the order service. */
  urls: string[]
  pids: number[]
  stop(): Promise<void>
}

/**
 * Starts a contender on an empty database and virtual host; resolves when it is ready and the
 * shelves are full.
 */
export async function startContender(
  contender: Contender,
  databaseUrl: string,
  rabbitmqUrl: string,
  environment: Record<string, string> = {}
): Promise<Running> {
  if (contender.migrations) await createShop(databaseUrl, contender.migrations)
  const started = await Promise.all(
    contender.processes.map((services) =>
      launch(contender, services, databaseUrl, rabbitmqUrl, environment)
    )
  )
  await stockShelves(databaseUrl)
  return {
    urls: started
      .filter(({ services }) => services.length === 0 || services.includes('order'))
      .map(({ url }) => url),
    pids: started.map(({ child }) => child.pid!),
    async stop() {
      await Promise.all(
        started.map(async ({ child }) => {
          if (child.exitCode !== null || child.signalCode !== null) return
          child.kill('SIGTERM')
          const late = setTimeout(() => child.kill('SIGKILL'), 30_000)
          await once(child, 'exit')
          clearTimeout(late)
        })
      )
    }
  }
}

async function launch(
  { name, program, broker, folder = root }: Contender,
  services: readonly string[],
  databaseUrl: string,
  rabbitmqUrl: string,
  environment: Record<string, string>
) {
  const port = await freePort()
  const child: ChildProcess = spawn(process.execPath, [...program, ...services], {
    cwd: folder,
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: databaseUrl,
      ...(broker && { RABBITMQ_URL: rabbitmqUrl }),
      HOST: '127.0.0.1',
      PORT: `${port}`,
      LOG_LEVEL: 'warn',
      NODE_ENV: 'production',
      ...environment
    },
    stdio: ['ignore', 'ignore', 'inherit']
  })
  children.add(child)
  child.once('exit', () => children.delete(child))
  const url = `http://127.0.0.1:${port}`
  for (let ready = false; !ready;) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(
        `${name} ${services.join('+')} ended while starting (${child.signalCode ?? child.exitCode})`
      )
    ready = await fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false
    )
    if (!ready) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { child, services, url }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
