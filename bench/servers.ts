// A PostgreSQL and a RabbitMQ of the benchmark's own, with their default durability.
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../packages/sagabox/src/embedded/postgres.ts'
import { startRabbitMQ, type PrivateBroker } from '../test/support/rabbitmq.ts'

export interface Servers {
  postgres: { url: string; pid: number }
  rabbitmq: PrivateBroker & { pid: number }
  /** An empty database and an empty virtual host: what every run begins with. */
  fresh(name: string): Promise<{ databaseUrl: string; rabbitmqUrl: string; drop(): Promise<void> }>
  stop(): Promise<void>
}

export async function startServers(): Promise<Servers> {
  const dataDir = await mkdtemp(join(tmpdir(), 'sagabox-bench-'))
  await chmod(dataDir, 0o711)
  const log = { info() {}, error: console.error }
  // Statement statistics cost every contender the same; the library has to be there when the server
  // starts.
  const first = await startEmbeddedPostgres({ dataDir, log })
  await admin(first.url, `alter system set shared_preload_libraries = 'pg_stat_statements'`)
  await first.stop()
  const postgres = await startEmbeddedPostgres({ dataDir, log })
  const broker = await startRabbitMQ({ schedulers: 2 })
  let made = 0
  return {
    postgres: { url: postgres.url, pid: await postmasterOf(join(dataDir, 'postgres')) },
    rabbitmq: { ...broker, pid: await beamPid(broker.url) },
    async fresh(name) {
      const database = `${name.replaceAll(/\W/g, '_')}_${++made}`
      await admin(postgres.url, `create database ${database}`)
      const databaseUrl = new URL(postgres.url)
      databaseUrl.pathname = `/${database}`
      const rabbitmqUrl = await broker.createVhost(database)
      // Files written by the run before must not be flushed during this one.
      await admin(postgres.url, 'checkpoint')
      return {
        databaseUrl: databaseUrl.href,
        rabbitmqUrl,
        async drop() {
          await broker.deleteVhost(rabbitmqUrl)
          await admin(postgres.url, `drop database ${database} with (force)`)
        }
      }
    },
    async stop() {
      await Promise.all([postgres.stop(), broker.stop()])
      await rm(dataDir, { recursive: true, force: true })
    }
  }
}

export async function admin(url: string, sql: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await client.query(sql)
  } finally {
    await client.end()
  }
}

async function postmasterOf(data: string): Promise<number> {
  return Number.parseInt(await readFile(join(data, 'postmaster.pid'), 'utf8'), 10)
}

/** The broker's virtual machine, known by the port it was given. */
async function beamPid(brokerUrl: string): Promise<number> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    if (program.trim() !== 'beam.smp') continue
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    if (environment.split('\0').includes(`RABBITMQ_NODE_PORT=${new URL(brokerUrl).port}`))
      return Number(pid)
  }
  throw new Error('The broker runs, and its process was not found in /proc')
}
