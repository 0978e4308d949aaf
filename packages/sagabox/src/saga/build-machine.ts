import { assign, setup, type AnyStateMachine } from 'xstate'
import type { BodyOf, Contract } from '../messaging/message/message.ts'
import { defer, END, ignore, sagaActions, send, type SendOptions } from './define.ts'
import { delayNamed, withPaces } from './every.ts'

/** What a state or a transition does; made by the tools below. */
export type Action = ReturnType<typeof send> | ReturnType<typeof assign> | object

type Several<T> = T | readonly T[]

/** What an event, a timer or a guard does in a state. */
export interface Transition<Context> {
  /** A state beside this one, or `#saga.path.of.state`; none: the state stays. */
  readonly target?: string
  /** What is done on the way. */
  readonly actions?: Several<Action>
  /** Enters the target anew when the instance is in it: its `entry` is done and its timers start. */
  readonly reenter?: boolean
  /** Whether it is taken. */
  readonly guard?: (given: { context: Context; event: Record<string, unknown> }) => boolean
}

/** A target alone, one transition, or several of which the first whose guard lets it is taken. */
export type Transitions<Context> = string | Several<Transition<Context>>

/** A state of a saga: what XState takes, as far as a saga can have it. */
export interface State<Context, Event extends string> {
  /** `end`: an instance waits for nothing here. Late events still reach it. */
  readonly tags?: typeof END
  /** What is done when the instance comes here. */
  readonly entry?: Several<Action>
  /** What is done when it leaves. */
  readonly exit?: Several<Action>
  /** By the name of the event; `*` for those that are not named. */
  readonly on?: { readonly [name in Event | '*']?: Transitions<Context> }
  /** By how long the instance has been here: `30s`, `5m`, `1d`, or milliseconds. */
  readonly after?: Readonly<Record<string, Transitions<Context>>>
  /** Taken at once, without an event, whenever a guard lets it. */
  readonly always?: Several<Transition<Context>>
  /**
   * What is done again and again as long as the instance is here: `every: { '1d': send(…) }`. The
   * state and its other timers stay as they are. At least `1s`; after a standstill it is done once,
   * and then at the times at which it would have been.
   */
  readonly every?: Readonly<Record<string, Several<Action>>>
  /** Of the states inside this one: where it begins. */
  readonly initial?: string
  /** States inside this one. */
  readonly states?: Readonly<Record<string, State<Context, Event>>>
}

/** All states of a saga. */
export interface States<Context, Event extends string> extends Pick<
  State<Context, Event>,
  'on' | 'after' | 'every'
> {
  readonly initial: string
  readonly states: Readonly<Record<string, State<Context, Event>>>
}

/** What a saga's states are written with. */
export interface Tools<Context> {
  /** Sends a message, composed from what the instance knows; undefined sends nothing. */
  send<C extends Contract>(
    contract: C,
    body: (context: Context) => BodyOf<C> | undefined,
    options?: SendOptions
  ): Action
  /** Notes something on the instance. */
  set(change: (context: Context, event: Record<string, unknown>) => Partial<Context>): Action
  /** See the functions of these names. */
  ignore: typeof ignore
  defer: typeof defer
}

/**
 * Makes the machine of a saga from its states.
 * @throws Error when an `after` or an `every` is no duration
 */
export function buildMachine<Context, Event extends string>(
  name: string,
  context: (input: never) => Context,
  build: (tools: Tools<Context>) => States<Context, Event>
): AnyStateMachine {
  const written = build({
    send: (contract, body, options) => send(contract, body, options),
    set: (change) =>
      assign(({ context: before, event }) =>
        change(before as Context, event as Record<string, unknown>)
      ),
    ignore,
    defer
  })
  const config = withPaces(written, name)
  const delays = Object.fromEntries(
    delaysOf(config as State<Context, Event>).map((delay) => [delay, delayNamed(delay)])
  )
  return setup({ actions: sagaActions, delays }).createMachine({
    id: name,
    context: ({ input }: { input: never }) => context(input),
    ...config
  } as never) as unknown as AnyStateMachine
}

/** Every `after` that is a text such as `30s`; plain milliseconds XState reads by itself. */
function delaysOf<Context, Event extends string>(state: State<Context, Event>): string[] {
  const own = Object.keys(state.after ?? {}).filter((delay) => !/^\d+$/.test(delay))
  return [...own, ...Object.values(state.states ?? {}).flatMap(delaysOf)]
}
