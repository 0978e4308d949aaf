import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { HttpProblem } from './problem.ts'

/** Exports at once, a process: each keeps a page in memory, and a database connection busy. */
const MOST_EXPORTS = 2
/** A client has so long for a page, ms. */
const STALLED_MS = 30_000

/** Hands exports out, few at a time, and ends those that nobody reads on. */
export class ExportDesk {
  readonly #most: number
  readonly #stalledMs: number
  #open = 0

  constructor(most = MOST_EXPORTS, stalledMs = STALLED_MS) {
    this.#most = most
    this.#stalledMs = stalledMs
  }

  /**
   * Begins an export. The first page is read before this resolves: an absent database can still be
   * answered with a 503.
   * @param client cut off when it takes no page in time
   * @throws HttpProblem 503 when enough are open
   */
  async open(begin: () => AsyncGenerator<string>, client: Socket): Promise<Readable> {
    if (this.#open >= this.#most) {
      throw new HttpProblem(
        503,
        `${this.#most} exports are running, and no more run at once; try again when one has ended`
      )
    }
    this.#open++
    const pages = begin()
    let first: IteratorResult<string>
    try {
      first = await pages.next()
    } catch (error) {
      this.#open--
      throw error
    }
    const lines = Readable.from(this.#paced(first, pages, client), { highWaterMark: 1 })
    // Also when it was never read.
    lines.once('close', () => this.#open--)
    if (client.destroyed) lines.destroy()
    return lines
  }

  async *#paced(
    first: IteratorResult<string>,
    more: AsyncGenerator<string>,
    client: Socket
  ): AsyncGenerator<string> {
    try {
      for (let page = first; !page.done; page = await more.next()) {
        const stalled = setTimeout(() => client.destroy(), this.#stalledMs)
        try {
          yield page.value
        } finally {
          clearTimeout(stalled)
        }
      }
    } finally {
      await more.return(undefined)
    }
  }
}
