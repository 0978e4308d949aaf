import type { EndpointElsewhere } from './topology.ts'

const NONE: readonly string[] = []

/** What a row's reason to wait begins with. */
export const AWAITING = 'waiting for endpoint'

/**
 * Endpoints that are declared elsewhere and have not been seen yet. Until an event reaches all that
 * are known to take it, it stays in the outbox: the broker drops it for a queue that is not there,
 * and says nothing when another queue takes it.
 */
export class AwaitedEndpoints {
  readonly #elsewhere: readonly EndpointElsewhere[]
  readonly #missing = new Map<string, EndpointElsewhere>()
  /** exchange -> names of the missing endpoints that are sent to by it */
  readonly #byExchange = new Map<string, string[]>()
  #arrivals = 0

  constructor(elsewhere: readonly EndpointElsewhere[]) {
    this.#elsewhere = elsewhere
    this.reset()
  }

  /** Grows whenever an endpoint was seen. */
  get arrivals(): number {
    return this.#arrivals
  }

  get missing(): readonly EndpointElsewhere[] {
    return [...this.#missing.values()]
  }

  /** Which have to be seen before something is sent to an exchange. */
  before(exchange: string): readonly string[] {
    return this.#byExchange.get(exchange) ?? NONE
  }

  /** Whatever was seen has to be seen anew. */
  reset(): void {
    for (const one of this.#elsewhere) this.#missing.set(one.endpoint, one)
    this.#index()
  }

  seen(endpoint: string): void {
    this.#missing.delete(endpoint)
    this.#arrivals++
    this.#index()
  }

  /** Why something waits that goes to an exchange. */
  reason(exchange: string): string {
    return reasonFor(this.before(exchange))
  }

  /** All reasons for which something may be waiting now. */
  reasons(): string[] {
    return [...new Set([...this.#byExchange.values()].map(reasonFor))]
  }

  #index(): void {
    this.#byExchange.clear()
    for (const { endpoint, takes } of this.#missing.values()) {
      for (const exchange of takes)
        this.#byExchange.set(exchange, [...this.before(exchange), endpoint])
    }
  }
}

/** @param endpoints at least one */
export function reasonFor(endpoints: readonly string[]): string {
  const [one] = endpoints
  return endpoints.length === 1
    ? `${AWAITING} ${one}, which has never been started`
    : `${AWAITING}s ${endpoints.join(' and ')}, which have never been started`
}
