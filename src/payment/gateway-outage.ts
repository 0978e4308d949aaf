import type { Log } from 'sagabox'
import type { GatewayUnavailable } from './gateway.ts'

/** A connection is cut now and then; so many failures in a row are an outage. */
const IN_A_ROW = 3

/** Says once that the gateway answers nobody, and once that it answers again. */
export class GatewayOutage {
  readonly #log: Log
  #failures = 0
  #since: number | undefined

  constructor(log: Log) {
    this.#log = log
  }

  failed(error: GatewayUnavailable): void {
    if (++this.#failures < IN_A_ROW || this.#since !== undefined) return
    this.#since = performance.now()
    this.#log.warn(
      { reason: error.message },
      'The payment gateway answers nobody; payments wait, and are asked for again until it does'
    )
  }

  answered(): void {
    this.#failures = 0
    if (this.#since === undefined) return
    const seconds = Math.round((performance.now() - this.#since) / 1000)
    this.#since = undefined
    this.#log.info({ seconds }, 'The payment gateway answers again')
  }
}
