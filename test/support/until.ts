/** How often an outside condition is looked at, ms. */
const INTERVAL_MS = 10

/**
 * Waits for something that can only be looked at from outside (a row, an HTTP answer). The limit is a deadline for a
 * broken build, never a measure of speed.
 * @param look returns undefined or false while it is not so yet
 */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>, limitMs = 60_000): Promise<T> {
  const deadline = Date.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (Date.now() > deadline) throw new Error(`Waited ${limitMs / 1000} s in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS))
  }
}
