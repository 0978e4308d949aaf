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

/** A saga whose machine is made of its states: defineSaga's second form. */
export function sagaOfStates<
  const Start extends Contract,
  const Handles extends readonly Contract[],
  Context extends object = BodyOf<Start> & object
>(
  name: string,
  options: SagaOptions<Start, Handles, Context>,
  build: (tools: Tools<Context>) => States<Context, Handles[number]['name']>
): SagaDefinition {
  const { context = (start: BodyOf<Start>) => ({ ...(start as Context) }), ...rest } = options
  const machine = buildMachine(name, context, build)
  return checkedSaga({ name, machine, ...rest })
}
