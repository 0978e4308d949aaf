/**
 * Wakes one waiting loop. A signal given while nobody waits is kept, and any number of them count
 * as one.
 */
export class Signal {
  #given = false
  #wake: (() => void) | undefined

  give(): void {
    this.#given = true
    this.#wake?.()
  }

  /** Resolves when the signal is given, or after `ms`. */
  async wait(ms: number): Promise<void> {
    if (!this.#given) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wake = undefined
    }
    this.#given = false
  }
}
