/** How often an outside condition is looked at, ms: at first, and after a while. */
const SOON_MS = 10
const LATER_MS = 250

/**
 * Waits for something that can only be looked at from outside (a row, an HTTP answer): ever less often, for ten that look
 * a hundred times a second keep the process they wait for from starting. The limit is a deadline for a broken build,
 * never a measure of speed.
 * @param look returns undefined or false while it is not so yet
 */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>, limitMs = 60_000): Promise<T> {
  const began = Date.now()
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    const waited = Date.now() - began
    if (waited > limitMs) throw new Error(`Waited ${limitMs / 1000} s in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, Math.min(LATER_MS, Math.max(SOON_MS, waited / 10))))
  }
}
