import type { Log } from '../async/log.ts'

/**
 * One line when a service's connections are lost, and one when they are back: however many they
 * are, and however often it is tried.
 */
export class DatabaseOutage {
  readonly #schema: string
  readonly #log: Log
  /** Until the first success, the start says what is missing. */
  #connectedOnce = false
  #since: number | undefined

  constructor(schema: string, log: Log) {
    this.#schema = schema
    this.#log = log
  }

  lost(reason: string): void {
    if (!this.#connectedOnce || this.#since !== undefined) return
    this.#since = performance.now()
    this.#log.warn(
      { schema: this.#schema, reason },
      'A database connection was lost or could not be made; connecting again as connections are needed'
    )
  }

  back(): void {
    this.#connectedOnce = true
    if (this.#since === undefined) return
    const seconds = Math.round((performance.now() - this.#since) / 1000)
    this.#since = undefined
    this.#log.info({ schema: this.#schema, seconds }, 'Connected to the database again')
  }
}
