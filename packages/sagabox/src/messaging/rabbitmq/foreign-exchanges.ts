import type { Connection } from 'amqplib/callback_api.js'
import { backoff, pause } from '../async/batcher.ts'
import type { Log } from '../async/log.ts'
import type { ForeignExchange } from '../transport/topology.ts'
import { ACCESS_REFUSED, exchangeIsThere, refusalOf, type Question } from './look.ts'

/** How often an exchange is looked for that is missing, ms: soon at first. */
const LOOK_MIN_MS = 250
const LOOK_MAX_MS = 5000
/** And one that was there: its owner may delete it and declare it anew, and its bindings with it. */
const AGAIN_MS = 30_000

const NOT_FOUND = 404

const NOT_LOOKED = (exchange: string) => `exchange ${exchange} has not been looked for yet`

/**
 * Exchanges of others: looked at, bound to, and never declared. One that is missing, or is of
 * another type, keeps back what comes and goes by it, and nothing else.
 */
export class ForeignExchanges {
  readonly #exchanges: readonly ForeignExchange[]
  readonly #log: Log
  readonly #binds: boolean
  /** Why each cannot be used yet. */
  readonly #problems = new Map<string, string>()
  readonly #bound = new Set<string>()
  /** Those that were told of. */
  readonly #warned = new Set<string>()

  /** @param binds false: somebody else does, and only their exchanges are looked for */
  constructor(exchanges: readonly ForeignExchange[], log: Log, binds = true) {
    this.#binds = binds
    this.#exchanges = exchanges
    this.#log = log
    for (const { exchange } of exchanges) this.#problems.set(exchange, NOT_LOOKED(exchange))
  }

  /** Whether an exchange was there, and bound, when it was last looked for. */
  has(exchange: string): boolean {
    return this.#bound.has(exchange)
  }

  /**
   * Why nothing is to be sent to an exchange yet; undefined: it is usable, or none of these. What is
   * sent before our own queues are bound would miss them.
   */
  problem(exchange: string): string | undefined {
    return this.#bound.has(exchange) ? undefined : this.#problems.get(exchange)
  }

  /** A sentence about each that cannot be used yet. */
  get problems(): readonly string[] {
    return [...this.#problems.values()]
  }

  /**
   * Binds to them, and looks again as long as the connection lasts.
   * @param found called when one has come that was missing
   */
  async watch(connection: Connection, ended: AbortSignal, found: () => void): Promise<void> {
    if (this.#exchanges.length === 0) return
    this.#bound.clear()
    for (const { exchange } of this.#exchanges)
      if (!this.#problems.has(exchange)) this.#problems.set(exchange, NOT_LOOKED(exchange))
    for (let looks = 1; !ended.aborted; looks++) {
      const before = this.#bound.size
      for (const exchange of this.#exchanges) {
        try {
          this.#note(exchange, await whyUnusable(connection, exchange, this.#binds))
        } catch (error) {
          if (ended.aborted) return
          this.#log.debug(
            { err: error, exchange: exchange.exchange },
            'Could not look; looking again'
          )
        }
      }
      if (this.#bound.size > before) found()
      const isComplete = this.#bound.size === this.#exchanges.length
      await pause(isComplete ? AGAIN_MS : backoff(looks, LOOK_MIN_MS, LOOK_MAX_MS), ended)
    }
  }

  #note({ exchange, bindings }: ForeignExchange, reason: string | undefined): void {
    if (reason === undefined) {
      this.#bound.add(exchange)
      this.#problems.delete(exchange)
      if (this.#warned.delete(exchange))
        this.#log.info({ exchange }, 'The exchange can be used; what waited for it comes and goes')
      return
    }
    this.#bound.delete(exchange)
    if (this.#problems.get(exchange) === reason) return
    this.#problems.set(exchange, reason)
    this.#warned.add(exchange)
    const contracts = bindings.map(({ contract }) => contract)
    this.#log.warn(
      { exchange, contracts, reason },
      'An exchange of others cannot be used yet: what it brings does not come, what goes to it waits'
    )
  }
}

/** Why an exchange cannot be used as its contracts say; undefined: it is bound. */
async function whyUnusable(
  connection: Connection,
  { exchange, type, bindings }: ForeignExchange,
  binds: boolean
): Promise<string | undefined> {
  const missing = await refusalOf(connection, [exchangeIsThere(exchange)])
  if (missing)
    return missing.code === NOT_FOUND
      ? `exchange ${exchange} is not there`
      : `exchange ${exchange}: ${missing.message}`
  if (!binds) return undefined
  // Its type is only told in the refusal to declare it again: the type is compared first.
  const refusal = await refusalOf(connection, [
    (channel, answered) => channel.assertExchange(exchange, type, { durable: true }, answered)
  ])
  const [, other] =
    /inequivalent arg 'type' .*current is '?(\w+)/s.exec(refusal?.message ?? '') ?? []
  if (other !== undefined) return `exchange ${exchange} is of type ${other}; expected ${type}`
  const binding = await refusalOf(
    connection,
    bindings.map(
      ({ queue, key, headers }): Question =>
        (channel, answered) =>
          channel.bindQueue(queue, exchange, key, headers, answered)
    )
  )
  if (!binding) return undefined
  return binding.code === ACCESS_REFUSED
    ? `RabbitMQ does not let this user bind to exchange ${exchange}: ${binding.message}`
    : `exchange ${exchange} cannot be bound to: ${binding.message}`
}
