import type { AnyStateNode } from 'xstate'
import type { Contract } from '../../messaging/message/message.ts'
import { decisionOf } from '../machine/decision.ts'
import { statesOf, type SagaDefinition } from '../define.ts'
import { restore } from '../machine/state.ts'
import { eventName, pathOfNode } from '../machine/states.ts'
import { step, awaitedCommands } from '../machine/step.ts'
import type { StoredSaga } from '../store/list.ts'
import type { KnownStep } from './instance.ts'

/** What an instance waits for. */
export interface Awaited {
  /** Events that would move it. */
  events: Contract[]
  /** The services that it waits for in the first place. */
  owners: string[]
  /** Others that might move it, too, such as by what a state around its own takes. */
  alsoOwners: string[]
}

/** A message of an instance: one that moved it, or one that it sent. */
export interface Spoken {
  messageId: string
  contract: string
  sequence: number
  at: Date
  /** The instance sent it, in this step. */
  sent: boolean
}

/**
 * @param definition the saga in the version that the instance is on
 */
export function awaitedBy(definition: SagaDefinition, row: StoredSaga): Awaited {
  const { machine, handles } = definition
  const leaf = statesOf(machine.root).find((node) => pathOfNode(node) === row.state)
  const events: Contract[] = []
  let nearest: Contract[] = []
  for (let node = leaf; node; node = node.parent) {
    const here = handles.filter(
      (contract) => !events.includes(contract) && isTakenBy(node, leaf!, contract.name)
    )
    if (nearest.length === 0) nearest = here
    events.push(...here)
  }
  const commands = commandsOf(definition, row)
  const owners = new Set((commands.length > 0 ? commands : nearest).map(({ owner }) => owner))
  const also = new Set(events.map(({ owner }) => owner))
  return { events, owners: [...owners], alsoOwners: [...also].filter((one) => !owners.has(one)) }
}

function isTakenBy(node: AnyStateNode, leaf: AnyStateNode, event: string): boolean {
  return node.ownEvents.includes(event) && ['handled', 'guarded'].includes(decisionOf(leaf, event))
}

function commandsOf({ machine }: SagaDefinition, { value, context }: StoredSaga): Contract[] {
  try {
    return awaitedCommands(restore(machine, value, context)).map(({ contract }) => contract)
  } catch {
    return []
  }
}

/** All messages of an instance that its steps tell of, in their order. */
export function spokenIn(steps: readonly KnownStep[]): Spoken[] {
  const known = new Set<string>()
  const spoken: Spoken[] = []
  const add = (one: Spoken) => {
    if (known.has(one.messageId)) return
    known.add(one.messageId)
    spoken.push(one)
  }
  for (const { sequence, event, message_id: messageId, sent, recorded_at: at } of steps) {
    if (messageId !== null) add({ messageId, contract: event, sequence, at, sent: false })
    for (const { type, messageId: id } of sent)
      add({ messageId: id, contract: type, sequence, at, sent: true })
  }
  return spoken
}

/** What comes of an instance's first timer. */
export interface Next {
  /** Name of the timer: `after deadline`. */
  event: string
  at: string
  /** The state it leads to. */
  to: string
  /** What it sends then. */
  sends: string[]
}

/** What happens if nothing comes; undefined: nothing, or nobody can tell. */
export function nextOf({ machine }: SagaDefinition, row: StoredSaga): Next | undefined {
  const [timer] = row.timers.toSorted((a, b) => Date.parse(a.dueAt) - Date.parse(b.dueAt))
  if (!timer) return undefined
  try {
    const { to, sends } = step(machine, restore(machine, row.value, row.context), {
      type: timer.event
    })
    return {
      event: eventName(timer.event),
      at: timer.dueAt,
      to,
      sends: sends.map(({ contract }) => contract.name)
    }
  } catch {
    // It shows as what its timer failed with.
    return undefined
  }
}
