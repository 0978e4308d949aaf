import type { Scope } from '../support/program.ts'
import { Shop, type ShopOptions } from '../support/shop.ts'
import { until } from '../support/until.ts'
import type { Bank } from './bank.ts'
import type { Edit } from '../support/edits.ts'
import { judge, type Verdict } from './oracle.ts'
import { poison } from './poison.ts'
import { Site, type SiteOptions, type TransportName } from './site.ts'

const PRODUCTS = ['keyboard', 'monitor', 'mouse']
const METHODS = [
  'pm_card_visa',
  'pm_card_visa',
  'pm_card_visa',
  'pm_card_chargeDeclined',
  'pm_lost_response'
]
/** Fewest orders while a fault lasts. */
const ORDERS = 100
const SHORT_ORDERS = 40
/** How long processes may take to reach their failpoints, one after another, ms. */
const FAILPOINTS_MS = 240_000
/** Most faults begin within this time. */
const POISON_SECONDS = 5
/** Orders after everything works again. */
const AFTERMATH = 20

/** Where a fault is injected. */
export interface Scene {
  scope: Scope
  site: Site
  shop: Shop
  /** What was found broken on the way. */
  broken: string[]
  /** Ids of messages that must become dead letters. */
  poisoned: Set<string>
  /** Ids of events that only look like those of a service. */
  forged: Set<string>
  /** 0 to 1, by the run's seed. */
  random(): number
}

export interface Fault {
  name: string
  transports: readonly TransportName[]
  site?: Partial<Omit<SiteOptions, 'transport' | 'edits'>>
  /** It needs a process for each service, in short too. */
  apart?: true
  /** Servers of its own, which may be killed. */
  servers?(scope: Scope): Promise<Partial<Pick<SiteOptions, 'database' | 'broker'>>>
  /** Where processes kill themselves, by their names: of those that are there. */
  failpoints?: Readonly<Record<string, readonly string[]>>
  shop?: Partial<Pick<ShopOptions, 'products' | 'putIn' | 'lines' | 'methods' | 'customers'>>
  /** Fewest orders while it lasts, where that matters. */
  orders?: number
  /** Starts the processes, or some of them; by default all. */
  start?(site: Site): Promise<void>
  /** Injects, heals, and says how often it was injected. Without it: waits for the failpoints. */
  inject?(scene: Scene): Promise<number>
  /** What else must hold afterwards: each finds what is wrong. */
  rules?: Record<string, string>
}

export interface Outcome extends Verdict {
  times: number
  seconds: number
}

export interface PlayOptions {
  bank: Bank
  transport: TransportName
  edits?: readonly Edit[]
  random(): number
  /** How long all that is under way may take to end, ms. */
  patience: number
  /**
   * Quickly: all services in one process whatever the transport, killed at the first of its
   * failpoints, and fewer orders.
   */
  short?: boolean
}

/**
 * Opens a shop, injects the fault while customers order, heals it, has 20 more orders end, and
 * judges.
 */
export async function play(
  scope: Scope,
  fault: Fault,
  { bank, transport, edits, random, patience, short = false }: PlayOptions
): Promise<Outcome> {
  const began = Date.now()
  const { environment, ledger } = await bank.open(scope)
  const site = await Site.open(scope, {
    ...fault.site,
    ...(await fault.servers?.(scope)),
    transport,
    edits,
    ...(short && !fault.apart && { parts: ['all'] }),
    env: { ...environment, ...fault.site?.env }
  })
  const failpoints = Object.fromEntries(
    site.names.map((name) => [
      name,
      (fault.failpoints?.[name] ?? []).slice(0, short ? 1 : undefined)
    ])
  )
  const shop = new Shop({
    api: () => site.api(),
    products: PRODUCTS,
    putIn: 100_000,
    methods: METHODS,
    lines: 2,
    customers: 10,
    ...fault.shop
  })

  await (fault.start?.(site) ?? site.start(failpoints))
  await shop.open()
  const poisoned = new Set(await poison(site.databaseUrl, short ? 1 : POISON_SECONDS))

  const broken: string[] = []
  const forged = new Set<string>()
  let over = false
  const placing = shop.placeOrders(fault.orders ?? (short ? SHORT_ORDERS : ORDERS), () => over)
  placing.catch(() => {})
  const expected = Object.values(failpoints).flat().length
  const inject =
    fault.inject ??
    (async () => {
      await until(
        `${fault.name}: it happened ${expected} times`,
        async () => site.killed === expected,
        { limitMs: FAILPOINTS_MS, progress: () => `${site.killed} times` }
      )
      return expected
    })
  const times = await Promise.race([
    inject({ scope, site, shop, broken, poisoned, forged, random }),
    placing.then(() => new Promise<never>(() => {}))
  ]).finally(() => (over = true))
  await placing
  for (const name of site.names) await site.ready(name)

  const api = await site.api()
  const late = await Promise.all(Array.from({ length: AFTERMATH }, () => shop.placeOne()))
  const { databaseUrl, queues } = site
  const verdict = await judge({
    databaseUrl,
    api,
    queues,
    ledger,
    late,
    poison: poisoned,
    forged,
    ...shop.evidence(),
    patience,
    rules: fault.rules
  })
  broken.push(...verdict.broken)
  if (site.accidents.length > 0)
    broken.push(
      `no process ends by itself: not so for ${site.accidents.length}, e.g. ${site.accidents[0]}`
    )
  return { ...verdict, broken, times, seconds: (Date.now() - began) / 1000 }
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function randomBy(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
