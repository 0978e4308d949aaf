/** Counts what this process has finished; the watchdog looks at it from a thread of its own. */
export const progress = new Int32Array(new SharedArrayBuffer(4))

/** A piece of work that keeps the event loop busy has ended: many of them in a row are no hang. */
export function madeProgress(): void {
  Atomics.add(progress, 0, 1)
}
