import { availableParallelism, loadavg } from 'node:os'

/**
 * Processes that want a core, for each there is, with which everything still goes at its usual
 * speed: our own make some.
 */
const USUAL_LOAD = 2
const SLOWEST = 8

/** How much slower than usual everything goes, 1 to 8: others want the cores, too. */
export function slowness(load = loadavg()[0]!, cores = availableParallelism()): number {
  return Math.min(SLOWEST, Math.max(1, load / cores / USUAL_LOAD))
}

/**
 * How long to wait for what may never come. Not by the clock alone: time counts less while the
 * machine is busy, and anew when something has moved.
 */
export class Patience {
  readonly #limitMs: number
  readonly #slowness: () => number
  readonly #now: () => number
  readonly #began: number
  #last: number
  #spent = 0
  #mark: unknown

  /** @param limitMs without progress, on a machine that has little else to do */
  constructor(
    limitMs: number,
    slow: () => number = slowness,
    now: () => number = () => performance.now()
  ) {
    this.#limitMs = limitMs
    this.#slowness = slow
    this.#now = now
    this.#began = this.#last = now()
  }

  /** @param mark what moves when something happens */
  isOver(mark?: unknown): boolean {
    const now = this.#now()
    this.#spent += (now - this.#last) / this.#slowness()
    this.#last = now
    if (mark !== this.#mark) this.#spent = 0
    this.#mark = mark
    return this.#spent > this.#limitMs
  }

  /** Such as `312 s (60 s count; everything is 5.2 times slower than usual)`. */
  toString(): string {
    return `${((this.#now() - this.#began) / 1000).toFixed(0)} s (${(this.#spent / 1000).toFixed(0)} s count; everything is ${this.#slowness().toFixed(1)} times slower than usual)`
  }
}
