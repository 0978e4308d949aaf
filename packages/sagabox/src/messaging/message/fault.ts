import Type from 'typebox'
import { HOST_INFO } from './envelope.ts'
import { newId } from './id.ts'
import { compose, faultExchange, keyOf, type Contract, type Message } from './message.ts'

/** .NET writes null for most of it. */
const Exception = Type.Object({
  exceptionType: Type.String(),
  message: Type.Optional(Type.String()),
  stackTrace: Type.Optional(Type.String()),
  source: Type.Optional(Type.String())
})

const Host = Type.Object({
  machineName: Type.Optional(Type.String()),
  processName: Type.Optional(Type.String())
})

function faultBody(faulted: Contract['schema']) {
  return Type.Object({
    faultId: Type.String(),
    faultedMessageId: Type.Optional(Type.String()),
    timestamp: Type.String(),
    exceptions: Type.Array(Exception),
    host: Type.Optional(Host),
    faultMessageTypes: Type.Optional(Type.Array(Type.String())),
    message: faulted
  })
}

/**
 * MassTransit's `Fault`, to which every `Fault<T>` is bound: who listens to it hears all of them.
 */
export const ANY_FAULT = { urn: 'urn:message:MassTransit:Fault', exchange: 'MassTransit:Fault' }

const faults = new WeakMap<Contract, Contract>()

/**
 * MassTransit's `Fault<T>`: published when a message has become a dead letter. A handler or a saga
 * that takes it hears what failed, with the message itself; it belongs to the same business
 * transaction.
 */
export function faultOf(contract: Contract): Contract {
  let fault = faults.get(contract)
  if (!fault) {
    fault = {
      kind: 'event',
      name: `Fault<${contract.name}>`,
      owner: contract.owner,
      schema: faultBody(contract.schema),
      ...(contract.correlateBy !== undefined && { correlateBy: `message.${contract.correlateBy}` }),
      optional: true,
      urn: `urn:message:MassTransit:Fault[[${contract.urn.replace('urn:message:', '')}]]`,
      alsoUrns: [ANY_FAULT.urn],
      exchange: faultExchange(contract.exchange)
    }
    faults.set(contract, fault)
  }
  return fault
}

export function isFault(contract: Contract): boolean {
  return contract.alsoUrns?.includes(ANY_FAULT.urn) ?? false
}

/** Composes the fault of a message: for whoever asked, else for whoever listens. */
export function faultMessage(
  failed: Message,
  { type, text, stack }: { type: string; text: string; stack?: string }
): Message {
  // Not held to its schema: a fault tells of a failure, and must not be one.
  const fault = compose(
    faultOf(failed.contract),
    {
      faultId: newId(),
      faultedMessageId: failed.messageId,
      timestamp: new Date().toISOString(),
      exceptions: [
        { exceptionType: type, message: text, stackTrace: stack ?? '', source: HOST_INFO.assembly }
      ],
      host: HOST_INFO,
      faultMessageTypes: [failed.contract.urn],
      message: failed.body
    },
    keyOf(failed.contract, failed.body),
    failed
  )
  const { asked } = failed
  if (!asked?.faultTo) return fault
  return { ...fault, answers: { requestId: asked.requestId, to: asked.faultTo } }
}

/** Any `Fault<T>` that answers a request: who asked knows what. */
export const FAULT: Contract = {
  kind: 'response',
  name: 'Fault',
  owner: '',
  schema: Type.Object({ exceptions: Type.Array(Exception) }),
  correlateBy: '',
  optional: true,
  ...ANY_FAULT
}
