import { pause } from '../messaging/async/batcher.ts'
import type { Service } from './service.ts'

const SOON_MS = 100
const LATER_MS = 1000

/**
 * Waits until /health/ready would say ready: every part of every service works.
 * @returns false when the signal came before that
 */
export async function becameReady(
  services: readonly Service[],
  signal: AbortSignal
): Promise<boolean> {
  for (let waited = SOON_MS; !signal.aborted; waited = Math.min(waited * 1.5, LATER_MS)) {
    const checks = await Promise.all(services.map((service) => service.check()))
    if (signal.aborted) break
    if (checks.every((parts) => Object.values(parts).every((problem) => problem === undefined)))
      return true
    await pause(waited, signal)
  }
  return false
}
