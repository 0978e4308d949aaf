import type { Contract } from '../../messaging/message/message.ts'
import type { Action, Tools, Transition } from '../build-machine.ts'
import type { Saying, PlannedStep, Stage } from './plan.ts'
import { givenUp, stands, type Known } from './progress.ts'
import type { Duration } from './step.ts'

export type Event = Readonly<Record<string, unknown>>

/** An event that is none of the steps' answers, and what it does while steps are being done. */
export interface Extra {
  readonly event: Contract
  readonly set: ((context: never, event: never) => object) | undefined
  readonly send: Saying | undefined
  readonly giveUp: string | undefined
}

/** All that a saga's states are made of. */
export interface Parts {
  /** The saga's name, which is its machine's id. */
  readonly name: string
  readonly stages: readonly Stage[]
  readonly within: Duration | undefined
  /** Type of the event that cancels. */
  readonly cancel: string | undefined
  readonly cancelCompleted: boolean
  readonly extras: readonly Extra[]
  readonly completed: Saying | undefined
  readonly failed: Saying | undefined
}

export type Toolbox = Tools<Known>
export type Path = Transition<Known>

/** A state by its path, from wherever it is aimed at. */
export function absolute({ name }: Parts, state: string): string {
  return `#${name.replaceAll('.', '\\.')}.${state}`
}

export function stepsOf({ stages }: Parts): PlannedStep[] {
  return stages.flatMap(({ steps }) => steps)
}

/** Those that can be undone, in the order in which they are: backwards. */
export function undoable(steps: readonly PlannedStep[]): PlannedStep[] {
  return steps.filter(({ undo }) => undo).toReversed()
}

/** Sends what a step or a saga says, when it is to. */
export function say(
  { send }: Toolbox,
  { contract, compose }: Saying,
  isToBeSaid: (context: Known) => boolean = () => true
): Action {
  return send(contract, (context) =>
    isToBeSaid(context) ? (compose(context) as never) : undefined
  )
}

/** Undoes one step, in words that its `undo` may take the reason from. */
export function sayUndo({ send }: Toolbox, { undo }: PlannedStep): Action {
  const { contract, compose } = undo!.saying
  return send(
    contract,
    (context) => compose({ ...context, reason: context.reason ?? 'left out' }) as never
  )
}

/** Notes of an answer what its step wants noted. */
export function note({ set }: Toolbox, { set: noted }: Pick<PlannedStep, 'set'>): Action[] {
  return noted ? [set((context, event) => noted(context as never, event as never))] : []
}

export interface GivingUp {
  /** Where the saga is; anywhere when not given. */
  readonly stage?: Stage
  /** The step that said that nothing of it is there. */
  readonly refused?: PlannedStep
  /** Taken only then. */
  readonly guard?: (context: Known) => boolean
  readonly actions?: readonly Action[]
  readonly reason: (event: Event) => string
}

/** Leads to the last step that may be in effect, to undo it; and to the end when none is. */
export function giveUp(parts: Parts, { set }: Toolbox, way: GivingUp): Path[] {
  const { stage, refused, guard = () => true, actions = [], reason } = way
  const { stages } = parts
  const at = stage ? stages.indexOf(stage) : 0
  const entered = stage ? stages.slice(0, at + 1) : stages
  const common = {
    actions: [...actions, set((context, event) => givenUp(refused, reason(event), context))]
  }
  const paths: Path[] = []
  for (const step of undoable(entered.flatMap(({ steps }) => steps))) {
    if (step === refused) continue
    const target = absolute(parts, `undoing.${step.name}`)
    const isSure = !step.when && stages.slice(0, at + 1).some(({ steps }) => steps.includes(step))
    if (isSure) return [...paths, path({ ...common, target }, way.guard)]
    paths.push({
      ...common,
      target,
      guard: ({ context }) => guard(context) && stands(step.name, context)
    })
  }
  return [...paths, path({ ...common, target: absolute(parts, 'failed') }, way.guard)]
}

function path(transition: Path, guard: GivingUp['guard']): Path {
  return guard ? { ...transition, guard: ({ context }) => guard(context) } : transition
}

/** The reason that an event has, or else another. */
export function reasonOr(other: string) {
  return ({ reason }: Event): string => (typeof reason === 'string' ? reason : other)
}
