import { HttpProblem } from '../http/problem.ts'
import { retryConflicts } from '../messaging/conflict.ts'
import type { Outbox } from '../messaging/outbox.ts'
import type { Tx } from '../messaging/sql.ts'
import type { SagaMove } from './host.ts'
import { Stranded } from './versions.ts'

/**
 * Moves an instance for a request, in one transaction with what it sends.
 * @param move returns undefined when there is no such instance
 * @throws HttpProblem 503 when no machine of this process can move it; a copy of another version may
 */
export async function moveForRequest<M extends SagaMove>(outbox: Outbox, move: (tx: Tx) => Promise<M | undefined>): Promise<M | undefined> {
  try {
    return await retryConflicts(() =>
      outbox.transaction(async (tx) => {
        const moved = await move(tx)
        outbox.add(tx, moved?.messages ?? [])
        return moved
      })
    )
  } catch (error) {
    throw error instanceof Stranded ? new HttpProblem(503, error.message) : error
  }
}
