import { HttpProblem } from './problem.ts'
import { retryConflicts } from '../messaging/postgres/retry-conflicts.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import type { Tx } from '../messaging/postgres/sql.ts'
import { NotMoved } from '../saga/run/by-hand.ts'
import type { SagaMove } from '../saga/run/host.ts'
import { Stranded } from '../saga/run/versions.ts'

/**
 * Moves an instance for a request, in one transaction with what it sends.
 * @param move returns undefined when there is no such instance
 * @throws HttpProblem 503 when no machine of this process can move it; a copy of another version
 * may; 400 or 409 for what a person asked of it and cannot be done
 */
export async function moveForRequest<M extends SagaMove>(
  outbox: Outbox,
  move: (tx: Tx) => Promise<M | undefined>
): Promise<M | undefined> {
  try {
    return await retryConflicts(() =>
      outbox.transaction(async (tx) => {
        const moved = await move(tx)
        outbox.add(tx, moved?.messages ?? [])
        return moved
      })
    )
  } catch (error) {
    throw answerTo(error)
  }
}

function answerTo(error: unknown): unknown {
  if (error instanceof Stranded) return new HttpProblem(503, error.message)
  if (!(error instanceof NotMoved)) return error
  if (error.kind === 'conflict') return new HttpProblem(409, error.message)
  const fields = error.problem && [error.problem]
  return new HttpProblem(400, `Not valid in the request's body: ${error.message}`, fields)
}
