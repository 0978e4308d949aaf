// A contender at work on a database of its own, and what is asked of it.
import { cpuOf } from '../compare.ts'
import { startContender, type Contender, type Running } from '../contenders.ts'
import { closedLoop } from '../load.ts'
import type { Servers } from '../servers.ts'
import { Audit, type Verdict } from './audit.ts'

export interface Load {
  orders: number
  /** From the first POST to the last end. */
  endedMs: number
  ordersPerSecond: number
  cpuMsPerOrder: { node: number; postgres: number; rabbitmq: number }
}

export interface SiteOptions {
  contender: Contender
  /**
   * Fills the migrated database while nobody uses it; the contender is started again on what it
   * left.
   */
  fill?(databaseUrl: string): Promise<void>
  /** Called when the contender runs and the shelves are full. */
  opened?(databaseUrl: string): Promise<void>
}

export class Site {
  readonly databaseUrl: string
  readonly pids: readonly number[]
  readonly #servers: Servers
  readonly #running: Running
  readonly #audit: Audit
  #placed = 0

  constructor(servers: Servers, databaseUrl: string, running: Running, audit: Audit) {
    this.databaseUrl = databaseUrl
    this.pids = running.pids
    this.#servers = servers
    this.#running = running
    this.#audit = audit
  }

  /**
   * The closed loop, and what it cost. Idle sites beside this one are in the servers' CPU time: a
   * few polls a second.
   */
  async load(orders: number, seed: number, hotProduct = false): Promise<Load> {
    const before = cpuOf(this.#servers, this.pids)
    const { endedMs } = await closedLoop(
      this.#running.urls,
      this.databaseUrl,
      orders,
      seed,
      hotProduct
    )
    const after = cpuOf(this.#servers, this.pids)
    this.#placed += orders
    return {
      orders,
      endedMs,
      ordersPerSecond: (orders * 1000) / endedMs,
      cpuMsPerOrder: {
        node: (after.node - before.node) / orders,
        postgres: (after.postgres - before.postgres) / orders,
        rabbitmq: (after.rabbitmq - before.rabbitmq) / orders
      }
    }
  }

  /** GET: how long the answer took, ms, and its status. */
  async ask(path: string): Promise<{ ms: number; status: number }> {
    const began = performance.now()
    const answer = await fetch(`${this.#running.urls[0]}${path}`)
    await answer.arrayBuffer()
    return { ms: performance.now() - began, status: answer.status }
  }

  /** Judges all orders placed here so far. */
  check(): Promise<Verdict> {
    return this.#audit.check(this.#placed)
  }
}

/** Opens a site and closes it after the work. */
export async function withSite<R>(
  servers: Servers,
  { contender, fill, opened }: SiteOptions,
  work: (site: Site) => Promise<R>
): Promise<R> {
  const { databaseUrl, rabbitmqUrl, drop } = await servers.fresh(`growth_${contender.name}`)
  try {
    if (fill) {
      await (await startContender(contender, databaseUrl, rabbitmqUrl)).stop()
      await fill(databaseUrl)
    }
    const running = await startContender(contender, databaseUrl, rabbitmqUrl)
    try {
      await opened?.(databaseUrl)
      return await work(new Site(servers, databaseUrl, running, await Audit.begin(databaseUrl)))
    } finally {
      await running.stop()
    }
  } finally {
    await drop()
  }
}

/** Opens a site for each of the options, all on the same servers. */
export async function withSites<R>(
  servers: Servers,
  [first, ...others]: readonly SiteOptions[],
  work: (sites: Site[]) => Promise<R>
): Promise<R> {
  if (!first) return work([])
  return withSite(servers, first, (site) =>
    withSites(servers, others, (sites) => work([site, ...sites]))
  )
}

/** Several loads as one. */
export function together(loads: readonly Load[]): Load {
  const orders = loads.reduce((sum, load) => sum + load.orders, 0)
  const endedMs = loads.reduce((sum, load) => sum + load.endedMs, 0)
  const cpu = (of: keyof Load['cpuMsPerOrder']) =>
    loads.reduce((sum, load) => sum + load.cpuMsPerOrder[of] * load.orders, 0) / orders
  return {
    orders,
    endedMs,
    ordersPerSecond: (orders * 1000) / endedMs,
    cpuMsPerOrder: { node: cpu('node'), postgres: cpu('postgres'), rabbitmq: cpu('rabbitmq') }
  }
}
