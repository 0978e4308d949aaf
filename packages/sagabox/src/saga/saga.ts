import type { BodyOf, Contract } from '../messaging/message/message.ts'
import { buildMachine, type States, type Tools } from './build-machine.ts'
import { checkedSaga, type SagaDefinition } from './define.ts'

/** A saga but for its machine. */
export interface SagaOptions<
  Start extends Contract,
  Handles extends readonly Contract[],
  Context extends object
> extends Omit<SagaDefinition, 'name' | 'machine' | 'previous' | 'startedBy' | 'handles'> {
  readonly startedBy: Start
  readonly handles: Handles
  /** What an instance knows at first; the body of what started it when not given. */
  context?(start: BodyOf<Start>): Context
}

/**
 * Declares a saga.
 * @param name names it in tables and URLs
 * @param build given the tools to write states with; events are named as their contracts
 * @returns the definition, for a service's `sagas`
 * @throws Error when the states cannot be those of a saga: see the message
 */
export function defineSaga<
  const Start extends Contract,
  const Handles extends readonly Contract[],
  Context extends object = BodyOf<Start> & object
>(
  name: string,
  options: SagaOptions<Start, Handles, Context>,
  build: (tools: Tools<Context>) => States<Context, Handles[number]['name']>
): SagaDefinition
/** Declares a saga whose machine is written with XState's own setup(). */
export function defineSaga(definition: SagaDefinition): SagaDefinition
export function defineSaga(
  first: string | SagaDefinition,
  options?: SagaOptions<Contract, readonly Contract[], object>,
  build?: (tools: Tools<object>) => States<object, string>
): SagaDefinition {
  if (typeof first !== 'string') return checkedSaga(first)
  const { context = (start: object) => ({ ...start }), ...rest } = options!
  const machine = buildMachine(first, context, build!)
  return checkedSaga({ name: first, machine, ...rest })
}
