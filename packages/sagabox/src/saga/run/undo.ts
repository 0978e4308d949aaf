import { NotAllowed } from '../../messaging/dead-letters/known-letter.ts'
import type { Undo } from '../../messaging/dead-letters/undo.ts'
import { UUID } from '../../messaging/message/envelope.ts'
import { message, type Contract, type Message } from '../../messaging/message/message.ts'
import { checker } from '../../messaging/message/validation.ts'
import { run, statement, type Tx } from '../../messaging/postgres/sql.ts'
import type { SagaDefinition } from '../define.ts'

const EXISTS = statement(
  'select exists (select from saga where saga = $1 and saga_id = $2::uuid) as found'
)

/**
 * How the effects of an instance are undone that is gone for ever: each effect's `undoneBy` is sent
 * for its id, and whoever receives it answers as it would answer the instance.
 */
export function undoOf(sagas: readonly SagaDefinition[]): Undo {
  const effects = sagas.flatMap((saga) => saga.effects ?? [])
  return {
    answers: effects.flatMap(({ clearedBy = [] }) => clearedBy.map((contract) => contract.name)),
    async commandsFor(tx, { type, correlationId }) {
      const saga = sagas.find(({ handles }) => handles.some((contract) => contract.name === type))
      if (!saga)
        throw new NotAllowed(
          `${type ?? 'What it is'} is no event of the ${sagas.map(({ name }) => name).join(' or ')} saga`
        )
      return commandsOf(saga, tx, correlationId)
    }
  }
}

async function commandsOf(
  { name, effects = [] }: SagaDefinition,
  tx: Tx,
  correlationId: string | null
): Promise<Message[]> {
  if (effects.length === 0)
    throw new NotAllowed(`The ${name} saga has no effects: there is nothing to undo`)
  if (correlationId === null || !UUID.test(correlationId))
    throw new NotAllowed(`It names no ${name} saga`)
  const sagaId = correlationId.toLowerCase()
  const [row] = await run<{ found: boolean }>(tx, EXISTS, [name, sagaId])
  if (row!.found)
    throw new NotAllowed(`The ${name} saga ${sagaId} is there: send the letter back to it`)
  return [...new Set(effects.map(({ undoneBy }) => undoneBy))].map((contract) =>
    commandFor(contract, sagaId)
  )
}

/**
 * @throws NotAllowed when the command says more than whom it is about: only the instance knew that
 */
function commandFor(contract: Contract, sagaId: string): Message {
  const body = contract.correlateBy
    .split('.')
    .reduceRight<unknown>((value, key) => ({ [key]: value }), sagaId) as Message['body']
  const problem = checker(contract.schema)(body)
  if (problem)
    throw new NotAllowed(
      `${contract.name} cannot be composed without the instance: ${problem.field.slice(1)} ${problem.expected}`
    )
  return message(contract, body, { correlationId: sagaId, headers: {} })
}
