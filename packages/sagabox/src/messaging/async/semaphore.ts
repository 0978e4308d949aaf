/** Lets so many do something at once; the others wait their turn. */
export class Semaphore {
  #free: number
  readonly #waiting: (() => void)[] = []

  /** @param most at once */
  constructor(most: number) {
    this.#free = most
  }

  /** Resolves when it is the caller's turn, which calls `give` when it is done. */
  take(): Promise<void> {
    if (this.#free > 0) {
      this.#free--
      return Promise.resolve()
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  give(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}
