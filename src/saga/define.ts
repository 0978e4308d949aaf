import type { AnyStateMachine, AnyStateNode } from 'xstate'
import type { BodyOf, Contract } from '../messaging/message.ts'
import type { Tx } from '../messaging/sql.ts'

/** An instance after the events of one batch, for the service's own tables. */
export interface SagaChange {
  sagaId: string
  /** Active state as a path, e.g. `Failed.releasingStock`. */
  state: string
  /** The top-level state. */
  status: string
  context: Record<string, unknown>
}

export interface SagaDefinition {
  /** Names the saga in its tables and URLs. */
  readonly name: string
  /** A pure XState machine: it sends with `send()`, waits with `after`, and never invokes or spawns. */
  readonly machine: AnyStateMachine
  /** The message whose body becomes the machine's input; its correlation id names the instance. */
  readonly startedBy: Contract
  /** The events that reach the machine, as `{ type: contract.name, ...body }`. */
  readonly handles: readonly Contract[]
  /** Brings the service's own tables up to date, in the transaction that moves the instances; ids come sorted. */
  project?(tx: Tx, changes: readonly SagaChange[]): Promise<void>
}

/**
 * Declares a saga.
 * @throws Error when the machine has parallel states or starts actors: neither survives a restart
 */
export function defineSaga(definition: SagaDefinition): SagaDefinition {
  const refuse = (what: string, id: string) => {
    throw new Error(`Saga ${definition.name}: state ${id} ${what}`)
  }
  for (const node of statesOf(definition.machine.root)) {
    if (node.type === 'parallel') refuse('is parallel; a saga is in one state at a time', node.id)
    if (node.invoke.length > 0) refuse('invokes an actor; send a command and wait for its event instead', node.id)
  }
  return definition
}

/** A state and all states inside it, in the order they are written. */
export function statesOf(node: AnyStateNode): AnyStateNode[] {
  return [node, ...Object.values(node.states).flatMap(statesOf)]
}

export interface Send {
  contract: Contract
  body: unknown
}

/** The implementation of the `send` action: nothing. The host reads its params and fills the outbox. */
export function sendAction(_: unknown, _params: Send): void {}

/**
 * An action of a machine that sends a message.
 * @param body composes the message's body from the machine's context
 */
export function send<C extends Contract, Context>(contract: C, body: (context: Context) => BodyOf<C>) {
  return { type: 'send' as const, params: ({ context }: { context: Context }): Send => ({ contract, body: body(context) }) }
}

