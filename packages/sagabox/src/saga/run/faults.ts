import { boundedText } from '../../messaging/postgres/bounded.ts'
import type { Handler } from '../../messaging/endpoint/handler.ts'
import { faultOf } from '../../messaging/message/fault.ts'
import type { Contract } from '../../messaging/message/message.ts'
import type { SagaDefinition } from '../define.ts'
import { sendsOf } from '../machine/sends.ts'
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
const LONGEST_HOST = 200

/**
 * The faults that say why a saga waits: of what starts it, of the commands that it sends, of what
 * its effects follow from, and of the commands that undo them.
 */
export function faultsOf(definition: SagaDefinition): Contract[] {
  return faultedBy(definition).map(faultOf)
}

function faultedBy(definition: SagaDefinition): Contract[] {
  const { startedBy, effects = [] } = definition
  const commands = sendsOf(definition).filter(({ kind }) => kind === 'command')
  const ofEffects = effects.flatMap(({ doneBy, undoneBy }) => [doneBy, undoneBy])
  return [...new Set([startedBy, ...commands, ...ofEffects])]
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
        const fault = body as unknown as FaultBody
        return {
          sagaId: correlationId!,
          at: boundedText(fault.timestamp, 40),
          type: failed.get(contract)!,
          message:
            boundedText(`${contract.name}: ${whatFailed(fault)}`, LONGEST_MESSAGE - LONGEST_HOST) +
            whereFailed(fault)
        }
      })
      await host.recordFaults(tx, faults)
      return []
    }
  }
}

/** What failed: the exception's type and message, as far as they are said. */
function whatFailed({ exceptions }: FaultBody): string {
  const { exceptionType, message } = exceptions[0] ?? {}
  const said = [exceptionType, message].filter((part) => part !== undefined && part !== '')
  return said.length === 0 ? 'it failed' : said.join(': ')
}

/** Where it failed, as far as it is said. */
function whereFailed({ host }: FaultBody): string {
  const said = [host?.processName, host?.machineName].filter((part) => part !== undefined)
  return said.length === 0 ? '' : ` (${boundedText(said.join(' on '), LONGEST_HOST - 3)})`
}
