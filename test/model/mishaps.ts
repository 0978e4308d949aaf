import type { ServiceName } from '../../src/shop.ts'

type Commit = 'before' | 'after'

/** What the next transaction of a service is to meet; it outlives the process. */
export class Mishaps {
  readonly #rollBacks = new Set<ServiceName>()
  readonly #deaths = new Map<ServiceName, Commit>()

  rollBack(service: ServiceName): void {
    this.#rollBacks.add(service)
  }

  die(service: ServiceName, commit: Commit): void {
    this.#deaths.set(service, commit)
  }

  clear(): void {
    this.#rollBacks.clear()
    this.#deaths.clear()
  }

  /** Whether this transaction is to be rolled back; the next is not. */
  rollsBack(service: ServiceName): boolean {
    return this.#rollBacks.delete(service)
  }

  /** Whether the process is to die here. */
  dies(service: ServiceName, commit: Commit): boolean {
    return this.#deaths.get(service) === commit && this.#deaths.delete(service)
  }
}
