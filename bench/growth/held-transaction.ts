// Somebody's transaction stays open for minutes, and no row that dies meanwhile can be removed. The
// base is the same load in another database, where vacuum is free to work (the horizon is a
// database's own), a window of it after each.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Servers } from '../servers.ts'
import { withClient } from './audit.ts'
import {
  contenderNamed,
  details,
  progress,
  scaledOrders,
  thousands,
  type GrowthContender,
  type GrowthResult,
  type Report
} from './result.ts'
import { together, withSites, type Load, type Site } from './site.ts'

const CONTENDERS: readonly GrowthContender[] = ['embedded', 'rabbitmq-1']
/**
 * How long the load runs beside the held transaction, and its windows, ms at scale 1; those of the
 * base are shorter.
 */
const HELD_MS = 600_000
const WINDOW_MS = 30_000
const BASE_SHARE = 1 / 3
/** A window is several loads of about this long, ms, of at most so many orders. */
const CHUNK_MS = 5000
const CHUNK_ORDERS = 5000
/** Statements seen less often in a window say nothing. */
const MIN_CALLS = 10

interface Statement {
  query: string
  calls: number
  meanMs: number
}

interface Table {
  name: string
  dead: number
  bytes: number
}

interface Window {
  load: Load
  statements: Map<string, Statement>
  tables: Table[]
}

export async function heldTransaction(
  servers: Servers,
  scale: number,
  report: Report
): Promise<void> {
  const windows = Math.max(2, Math.round((HELD_MS * scale) / WINDOW_MS))
  const windowMs = (HELD_MS * scale) / windows
  for (const name of CONTENDERS) {
    const contender = contenderNamed(name)
    await withSites(servers, [{ contender }, { contender }], async (sites) => {
      const [base, held] = sites as [Site, Site]
      for (const site of sites) {
        await withClient(site.databaseUrl, (client) =>
          client.query('create extension pg_stat_statements')
        )
        await site.load(scaledOrders(5000, Math.min(1, scale * 10)), 1000)
      }
      const baseWindows: Window[] = []
      const heldWindows: Window[] = []
      const release = await hold(held.databaseUrl)
      try {
        for (let index = 1; index <= windows; index++) {
          heldWindows.push(await window(held, windowMs, index * 1000))
          baseWindows.push(await window(base, windowMs * BASE_SHARE, index * 1000))
          progress(
            `held-transaction, ${name}, window ${index} of ${windows}: ${rate(heldWindows.at(-1)!)} orders/s, without ${rate(baseWindows.at(-1)!)}`
          )
        }
      } finally {
        await release()
      }
      const baseVerdict = await base.check()
      const heldVerdict = await held.check()
      const line = (
        what: string,
        { load }: Window,
        other: Window | undefined,
        detail: string,
        broken: string[]
      ): GrowthResult => ({
        name: `held-transaction, ${what}`,
        contender: name,
        ordersPerSecond: load.ordersPerSecond,
        cpuMsPerOrder: load.cpuMsPerOrder,
        ...(other && { ratio: load.ordersPerSecond / other.load.ordersPerSecond }),
        detail,
        broken
      })
      report(
        line(
          'none, first window',
          baseWindows[0]!,
          undefined,
          `${((windowMs * BASE_SHARE) / 1000).toFixed(0)} s each`,
          []
        )
      )
      report(
        line(
          'none, last window',
          baseWindows.at(-1)!,
          undefined,
          details(describe(baseWindows), baseVerdict.failed),
          baseVerdict.broken
        )
      )
      report(
        line(
          'held, first window',
          heldWindows[0]!,
          baseWindows[0],
          `${(windowMs / 1000).toFixed(0)} s each`,
          []
        )
      )
      report(
        line(
          'held, last window',
          heldWindows.at(-1)!,
          baseWindows.at(-1),
          details(describe(heldWindows), heldVerdict.failed),
          heldVerdict.broken
        )
      )
    })
  }
}

/** Opens a transaction with a snapshot and an id of its own. The caller ends it. */
async function hold(databaseUrl: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query('begin isolation level repeatable read')
  await client.query('select txid_current(), count(*) from order_service.orders')
  return async () => {
    await client.query('rollback')
    await client.end()
  }
}

/**
 * Loads until the time is over. Chunks shrink as the rate falls, so that a window does not last
 * much longer.
 */
async function window(site: Site, windowMs: number, seed: number): Promise<Window> {
  await withClient(site.databaseUrl, (client) =>
    client.query(
      'select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = current_database()'
    )
  )
  const loads: Load[] = []
  let orders = Math.min(CHUNK_ORDERS, Math.max(200, Math.round(windowMs / 4)))
  for (const began = performance.now(); performance.now() - began < windowMs;) {
    const load = await site.load(orders, seed + loads.length)
    loads.push(load)
    const left = windowMs - (performance.now() - began)
    orders = Math.min(
      CHUNK_ORDERS,
      Math.max(200, Math.round((load.ordersPerSecond * Math.min(CHUNK_MS, left)) / 1000))
    )
  }
  // Sessions report their row counts a second late.
  await sleep(1100)
  return withClient(site.databaseUrl, async (client) => ({
    load: together(loads),
    statements: await statements(client),
    tables: await tables(client)
  }))
}

async function statements(client: pg.Client): Promise<Map<string, Statement>> {
  const { rows } = await client.query<Statement & { id: string }>(`
    select queryid::text as id, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) as query,
      calls::integer, mean_exec_time as "meanMs"
    from pg_stat_statements where dbid = (select oid from pg_database
      where datname = current_database()) and calls >= ${MIN_CALLS}`)
  return new Map(rows.map(({ id, ...statement }) => [id, statement]))
}

async function tables(client: pg.Client): Promise<Table[]> {
  const { rows } = await client.query<{ name: string; dead: string; bytes: string }>(`
    select schemaname || '.' || relname as name, n_dead_tup as dead,
      pg_total_relation_size(relid) as bytes from pg_stat_user_tables order by n_dead_tup desc`)
  return rows.map(({ name, dead, bytes }) => ({ name, dead: Number(dead), bytes: Number(bytes) }))
}

function describe(windows: readonly Window[]): string {
  const [first, last] = [windows[0]!, windows.at(-1)!]
  const dead = (all: readonly Table[]) => thousands(all.reduce((sum, table) => sum + table.dead, 0))
  const worst = last.tables
    .slice(0, 4)
    .map(
      ({ name, dead: rows, bytes }) => `${name} ${thousands(rows)} (${(bytes / 1e6).toFixed(0)} MB)`
    )
  const slower = [...last.statements]
    .map(([id, after]) => ({ ...after, before: first.statements.get(id)?.meanMs ?? Infinity }))
    .toSorted((a, b) => b.meanMs - b.before - (a.meanMs - a.before))
    .slice(0, 5)
    .filter(({ meanMs, before }) => meanMs > before)
    .map(
      ({ query, calls, meanMs, before }) =>
        `${before.toFixed(2)} to ${meanMs.toFixed(2)} ms × ${thousands(calls)}: ${query}`
    )
  return [
    `last to first window ${(last.load.ordersPerSecond / first.load.ordersPerSecond).toFixed(2)}`,
    `windows ${windows.map(rate).join(' ')}`,
    `dead tuples ${dead(first.tables)} to ${dead(last.tables)}: ${worst.join(', ')}`,
    `statements that grew most, mean: ${slower.join(' | ') || 'none'}`
  ].join('; ')
}

function rate({ load }: Window): string {
  return load.ordersPerSecond.toFixed(0)
}
