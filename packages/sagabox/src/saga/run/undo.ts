import { NotAllowed } from '../../messaging/dead-letters/known-letter.ts'
import type { Undo } from '../../messaging/dead-letters/undo.ts'
import { idOfKey, textKey } from '../../messaging/message/correlation.ts'
import { UUID } from '../../messaging/message/id.ts'
import { keyOf, message, type Contract, type Message } from '../../messaging/message/message.ts'
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
    async commandsFor(tx, { type, correlationId, payload }) {
      const saga = sagas.find(({ handles }) => handles.some((contract) => contract.name === type))
      if (!saga)
        throw new NotAllowed(
          `${type ?? 'What it is'} is no event of the ${sagas.map(({ name }) => name).join(' or ')} saga`
        )
      const handled = saga.handles.find((contract) => contract.name === type)!
      return commandsOf(saga, tx, correlationId, keyIn(payload, handled))
    }
  }
}

async function commandsOf(
  { name, effects = [] }: SagaDefinition,
  tx: Tx,
  correlationId: string | null,
  key: string | undefined
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
    commandFor(contract, key !== undefined && idOfKey(key) === sagaId ? key : sagaId)
  )
}

/** What a letter calls the instance, where that is more than an id. */
function keyIn(payload: Buffer, contract: Contract): string | undefined {
  try {
    const content = JSON.parse(payload.toString().replace(/^\uFEFF/, '')) as { message?: unknown }
    const key = keyOf(contract, contract.foreign ? content : content.message)
    return key && textKey(key)
  } catch {
    return undefined
  }
}

/**
 * @throws NotAllowed when the command says more than whom it is about: only the instance knew that
 */
function commandFor(contract: Contract, key: string): Message {
  const body = (contract.correlateBy ?? '')
    .split('.')
    .reduceRight<unknown>((value, name) => ({ [name]: value }), key) as Message['body']
  const problem = checker(contract.schema)(body)
  if (problem)
    throw new NotAllowed(
      `${contract.name} cannot be composed without the instance: ${problem.field.slice(1)} ${problem.expected}`
    )
  return message(contract, body, { correlationId: idOfKey(key), headers: {} })
}
