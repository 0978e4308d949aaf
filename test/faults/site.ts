import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests, type Broker, type QueueState } from '../support/rabbitmq.ts'
import { Api } from '../support/api.ts'
import type { Edit } from '../support/edits.ts'
import { Program, ROOT, type Scope } from '../support/program.ts'
import { until } from '../support/until.ts'
import { brokenBuild } from './broken-build.ts'
import { Pooler } from '../support/pooler.ts'
import { Proxy } from './proxy.ts'

/** memory: all services in one process, without a broker. rabbitmq: a process each. */
export type TransportName = 'memory' | 'rabbitmq'

export type Part = 'all' | 'order' | 'stock' | 'payment'

export interface SiteOptions {
  transport: TransportName
  /** What runs in a process of its own; by default what the transport asks for. */
  parts?: readonly Part[]
  /** Of each part. */
  copies?: number
  env?: Readonly<Record<string, string>>
  /** Breaks the product. */
  edits?: readonly Edit[]
  /** The network between the services and their servers can be disturbed. */
  /** Between services and database is a pooler that drops their session settings. */
  pooled?: boolean
  proxied?: boolean
  /** Servers that may be killed; by default those that all tests share. */
  database?: { createDatabase(name?: string): Promise<string> }
  broker?: Broker
}

interface Running {
  program: Promise<Program>
  /** Asked to end by us. */
  ending: boolean
  /** Where it kills itself, and after its next starts. */
  failpoints: string[]
}

/**
 * Not in the watchdog's thread, which would load the product once more: a second of CPU for each
 * process.
 */
const FAILPOINTS = `data:text/javascript,${encodeURIComponent(`import { isMainThread } from 'node:worker_threads'; if (isMainThread) await import('${pathToFileURL(`${ROOT}test/faults/failpoints.mjs`).href}')`)}`

/** Address of what has never been started. */
const NOWHERE = 'http://127.0.0.1:1'

/** The product, in processes that are killed and started again. */
export class Site {
  readonly options: SiteOptions
  databaseUrl: string
  readonly parts: readonly Part[]
  /** Between the services and their servers, when there is one. */
  readonly databaseProxy: Proxy | undefined
  readonly brokerProxy: Proxy | undefined
  readonly brokerUrl: string | undefined
  /** How often a process has killed itself at a failpoint. */
  killed = 0
  /** Processes that ended without being told to, with their last words. */
  readonly accidents: string[] = []
  readonly #scope: Scope
  /** Folder of the product that is run. */
  readonly #product: string
  readonly #broker: Broker | undefined
  readonly #running = new Map<string, Running>()
  readonly #pooledUrl: string | undefined
  #turn = 0

  private constructor(
    scope: Scope,
    options: SiteOptions,
    product: string,
    databaseUrl: string,
    broker: Broker | undefined,
    brokerUrl: string | undefined,
    proxies: { database: Proxy | undefined; broker: Proxy | undefined },
    pooledUrl: string | undefined
  ) {
    this.#pooledUrl = pooledUrl
    this.#scope = scope
    this.options = options
    this.#product = product
    this.databaseUrl = databaseUrl
    this.databaseProxy = proxies.database
    this.#broker = broker
    this.brokerUrl = brokerUrl
    this.brokerProxy = proxies.broker
    this.parts =
      options.parts ?? (options.transport === 'memory' ? ['all'] : ['order', 'stock', 'payment'])
  }

  /** A database and a virtual host of its own; nothing runs yet. */
  static async open(scope: Scope, options: SiteOptions): Promise<Site> {
    const { edits, database = await postgresForTests(), proxied } = options
    const product = edits ? await brokenBuild(scope, edits) : ROOT
    const databaseUrl = await database.createDatabase('faults')
    const broker =
      options.transport === 'rabbitmq' ? (options.broker ?? (await rabbitmqForTests())) : undefined
    const brokerUrl = await broker?.createVhost()
    const pooler = options.pooled
      ? await Pooler.open(scope, databaseUrl, { mode: 'session', options: 'dropped' })
      : undefined
    const proxyTo = (url: string | undefined) =>
      url && proxied ? Proxy.open(scope, url) : undefined
    return new Site(
      scope,
      options,
      product,
      databaseUrl,
      broker,
      brokerUrl,
      { database: await proxyTo(databaseUrl), broker: await proxyTo(brokerUrl) },
      pooler?.url
    )
  }

  /** The database is at another server now, and new connections lead there. */
  moveDatabase(url: string): void {
    this.databaseUrl = url
    this.databaseProxy!.lead(url)
  }

  /** Names of the processes: parts, with a number when there are copies. */
  get names(): string[] {
    const { copies = 1 } = this.options
    return this.parts.flatMap((part) =>
      Array.from({ length: copies }, (_, index) => (index === 0 ? part : `${part} ${index + 1}`))
    )
  }

  /** Starts every process, and waits until all work. */
  async start(failpoints: Readonly<Record<string, readonly string[]>> = {}): Promise<void> {
    for (const name of this.names) this.run(name, failpoints[name])
    await Promise.all(this.names.map((name) => this.ready(name)))
  }

  /**
   * Starts a process. Each time it kills itself at a failpoint it is started again, with the next.
   */
  run(name: string, failpoints: readonly string[] = []): void {
    const running: Running = {
      program: Promise.reject(new Error('not started')),
      ending: false,
      failpoints: [...failpoints]
    }
    running.program.catch(() => {})
    this.#running.set(name, running)
    this.#spawn(name, running)
  }

  #spawn(name: string, running: Running): void {
    const failpoint = running.failpoints.shift()
    // Killed at the end, it must not be started again.
    const scope: Scope = {
      teardown: (kill) =>
        this.#scope.teardown(() => {
          running.ending = true
          return kill()
        })
    }
    const program = new Program(
      scope,
      { ...this.#env(), ...(failpoint && { FAILPOINT: failpoint }) },
      this.#argsOf(name),
      this.#product
    )
    running.program = program.listening().then(() => program)
    running.program.catch(() => {})
    void program.exited.then(({ code, signal }) => {
      if (running.ending) return
      if (signal === 'SIGKILL' && failpoint) {
        this.killed++
        return this.#spawn(name, running)
      }
      this.accidents.push(`${name} ended with ${code ?? signal}: ${program.lastWords}`)
    })
  }

  #env(): Record<string, string> {
    const { env = {} } = this.options
    return {
      NODE_OPTIONS: `--import=${FAILPOINTS}`,
      LIBRARY: pathToFileURL(join(this.#product, 'packages/sagabox/dist')).href,
      DATABASE_URL: this.#pooledUrl ?? this.databaseProxy?.url ?? this.databaseUrl,
      ...(this.brokerUrl && { RABBITMQ_URL: this.brokerProxy?.url ?? this.brokerUrl }),
      // Longer than any fault: what is lost shows as an order that never ends.
      ORDER_DEADLINE_SECONDS: '600',
      ...env
    }
  }

  #argsOf(name: string): string[] {
    const part = name.split(' ', 1)[0]!
    return part === 'all' ? [] : [part]
  }

  /** The process as it runs now. One that is just being started again is waited for. */
  async program(name: string): Promise<Program> {
    for (;;) {
      const running = this.#running.get(name)
      if (!running) throw new Error(`${name} was not started`)
      const { program } = running
      try {
        return await program
      } catch (error) {
        // It has killed itself before it listened; the next is on its way.
        if (running.program === program) throw error
      }
    }
  }

  async ready(name: string): Promise<void> {
    let said = ''
    await until(
      `${name} is ready`,
      async () => {
        if (this.accidents.length > 0) throw new Error(this.accidents[0])
        const program = await this.program(name)
        said = program.lastWords
        return fetch(`${program.url}/health/ready`).then(
          ({ status }) => status === 200,
          () => false
        )
      },
      { tell: () => said }
    )
  }

  /** Ends a process. */
  async end(name: string, signal: NodeJS.Signals): Promise<void> {
    const running = this.#running.get(name)!
    running.ending = true
    const program = await running.program
    const { code } = await program.stop(signal)
    if (signal === 'SIGTERM' && code !== 0)
      this.accidents.push(`${name} ended with ${code} after SIGTERM: ${program.lastWords}`)
  }

  /** Ends a process and starts it again. */
  async restart(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.end(name, signal)
    this.run(name)
    await this.program(name)
  }

  /** Customers find their way to one of the copies of each service, in turn. */
  async api(): Promise<Api> {
    const { copies = 1 } = this.options
    const turn = this.#turn++
    const urlOf = async (part: Part) => {
      const of: string = this.parts.includes('all') ? 'all' : part
      const index = turn % copies
      const name = index === 0 ? of : `${of} ${index + 1}`
      return this.#running.has(name) ? (await this.program(name)).url : NOWHERE
    }
    return new Api({
      order: await urlOf('order'),
      stock: await urlOf('stock'),
      payment: await urlOf('payment')
    })
  }

  /** What is in the broker's queues; undefined without a broker. */
  get queues(): (() => Promise<QueueState[]>) | undefined {
    const { brokerUrl } = this
    const broker = this.#broker
    return broker && brokerUrl ? () => broker.queues(brokerUrl) : undefined
  }
}
