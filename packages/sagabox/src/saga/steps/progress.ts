import type { PlannedStep, Stage } from './plan.ts'

/** How far an instance is: the field `steps` of its context. */
export interface Progress {
  /** Steps whose answers it waits for. */
  readonly waiting: readonly string[]
  /** Steps that are or may be in effect, as far as they can be undone. */
  readonly standing: readonly string[]
  /** How often the answers that it waits for were asked for again. */
  readonly tries: number
  /** It has told that it failed. */
  readonly told: boolean
}

/** A context, of which the saga's own fields are not looked at here. */
export interface Known {
  readonly reason: string | null
  readonly steps: Progress
}

type Change = Pick<Known, 'steps'> & Partial<Known>

export const AT_FIRST: Progress = { waiting: [], standing: [], tries: 0, told: false }

/** Asks for the steps of a stage that its context does not leave out. */
export function entered({ steps }: Stage, context: Known): Change {
  const asked = steps.filter(({ when }) => when?.(context as never) ?? true)
  const standing = asked.filter(({ undo }) => undo).map(({ name }) => name)
  return changed(context, {
    waiting: asked.map(({ name }) => name),
    standing: union(context.steps.standing, standing),
    tries: 0
  })
}

/** A step is done, and others of its stage are not. */
export function answered({ name }: PlannedStep, context: Known): Change {
  return changed(context, { waiting: without(context.steps.waiting, name) })
}

/** Nobody has answered, and is asked again. */
export function triedAgain(context: Known): Change {
  return changed(context, { tries: context.steps.tries + 1 })
}

/** @param refused the step that leaves nothing, if one said so */
export function givenUp(refused: PlannedStep | undefined, reason: string, context: Known): Change {
  const { standing } = context.steps
  return {
    reason,
    ...changed(context, {
      waiting: [],
      standing: refused ? without(standing, refused.name) : standing,
      tries: 0
    })
  }
}

/** A step turns out to be in effect. */
export function stood({ name }: PlannedStep, context: Known): Change {
  return changed(context, { standing: union(context.steps.standing, [name]) })
}

export function undone({ name }: PlannedStep, context: Known): Change {
  return changed(context, { standing: without(context.steps.standing, name) })
}

export function told(context: Known): Change {
  return changed(context, { told: true })
}

export function waitsFor(name: string, { steps }: Known): boolean {
  return steps.waiting.includes(name)
}

export function waitsOnlyFor(name: string, { steps }: Known): boolean {
  return steps.waiting.length === 1 && steps.waiting[0] === name
}

export function stands(name: string, { steps }: Known): boolean {
  return steps.standing.includes(name)
}

function changed({ steps }: Known, change: Partial<Progress>): Change {
  return { steps: { ...steps, ...change } }
}

function without(names: readonly string[], name: string): string[] {
  return names.filter((other) => other !== name)
}

function union(names: readonly string[], more: readonly string[]): string[] {
  return [...new Set([...names, ...more])].toSorted()
}
