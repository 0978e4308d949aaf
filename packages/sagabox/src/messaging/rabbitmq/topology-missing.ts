import type { Connection } from 'amqplib/callback_api.js'
import { SagaboxError } from '../errors/sagabox-error.ts'
import type { Topology } from '../transport/topology.ts'
import { exchangeIsThere, queueIsThere, refusalOf, type Question } from './look.ts'

/** Named at most; one who declares nothing may miss all. */
const MOST_NAMED = 10

/** What this process uses and may not declare is not on the broker. */
export class TopologyMissing extends SagaboxError {
  override readonly name = 'TopologyMissing'
  override readonly code = 'TOPOLOGY_MISSING'
}

/**
 * Looks for exchanges and queues by passive declarations, which need no rights. Bindings cannot be
 * seen so.
 * @throws TopologyMissing naming what is not there
 */
export async function mustBeThere(
  connection: Connection,
  { exchanges, queues }: Topology
): Promise<void> {
  const asked: [string, Question][] = [
    ...exchanges.map((name): [string, Question] => [`exchange ${name}`, exchangeIsThere(name)]),
    ...queues.map(({ name }): [string, Question] => [`queue ${name}`, queueIsThere(name)])
  ]
  const missing: string[] = []
  for (const [name, question] of asked)
    if (await refusalOf(connection, [question])) missing.push(name)
  if (missing.length === 0) return
  const more = missing.length - MOST_NAMED
  throw new TopologyMissing(
    `${missing.slice(0, MOST_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}: not there, and with TOPOLOGY=none this process declares nothing; declare it by sagabox topology apply`
  )
}
