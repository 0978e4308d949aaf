import type { BodyOf, Contract } from '../../messaging/message/message.ts'
import type { States, Tools } from '../build-machine.ts'
import { checkedSaga, InvalidSaga, type Effect, type SagaDefinition } from '../define.ts'
import { sagaOfStates, type SagaOptions } from '../saga.ts'
import { checkSteps } from './check-steps.ts'
import { doing } from './doing.ts'
import { completed, failed } from './ends.ts'
import { stepsOf, type Extra, type Parts, type Toolbox } from './parts.ts'
import { sayingOf, stagesOf } from './plan.ts'
import { AT_FIRST, entered, type Known } from './progress.ts'
import {
  tools,
  type All,
  type Duration,
  type GivenUp,
  type Says,
  type Step,
  type StepTools
} from './step.ts'
import { undoing } from './undoing.ts'

/** What an event does that is no step's answer, while steps are being done. */
export interface ExtraTransition<Context, Body> {
  /** Notes something of it on the instance; while steps are undone, too. */
  set?(context: Context, event: Body): Partial<Context>
  readonly send?: Says<Context>
  /** The reason for which everything is undone. */
  readonly giveUp?: string
}

type Extras<Context, Handles extends readonly Contract[]> = Handles extends readonly []
  ? { readonly [event: string]: never }
  : {
      readonly [C in Handles[number] as C['name']]: ExtraTransition<Context, BodyOf<C>>
    }

/** A saga in steps. */
export interface StepsOptions<
  Start extends Contract,
  Handles extends readonly Contract[],
  Context extends object
> extends Omit<
  SagaDefinition,
  'name' | 'machine' | 'startedBy' | 'handles' | 'asks' | 'cancelBy' | 'effects' | 'pointOfNoReturn'
> {
  readonly startedBy: Start
  /**
   * What an instance knows at first; the body of what started it when not given. `reason` and
   * `steps` are the saga's own.
   */
  context?(start: BodyOf<Start>): Context
  /** The steps, in their order; what is to be undone is undone backwards. */
  steps(
    tools: StepTools<NoInfer<Context>>
  ): readonly (Step<NoInfer<Context>> | All<NoInfer<Context>>)[]
  /** How long all steps may take together: then everything is undone, wherever it is. */
  readonly within?: Duration
  /** The event that cancels, until the saga is completed: a contract, or asked by SagaHost.ask. */
  readonly cancelBy?: string | Contract
  /** Whether it cancels what is completed, too. */
  readonly cancelCompleted?: boolean
  /** Sent when all steps are done. */
  readonly completed?: Says<NoInfer<Context>>
  /** Sent once when all is undone. */
  readonly failed?: Says<NoInfer<Context> & GivenUp>
  /** Events that are no step's answers. */
  readonly handles?: Handles
  /** What each of them does. */
  readonly on?: Extras<NoInfer<Context>, Handles>
}

/**
 * Declares a saga by its steps. Its states are `doing.<step>`, `undoing.<step>`, `completed` and
 * `failed`.
 * @param name names it in tables and URLs
 * @returns the definition, for a service's `sagas`
 * @throws InvalidSaga when the steps cannot be those of a saga: see the message
 */
export function defineSaga<
  const Start extends Contract,
  const Handles extends readonly Contract[] = [],
  Context extends object = BodyOf<Start> & object
>(name: string, options: StepsOptions<Start, Handles, Context>): SagaDefinition
/**
 * Declares a saga by its states.
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
  options?: SagaOptions<Contract, readonly Contract[], object> | AnyOptions,
  build?: (tools: Tools<object>) => States<object, string>
): SagaDefinition {
  if (typeof first !== 'string') return checkedSaga(first)
  if (build) return sagaOfStates(first, options as SagaOptions<Contract, Contract[], object>, build)
  return inSteps(first, options as AnyOptions)
}

type AnyOptions = StepsOptions<Contract, readonly Contract[], object>

function inSteps(name: string, options: AnyOptions): SagaDefinition {
  if (typeof options?.steps !== 'function')
    throw new InvalidSaga(name, 'it has neither states nor steps: expected steps({ step, all })')
  const { startedBy, context, steps, within, cancelBy, cancelCompleted = false, ...more } = options
  const {
    completed: whenCompleted,
    failed: whenFailed,
    handles: extra = [],
    on = {},
    ...rest
  } = more
  const written = steps(tools as StepTools<object>) as readonly (Step<never> | All<never>)[]
  checkSteps(name, written, options)
  const parts: Parts = {
    name,
    stages: stagesOf(written),
    within,
    cancel:
      typeof cancelBy === 'object' || typeof cancelBy === 'function' ? cancelBy.name : cancelBy,
    cancelCompleted,
    extras: extra.map((event) => extraOf(event, (on as Record<string, Written>)[event.name]!)),
    completed: whenCompleted && sayingOf(whenCompleted),
    failed: whenFailed && sayingOf(whenFailed)
  }
  const answers = stepsOf(parts).flatMap(({ done, refused, undo }) => [done, refused, undo?.undone])
  const cancels = cancelBy === undefined || typeof cancelBy === 'string' ? [] : [cancelBy]
  return sagaOfStates(
    name,
    {
      ...rest,
      startedBy,
      handles: [...answers.filter((answer) => answer !== undefined), ...extra, ...cancels],
      ...(typeof cancelBy === 'string' && { asks: [cancelBy] }),
      ...(cancelBy !== undefined && {
        cancelBy: typeof cancelBy === 'string' ? cancelBy : cancelBy.name
      }),
      effects: effectsOf(parts),
      pointOfNoReturn: 'completed',
      context: (start: object) => begun(parts, context?.(start as never) ?? { ...start })
    },
    (toolbox) => statesOf(parts, toolbox as unknown as Toolbox)
  )
}

type Written = ExtraTransition<never, never>

function extraOf(event: Contract, { set, send, giveUp }: Written): Extra {
  return { event, set: set, send: send && sayingOf(send), giveUp }
}

function effectsOf(parts: Parts): Effect[] {
  return stepsOf(parts).flatMap(({ done, refused, undo }) =>
    undo
      ? [
          {
            doneBy: done,
            undoneBy: undo.saying.contract,
            clearedBy: [undo.undone, ...(refused ? [refused] : [])]
          }
        ]
      : []
  )
}

function begun({ name, stages }: Parts, own: object): object & Known {
  for (const field of ['reason', 'steps'])
    if (field in own)
      throw new InvalidSaga(
        name,
        `its context has a field ${field}, which is the saga's own: name it otherwise`
      )
  const context = { ...own, reason: null, steps: AT_FIRST }
  return { ...context, ...entered(stages[0]!, context) }
}

function statesOf(parts: Parts, toolbox: Toolbox): States<object, string> {
  const back = undoing(parts, toolbox)
  const states: States<Known, string> = {
    initial: 'doing',
    states: {
      doing: doing(parts, toolbox),
      completed: completed(parts, toolbox),
      ...(back && { undoing: back }),
      failed: failed(parts, toolbox)
    }
  }
  return states as unknown as States<object, string>
}
