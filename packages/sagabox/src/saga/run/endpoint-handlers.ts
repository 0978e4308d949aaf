import type { Handler } from '../../messaging/endpoint/handler.ts'
import type { Contract, Message } from '../../messaging/message/message.ts'
import { faultHandler } from './faults.ts'
import type { SagaHost } from './host.ts'

/** What the sagas of one endpoint take: their events and starts, and what they hear of faults. */
export function handlersOf(hosts: readonly SagaHost[]): Handler[] {
  if (hosts.length === 0) return []
  return [together(hosts.map((host) => host.handler())), together(hosts.map(faultHandler))]
}

/** Handlers that may take the same contracts, as one: in one transaction all move, or none. */
function together(handlers: readonly Handler[]): Handler {
  if (handlers.length === 1) return handlers[0]!
  const takers = new Map<Contract, Handler[]>()
  for (const handler of handlers)
    for (const contract of handler.contracts)
      takers.set(contract, [...(takers.get(contract) ?? []), handler])
  return {
    contracts: [...takers.keys()],
    async handle(messages, tx) {
      const sent: Message[] = []
      for (const handler of handlers) {
        const its = messages.filter(({ contract }) => takers.get(contract)!.includes(handler))
        if (its.length > 0) sent.push(...(await handler.handle(its, tx)))
      }
      return sent
    }
  }
}
