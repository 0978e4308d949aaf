import { median } from '../compare.ts'

export type Carrier = 'memory' | 'rabbitmq'

export interface ComponentResult {
  name: string
  transport: Carrier | 'none'
  figure: number
  unit: string
  /** The least that would do the same; `ratio` is ours over it. */
  baseline?: { what: string; figure: number; ratio: number }
  detail?: string
}

/** Rounds that count, after one that only warms up. */
const ROUNDS = 3

/**
 * Measures both in turn, so that a slow minute of the machine slows both. Each answers a rate; the
 * medians of the rounds.
 */
export async function inTurn(
  own: () => Promise<number>,
  other: () => Promise<number>
): Promise<{ own: number; other: number }> {
  const owns: number[] = []
  const others: number[] = []
  for (let round = 0; round <= ROUNDS; round++) {
    const [first, second] = [await own(), await other()]
    if (round === 0) continue
    owns.push(first)
    others.push(second)
  }
  return { own: median(owns), other: median(others) }
}

export function against(
  what: string,
  { own, other }: { own: number; other: number }
): Pick<ComponentResult, 'figure' | 'baseline'> {
  return { figure: own, baseline: { what, figure: other, ratio: own / other } }
}

/**
 * A size at a scale, in whole hundreds and never less than three: a rate needs more than one batch.
 */
export function scaled(size: number, scale: number): number {
  return Math.max(3, Math.round((size * scale) / 100)) * 100
}

export async function perSecond(count: number, work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return (count * 1000) / (performance.now() - began)
}

/**
 * Counts what is done in batches. The rate is from the end of the first batch to the end of the
 * last: connecting is not in it.
 */
export class Tally {
  readonly #expected: number
  #counted = 0
  #first: { count: number; at: number } | undefined
  #finished!: (rate: number) => void
  readonly #rate = new Promise<number>((resolve) => (this.#finished = resolve))

  constructor(expected: number) {
    this.#expected = expected
  }

  add(count: number): void {
    const now = performance.now()
    this.#first ??= { count, at: now }
    this.#counted += count
    if (this.#counted >= this.#expected)
      this.#finished(((this.#counted - this.#first.count) * 1000) / (now - this.#first.at))
  }

  /** Per second; rejects after two minutes without the last one. */
  async rate(): Promise<number> {
    let late: NodeJS.Timeout | undefined
    const missing = new Promise<never>((_, reject) => {
      late = setTimeout(
        () => reject(new Error(`${this.#counted} of ${this.#expected} after two minutes`)),
        120_000
      )
    })
    try {
      return await Promise.race([this.#rate, missing])
    } finally {
      clearTimeout(late)
    }
  }
}
