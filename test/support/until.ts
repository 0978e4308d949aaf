import { Patience } from './patience.ts'

/** How often an outside condition is looked at, ms: at first, and after a while. */
const SOON_MS = 10
const LATER_MS = 250

export interface Waiting {
  /** Without progress, and on a machine that has little else to do: 60,000 unless given. */
  limitMs?: number
  /** What moves when something happens on the way there: while it does, the wait goes on. */
  progress?(): string | number
  /** What had happened until then, for whoever reads that it was in vain. */
  tell?(): string
}

/**
 * Waits for something that can only be looked at from outside (a row, an HTTP answer): ever less
 * often, for ten that look a hundred times a second keep the process they wait for from starting.
 * The limit is a deadline for a broken build, never a measure of speed.
 * @param look returns undefined or false while it is not so yet
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  waiting: number | Waiting = {}
): Promise<T> {
  const {
    limitMs = 60_000,
    progress,
    tell
  } = typeof waiting === 'number' ? { limitMs: waiting } : waiting
  const patience = new Patience(limitMs)
  const began = performance.now()
  for (let looks = 1; ; looks++) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    const mark = progress?.()
    if (patience.isOver(mark)) {
      const happened = [mark === undefined ? '' : `it had come to ${mark}`, tell?.() ?? ''].filter(
        Boolean
      )
      throw new Error(
        [
          `Waited ${limitMs / 1000} s in vain until ${what}: looked ${looks} times in ${String(patience)}`,
          ...happened
        ].join('\n')
      )
    }
    await new Promise((resolve) =>
      setTimeout(resolve, Math.min(LATER_MS, Math.max(SOON_MS, (performance.now() - began) / 10)))
    )
  }
}
