import { boundedText } from '../../messaging/postgres/bounded.ts'
import type { Handler } from '../../messaging/endpoint/handler.ts'
import { faultOf } from '../../messaging/message/fault.ts'
import type { Contract } from '../../messaging/message/message.ts'
import type { SagaDefinition } from '../define.ts'
import type { SagaHost } from './host.ts'

interface FaultBody {
  timestamp: string
  exceptions: { exceptionType: string; message?: string }[]
  host?: { machineName?: string; processName?: string }
}

/**
 * Of what a fault says, bytes: anybody may have sent it, and every answer about the instance shows
 * it.
 */
const LONGEST_MESSAGE = 2000

/**
 * The faults that say why a saga waits: of what starts it, of what its effects follow from, and of
 * the commands that undo them.
 */
export function faultsOf(definition: SagaDefinition): Contract[] {
  return faultedBy(definition).map(faultOf)
}

function faultedBy({ startedBy, effects = [] }: SagaDefinition): Contract[] {
  return [...new Set([startedBy, ...effects.flatMap(({ doneBy, undoneBy }) => [doneBy, undoneBy])])]
}

/**
 * The endpoint's handler for messages that became dead letters on the saga's way: why shows on the
 * instance until its state changes.
 */
export function faultHandler(host: SagaHost): Handler {
  const failed = new Map(
    faultedBy(host.definition).map((contract) => [faultOf(contract), contract.name])
  )
  return {
    contracts: [...failed.keys()],
    async handle(messages, tx) {
      const faults = messages.map(({ contract, correlationId, body }) => {
        const { timestamp } = body as unknown as FaultBody
        return {
          sagaId: correlationId!,
          at: boundedText(timestamp, 40),
          type: failed.get(contract)!,
          message: boundedText(
            `${contract.name}: ${told(body as unknown as FaultBody)}`,
            LONGEST_MESSAGE
          )
        }
      })
      await host.recordFaults(tx, faults)
      return []
    }
  }
}

/** What failed and where: the exception's type and message, and the host, as far as they are said. */
function told({ exceptions, host }: FaultBody): string {
  const { exceptionType, message } = exceptions[0] ?? {}
  const what = [exceptionType, message].filter((part) => part !== undefined && part !== '')
  const where = [host?.processName, host?.machineName].filter((part) => part !== undefined)
  const failed = what.length === 0 ? 'it failed' : what.join(': ')
  return where.length === 0 ? failed : `${failed} (${where.join(' on ')})`
}
