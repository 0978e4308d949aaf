// A real RabbitMQ for tests: a private one that a test may kill, or the one the test runner shares.
import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, rmSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, type ChannelModel } from 'amqplib'
import { ensureRabbitMQ } from '../../scripts/rabbitmq.mjs'
import { Patience } from './patience.ts'
import { until } from './until.ts'

/** A virtual host: its name, or the URL that createVhost returned for it. */
export type Vhost = string

export interface QueueState {
  name: string
  type: string
  messages: number
  ready: number
  unacknowledged: number
  consumers: number
}

export interface Broker {
  url: string
  managementUrl: string
  /** Makes an empty virtual host and returns the AMQP URL that leads into it. */
  createVhost(name?: string): Promise<string>
  deleteVhost(vhost: Vhost): Promise<void>
  /** A user with the password `secret`, and what they may do there: what set_permissions gives. */
  setUser(
    user: string,
    vhost: string,
    rights: { configure: string; write: string; read: string }
  ): Promise<void>
  deleteUser(user: string): Promise<void>
  /**
   * `ready` and `consumers` are exact. `unacknowledged` is up to 0.2 s old on a broker started
   * here, 5 s on another: messages handed out a moment ago may be in neither. Wait for their
   * effects before asking whether a queue is empty.
   */
  queues(vhost: Vhost): Promise<QueueState[]>
  /**
   * Closes connections as an operator would, and returns how many. Always name the vhost where
   * other tests share the broker.
   */
  closeAllConnections(vhost?: Vhost): Promise<number>
}

/** PEM. */
interface BrokerFiles {
  caFile: string
  certFile: string
  keyFile: string
}

interface BrokerOptions {
  schedulers?: number
  /** Has it speak TLS too, with clients alone that have a certificate of this authority. */
  tls?: BrokerFiles
}

export interface PrivateBroker extends Broker {
  /** Where it speaks TLS, if it does. */
  tlsUrl: string
  /**
   * SIGKILL. RabbitMQ 3.10 writes the name of a new quorum queue to disk half a second after the
   * last declaration: a queue younger than about a second is not recovered (fixed in RabbitMQ 4,
   * rabbitmq/ra#443).
   */
  kill(): Promise<void>
  /** Resolves when the names of these quorum queues are on disk. */
  registered(vhost: Vhost, queues: readonly string[]): Promise<void>
  /** Starts it again (killing it first when it runs) with the same data on the same ports. */
  restart(): Promise<void>
  /** Kills it and deletes its data. */
  stop(): Promise<void>
}

const startDeadlineMs = 90_000

/**
 * The broker that the test runner shares (TEST_RABBITMQ_URL), else a private one that lives as long
 * as this process.
 */
export function rabbitmqForTests(): Promise<Broker> {
  brokerForTests ??= findBrokerForTests()
  return brokerForTests
}

let brokerForTests: Promise<Broker> | undefined

async function findBrokerForTests(): Promise<Broker> {
  const url = process.env['TEST_RABBITMQ_URL']
  const managementUrl = process.env['TEST_RABBITMQ_MANAGEMENT_URL']
  if (!url && !managementUrl) return startRabbitMQ()
  if (!url || !managementUrl)
    throw new Error('Set both TEST_RABBITMQ_URL and TEST_RABBITMQ_MANAGEMENT_URL, or neither.')
  return brokerAt(url, managementUrl)
}

/**
 * Starts a private broker on free ports of 127.0.0.1. It dies with this process, however that ends.
 * One scheduler starts fastest and serves tests; a benchmark should ask for more.
 */
export async function startRabbitMQ({
  schedulers = 1,
  tls
}: BrokerOptions = {}): Promise<PrivateBroker> {
  const server = ensureRabbitMQ()
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnFreePorts(server, schedulers, tls)
    } catch (error) {
      // Another process may have taken a port since it was found free.
      const portTaken =
        error instanceof Error && /eaddrinuse|already in use|in use by another/i.test(error.message)
      if (!portTaken || attempt === 3) throw error
    }
  }
}

const NODE = 'sagabox@localhost'

function tlsListener({ caFile, certFile, keyFile }: BrokerFiles, port: number): string {
  const files = `{cacertfile, "${caFile}"}, {certfile, "${certFile}"}, {keyfile, "${keyFile}"}`
  const asks = '{verify, verify_peer}, {fail_if_no_peer_cert, true}'
  return `{ssl_listeners, [{"127.0.0.1", ${port}}]}, {ssl_options, [${files}, ${asks}]}, `
}

async function startOnFreePorts(
  server: string,
  schedulers: number,
  tls?: BrokerFiles
): Promise<PrivateBroker> {
  const home = await mkdtemp(join(tmpdir(), 'sagabox-rabbitmq-'))
  const [amqpPort, managementPort, distributionPort, epmdPort, tlsPort] = await freePorts(5)
  const url = `amqp://guest:guest@127.0.0.1:${amqpPort}`
  const managementUrl = `http://127.0.0.1:${managementPort}`
  // With its statistics database the management API answers from a picture up to 5 s old; without
  // it connections are exact and queue counts 0.2 s old (measured on 3.10).
  await writeFile(
    join(home, 'advanced.config'),
    `[
    {rabbit, [{tcp_listeners, [{"127.0.0.1", ${amqpPort}}]}, ${tls ? tlsListener(tls, tlsPort!) : ''}{max_message_size, 16777216}, {collect_statistics_interval, 200}, {quorum_tick_interval, 200}]},
    {rabbitmq_management_agent, [{disable_metrics_collector, true}]},
    {rabbitmq_management, [{disable_management_stats, true}, {enable_queue_totals, true}, {tcp_config, [{ip, "127.0.0.1"}, {port, ${managementPort}}]}]}
  ].`
  )
  await writeFile(join(home, 'enabled_plugins'), '[rabbitmq_management].')
  await writeFile(join(home, 'rabbitmq-env.conf'), '') // or the machine's own in /etc/rabbitmq would be read
  const env = {
    PATH: process.env['PATH'],
    HOME: home,
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: NODE,
    RABBITMQ_NODE_PORT: String(amqpPort),
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_MNESIA_BASE: join(home, 'data'),
    RABBITMQ_LOG_BASE: join(home, 'log'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_CONF_ENV_FILE: join(home, 'rabbitmq-env.conf'),
    RABBITMQ_CONFIG_FILE: join(home, 'no-such-file'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(home, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(home, 'enabled_plugins'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `+S ${schedulers}:${schedulers} +SDio 1 -kernel inet_dist_use_interface {127,0,0,1}`,
    // makes the start script become the broker instead of waiting for it
    RUNNING_UNDER_SYSTEMD: 'true'
  }

  const management = managementClient(url, managementUrl)
  let broker: ChildProcess | undefined
  // A killed broker has no guard any more.
  const removeIfKilled = () => {
    if (!broker) rmSync(home, { recursive: true, force: true })
  }
  process.once('exit', removeIfKilled)

  async function start(): Promise<void> {
    const output = openSync(join(home, 'output'), 'w')
    const child = spawn('sh', ['-c', script, server], {
      env,
      cwd: home,
      detached: true,
      stdio: ['ignore', output, output, 'pipe']
    })
    closeSync(output)
    broker = child
    child.once('exit', () => signalGroup(child)) // the port mapper and the guard
    await waitUntilItAnswers(child)
    // A test that has nothing else to do may end; the guard then ends the broker.
    child.unref()
    ;(child.stdio[3] as Socket).unref()
  }

  async function waitUntilItAnswers(child: ChildProcess): Promise<void> {
    const patience = new Patience(startDeadlineMs)
    for (let lastError: unknown; ; await sleep(25)) {
      if (child.exitCode !== null || child.signalCode !== null || patience.isOver()) {
        const output = await readFile(join(home, 'output'), 'utf8')
        const what = patience.isOver()
          ? `did not answer within ${String(patience)}`
          : 'ended while starting'
        throw new Error(`RabbitMQ (${server}) ${what}. Its last words:\n${output.slice(-3000)}`, {
          cause: lastError
        })
      }
      try {
        // AMQP accepts connections a moment before the virtual hosts have been recovered.
        await management('GET', 'health/checks/virtual-hosts')
        await management('GET', `health/checks/port-listener/${amqpPort}`)
        await withConnection(url, async () => {})
        return
      } catch (error) {
        lastError = error // it is not up yet
      }
    }
  }

  async function kill(): Promise<void> {
    const child = broker
    if (!child) return
    broker = undefined
    if (child.exitCode !== null || child.signalCode !== null) return
    child.ref()
    const exited = once(child, 'exit')
    signalGroup(child)
    await exited
  }

  async function stop(): Promise<void> {
    await kill()
    // The killed broker's helper processes may hold a file for a moment longer.
    await rm(home, { recursive: true, force: true, maxRetries: 10 })
    process.off('exit', removeIfKilled)
  }

  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  async function registered(vhost: string, queues: readonly string[]): Promise<void> {
    await until(`${queues.join(', ')} are on disk`, async () => {
      const names = await readFile(join(home, 'data', NODE, 'quorum', NODE, 'names.dets'), 'latin1')
      return queues.every((queue) => names.includes(`${pathOf(vhost)}_${queue}`))
    })
  }

  return {
    ...brokerAt(url, managementUrl),
    tlsUrl: `amqps://guest:guest@localhost:${tlsPort}`,
    kill,
    registered,
    stop,
    restart: async () => {
      await kill()
      await start()
    }
  }
}

// The shell becomes the broker (exec), so the child's pid and exit are the broker's own. Beside it
// run a port mapper, because the one that Erlang would start by itself outlives everybody, and a
// guard that reads from this process: end of file means that we are gone, even by SIGKILL. The
// dying broker may still write while its data is deleted, so that is repeated until it is done.
const script = `
  epmd -port "$ERL_EPMD_PORT" 3<&- & mapper=$!
  { read -r _ <&3; kill -KILL $$ $mapper; until rm -rf "$HOME"; do sleep 1; done; } &
  exec "$0" 3<&-
`

function signalGroup(child: ChildProcess): void {
  if (child.pid === undefined) return // it could not be started; the 'error' event says why
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // ESRCH: all of it has ended
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}

function managementClient(url: string, managementUrl: string) {
  const { username, password } = new URL(url)
  const authorization = `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')}`

  return async function management(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(new URL(`/api/${path}`, managementUrl), {
      method,
      // A kept-alive connection would fail on its first use after the broker was killed.
      headers: { authorization, connection: 'close', 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(30_000)
    })
    const text = await response.text()
    const goneAlready = method === 'DELETE' && response.status === 404
    if (!response.ok && !goneAlready)
      throw new Error(`RabbitMQ management: ${method} ${path} -> ${response.status} ${text}`)
    return text === '' || goneAlready ? undefined : JSON.parse(text)
  }
}

/**
 * Lends a connection. When the broker closes it, the loan fails: amqplib alone would let close()
 * wait for ever.
 */
async function withConnection<T>(
  url: string,
  work: (connection: ChannelModel) => Promise<T>
): Promise<T> {
  const connection = await connect(url, { timeout: 10_000 })
  const failure = once(connection, 'error').then(([error]) => {
    throw error
  })
  const use = async () => {
    try {
      return await work(connection)
    } finally {
      await connection.close()
    }
  }
  return Promise.race([use(), failure])
}

function brokerAt(url: string, managementUrl: string): Broker {
  const management = managementClient(url, managementUrl)
  const { username } = new URL(url)

  return {
    url,
    managementUrl,
    async createVhost(name = `test-${randomUUID()}`) {
      const vhost = encodeURIComponent(name)
      await management('PUT', `vhosts/${vhost}`, {})
      await management('PUT', `permissions/${vhost}/${username}`, {
        configure: '.*',
        write: '.*',
        read: '.*'
      })
      return new URL(`/${vhost}`, url).href
    },
    async deleteVhost(vhost) {
      await management('DELETE', `vhosts/${pathOf(vhost)}`)
    },
    async setUser(user, vhost, rights) {
      const name = encodeURIComponent(user)
      await management('PUT', `users/${name}`, { password: 'secret', tags: '' })
      await management('PUT', `permissions/${encodeURIComponent(vhost)}/${name}`, rights)
    },
    async deleteUser(user) {
      await management('DELETE', `users/${encodeURIComponent(user)}`)
    },
    async queues(vhost) {
      const rows = (await management('GET', `queues/${pathOf(vhost)}`)) as QueueRow[]
      if (rows.length === 0) return []
      // The management API answers from what the queue last reported; AMQP asks the queue, but does
      // not count what is handed out.
      return withConnection(new URL(`/${pathOf(vhost)}`, url).href, async (connection) => {
        const channel = await connection.createChannel()
        return Promise.all(
          rows.map(async (row) => {
            const { name, type, messages_unacknowledged: unacknowledged = 0 } = row
            // An exclusive queue answers its own connection alone.
            const { messageCount: ready, consumerCount: consumers } = row.exclusive
              ? { messageCount: 0, consumerCount: 1 }
              : await channel.checkQueue(name)
            return {
              name,
              type,
              messages: ready + unacknowledged,
              ready,
              unacknowledged,
              consumers
            }
          })
        )
      })
    },
    async closeAllConnections(vhost) {
      const all = (await management('GET', 'connections')) as { name: string; vhost: string }[]
      const rows = all.filter(
        (row) => vhost === undefined || encodeURIComponent(row.vhost) === pathOf(vhost)
      )
      await Promise.all(
        rows.map(({ name }) => management('DELETE', `connections/${encodeURIComponent(name)}`))
      )
      return rows.length
    }
  }
}

interface QueueRow {
  name: string
  type: string
  /** Missing until the queue has reported once. */
  messages_unacknowledged?: number
  exclusive?: boolean
}

function pathOf(vhost: Vhost): string {
  return /^amqps?:/.test(vhost) ? new URL(vhost).pathname.slice(1) : encodeURIComponent(vhost)
}
