import type { ClientBase, QueryResult } from 'pg'
import type { Bound } from './one-sync.ts'

/** The plain way: pg sends each statement by itself, in the order given, and prepares it. */
export function sendEach<One extends Bound & { resolve(result: QueryResult): void }>(
  client: ClientBase,
  statements: readonly One[],
  failed: (one: One, error: unknown) => void
): void {
  for (const one of statements)
    client
      .query({ ...one.statement, values: one.values })
      .then(one.resolve, (error: unknown) => failed(one, error))
}
