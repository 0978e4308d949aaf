import type { Composed } from '../../messaging/message/composed.ts'
import type { BodyOf, Contract } from '../../messaging/message/message.ts'

/** `'31s'`, `'500ms'`, `'5m'`, `'2h'`, `'1d'`; a number is milliseconds. */
export type Duration = string | number

/**
 * A message: a contract, when the context has all the fields of its body, or else
 * `Contract.with(…)`.
 */
export type Says<Context> = (Contract & ((body: Context) => unknown)) | Composed<Context, Contract>

/** What the context has beside its own, once the saga has given up. */
export interface GivenUp {
  /** Why: of the answer that refused, or in words of the saga's. */
  readonly reason: string
}

interface Doing<Context, Done extends Contract> {
  /** The command that does it. Its receiver must bear it twice. */
  readonly do: Says<Context>
  /** The event that says that it is done. */
  readonly done: Done
  /** The event that says that it is not done, and will not be; its `reason` goes into the context. */
  readonly refused?: Contract
  /** Leaves the step out when false. Looked at once, when it is the step's turn. */
  when?(context: Context): boolean
  /** Notes something of `done` on the instance, for the messages that follow. */
  set?(context: Context, done: BodyOf<Done>): Partial<Context>
}

/** How long an answer may take. */
export interface Patience {
  /** How long the answer may take, from when it was asked for: then the saga gives up. */
  readonly within?: Duration
  /**
   * How often `do` is sent again when nobody has answered within that time, before the saga gives
   * up; each pause is twice as long as the one before. 0 when not given.
   */
  readonly retry?: number
}

interface Undoing<Context> {
  /** The command that undoes it. Its receiver must bear it twice, and when nothing was done. */
  readonly undo: Says<Context & GivenUp>
  /** The event that says that nothing of it is there any more. */
  readonly undone: Contract
  /** The pause after which `undo` is sent again; each is twice as long. 30 s when not given. */
  readonly undoAgain?: Duration
}

type Lasting = { readonly [option in keyof Undoing<never>]?: never }

/** What a step does, and how it is undone; a step without `undo` leaves nothing behind. */
export type StepOptions<Context, Done extends Contract> = Doing<Context, Done> &
  Patience &
  (Undoing<Context> | Lasting)

/** One step, made by the tool of this name. */
export interface Step<in Context> extends Patience {
  readonly name: string
  readonly do: Says<Context>
  readonly done: Contract
  readonly refused?: Contract
  readonly when?: (context: Context) => boolean
  readonly set?: (context: Context, done: never) => object
  readonly undo?: Says<Context & GivenUp>
  readonly undone?: Contract
  readonly undoAgain?: Duration
}

/** Steps side by side, made by the tool `all`. */
export interface All<in Context> extends Patience {
  readonly all: readonly Step<Context>[]
}

/** What the steps of a saga are written with. */
export interface StepTools<Context> {
  /** @param name names the states in which it is done and undone */
  step<Done extends Contract>(name: string, options: StepOptions<Context, Done>): Step<Context>
  /** Steps that are asked for at once: the saga goes on when all are done. */
  all(steps: readonly Step<Context>[], patience?: Patience): All<Context>
}

export const tools: StepTools<never> = {
  step: (name, options) => ({ ...options, name }),
  all: (steps, patience) => ({ ...patience, all: steps })
}
