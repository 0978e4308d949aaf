import { setTimeout as pause } from 'node:timers/promises'
import { backoff } from '../async/batcher.ts'
import { isConflict } from './sql.ts'

const MOST_TRIES = 5

/**
 * Runs work that is one transaction of its own, and runs it again when others were in its way: for
 * a request, which nobody brings a second time.
 * @throws what the work throws; the conflict itself after five tries
 */
export async function retryConflicts<R>(work: () => Promise<R>): Promise<R> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!isConflict(error) || attempt === MOST_TRIES) throw error
      await pause(backoff(attempt, 20, 200))
    }
  }
}
