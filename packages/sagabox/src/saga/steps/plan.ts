import { composed, type Composed } from '../../messaging/message/composed.ts'
import type { Contract } from '../../messaging/message/message.ts'
import type { All, Duration, Patience, Says, Step } from './step.ts'

/** A message to compose from a context of any kind. */
export type Saying = Composed<object, Contract>

/** A step as its states are made of it. */
export interface PlannedStep {
  readonly name: string
  readonly do: Saying
  readonly done: Contract
  readonly refused: Contract | undefined
  readonly undo: Undo | undefined
  readonly when: ((context: never) => boolean) | undefined
  readonly set: ((context: never, done: never) => object) | undefined
}

export interface Undo {
  readonly saying: Saying
  readonly undone: Contract
  readonly again: Duration
}

/** Steps that are asked for at once; most often one. */
export interface Stage extends Patience {
  /** Of its state. */
  readonly name: string
  readonly steps: readonly PlannedStep[]
}

const UNDO_AGAIN = '30s'

/** The stages of a saga, in their order. */
export function stagesOf(written: readonly (Step<never> | All<never>)[]): Stage[] {
  return written.map((one) => {
    const steps = 'all' in one ? one.all : [one]
    const { within, retry } = one
    return { name: nameOf(steps), steps: steps.map(planned), within, retry }
  })
}

/** What a step or a saga says, as something to compose. */
export function sayingOf(says: Says<never>): Saying {
  return 'compose' in says ? (says as Saying) : composed<object, Contract>(says)
}

function planned(step: Step<never>): PlannedStep {
  const { name, done, refused, undo, undone, undoAgain = UNDO_AGAIN, when, set } = step
  return {
    name,
    do: sayingOf(step.do),
    done,
    refused,
    undo: undo && undone && { saying: sayingOf(undo), undone, again: undoAgain },
    when,
    set
  }
}

/** `flight`, and of several `flightAndHotel`. */
function nameOf(steps: readonly Step<never>[]): string {
  return steps
    .map(({ name }, index) => (index === 0 ? name : name.charAt(0).toUpperCase() + name.slice(1)))
    .join('And')
}
